//! A repository as an independent client shows it, while Conveyor is dead.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use tower_http::services::ServeDir;

use super::home::Home;
use crate::harness::{Mount, missing};

/// Proof that this machine can mount.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mounter(());

impl Mounter {
    /// Looks for what mounting needs, or reports that this part of the test is skipped.
    pub(super) fn find() -> Option<Self> {
        (!missing("fuse", Mount::impossible())).then_some(Self(()))
    }

    /// Mounts a repository out of its directory, without Conveyor, and reads one file through the mount.
    pub(super) async fn check(self, home: &Home, repository: &str, file: &str) -> Result<(), String> {
        let (address, server) = serve(&home.repositories()).await;
        let (name, file) = (repository.to_owned(), file.to_owned());
        let looked = tokio::task::spawn_blocking(move || {
            let mount = Mount::new(&format!("http://{address}"), &name);
            let content = std::fs::read(mount.path().join(&file)).map_err(|error| format!("{file}: {error}"))?;
            if content.is_empty() { Err(format!("{file} is empty")) } else { Ok(()) }
        })
        .await;
        server.abort();
        let result = looked.unwrap_or_else(|panic| Err(panic.to_string()));
        result.map_err(|error| format!("{repository} cannot be used by the independent client: {error}"))
    }
}

/// Serves the repositories as files.
async fn serve(repositories: &Path) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().nest_service("/cvmfs", ServeDir::new(repositories));
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, server)
}
