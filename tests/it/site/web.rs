//! The web server of a stratum 0, which can be down, and can keep who asks for the manifest waiting.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use tower_http::services::ServeDir;

use crate::harness::until;

/// Serves a directory's repositories below `/cvmfs/`.
pub(crate) struct Web {
    port: u16,
    repositories: PathBuf,
    runtime: Option<tokio::runtime::Runtime>,
    hold: Arc<Hold>,
}

/// Keeps requests for a manifest waiting, while there is a process called so.
#[derive(Default)]
struct Hold {
    armed: AtomicBool,
    waiting: AtomicUsize,
}

impl Web {
    pub(crate) fn start(repositories: &Path) -> Self {
        let mut web = Self { port: 0, repositories: repositories.to_owned(), runtime: None, hold: Arc::default() };
        web.up();
        web
    }

    /// The URL of a repository.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/cvmfs/{name}", self.port)
    }

    pub(crate) fn down(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(crate) fn up(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // What was there before may still be on its way out.
        let bind = || runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", self.port))).ok();
        let listener = until("the port is free", bind);
        self.port = listener.local_addr().unwrap().port();
        let served = Router::new().nest_service("/cvmfs", ServeDir::new(&self.repositories));
        let served = served.layer(from_fn_with_state(Arc::clone(&self.hold), held));
        runtime.spawn(async move { axum::serve(listener, served).await.unwrap() });
        self.runtime = Some(runtime);
    }

    /// Up, whether it is down or not.
    pub(crate) fn up_again(&mut self) {
        self.hold_receivers(false);
        if self.runtime.is_none() {
            self.up();
        }
    }

    /// From now on receivers that ask for a manifest, as they do first in a commit, wait for the answer.
    pub(crate) fn hold_receivers(&self, hold: bool) {
        self.hold.armed.store(hold, Ordering::SeqCst);
    }

    /// How many wait.
    pub(crate) fn held(&self) -> usize {
        self.hold.waiting.load(Ordering::SeqCst)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.hold_receivers(false);
        self.down();
    }
}

async fn held(State(hold): State<Arc<Hold>>, request: Request, next: Next) -> Response {
    let is_manifest = request.uri().path().ends_with("/.cvmfspublished");
    if is_manifest && hold.armed.load(Ordering::SeqCst) && receiver_runs() {
        hold.waiting.fetch_add(1, Ordering::SeqCst);
        while hold.armed.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        hold.waiting.fetch_sub(1, Ordering::SeqCst);
    }
    next.run(request).await
}

fn receiver_runs() -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
    processes.map(name).any(|name| name == "cvmfs_receiver\n")
}
