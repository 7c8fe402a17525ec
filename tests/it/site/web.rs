//! The web server of a stratum 0, which can be down, and can keep who asks for the manifest waiting.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
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

/// Keeps requests for a manifest waiting, while there is a process of a name.
#[derive(Default)]
struct Hold {
    name: Mutex<Option<&'static str>>,
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
        self.hold(None);
        if self.runtime.is_none() {
            self.up();
        }
    }

    /// From now on, while there is a process of this name (its first 15 bytes), whoever asks for a manifest waits: a
    /// receiver does so first in a commit.
    pub(crate) fn hold(&self, name: Option<&'static str>) {
        *self.hold.name.lock().unwrap() = name;
    }

    /// How many wait.
    pub(crate) fn held(&self) -> usize {
        self.hold.waiting.load(Ordering::SeqCst)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.hold(None);
        self.down();
    }
}

async fn held(State(hold): State<Arc<Hold>>, request: Request, next: Next) -> Response {
    let is_manifest = request.uri().path().ends_with("/.cvmfspublished");
    let name = *hold.name.lock().unwrap();
    if is_manifest && name.is_some_and(runs) {
        hold.waiting.fetch_add(1, Ordering::SeqCst);
        while hold.name.lock().unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        hold.waiting.fetch_sub(1, Ordering::SeqCst);
    }
    next.run(request).await
}

fn runs(wanted: &str) -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
    processes.map(name).any(|name| name.trim() == wanted)
}
