//! A web server for repositories as they lie on disk.

use std::path::Path;

use axum::Router;
use tower_http::services::ServeDir;

/// Serves a directory's repositories below `/cvmfs/`, as a stratum 0's web server does; ends when dropped.
pub(crate) struct Served {
    url: String,
    _runtime: tokio::runtime::Runtime,
}

impl Served {
    pub(crate) fn new(repositories: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().nest_service("/cvmfs", ServeDir::new(repositories));
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, _runtime: runtime }
    }

    /// Where it is, without a slash at the end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}
