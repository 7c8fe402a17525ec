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

use crate::harness::{Port, until};

type When = Box<dyn Fn() -> bool + Send + Sync>;

/// Serves a directory's repositories below `/cvmfs/`.
pub(crate) struct Web {
    port: Port,
    repositories: PathBuf,
    runtime: Option<tokio::runtime::Runtime>,
    hold: Arc<Hold>,
}

/// Keeps the requests of CernVM-FS's programs for a manifest waiting, if something is so when they come.
#[derive(Default)]
struct Hold {
    when: Mutex<Option<When>>,
    waiting: AtomicUsize,
}

impl Web {
    pub(crate) fn start(repositories: &Path) -> Self {
        let mut web =
            Self { port: Port::reserve(), repositories: repositories.to_owned(), runtime: None, hold: Arc::default() };
        web.up();
        web
    }

    /// The URL of a repository.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}/cvmfs/{name}", self.port.address())
    }

    pub(crate) fn down(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(crate) fn up(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // What was there before may still be on its way out.
        let bind = || runtime.block_on(tokio::net::TcpListener::bind(self.port.address())).ok();
        let listener = until("the port is free", bind);
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

    /// From now on, while something is so, programs of CernVM-FS that ask for a manifest wait: a receiver does so first in a
    /// commit. `None` lets them go.
    pub(crate) fn hold(&self, when: Option<When>) {
        *self.hold.when.lock().unwrap() = when;
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
    let agent = request.headers().get("user-agent").and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let is_meant = is_manifest && agent.starts_with("cvmfs");
    if is_meant && hold.when.lock().unwrap().as_ref().is_some_and(|when| when()) {
        hold.waiting.fetch_add(1, Ordering::SeqCst);
        while hold.when.lock().unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        hold.waiting.fetch_sub(1, Ordering::SeqCst);
    }
    next.run(request).await
}
