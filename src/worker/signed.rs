//! The manifest of a publish, for the server to announce.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use crate::domain::names::RepositoryName;
use crate::domain::signed::SignedManifest;

/// How long reading it may take: the outcome waits for it, and matters more.
const PATIENCE: Duration = Duration::from_secs(10);

/// The manifest of now. Without it nothing is announced, which is no fault of any job.
pub(super) async fn manifest(worker: &Worker, repository: &RepositoryName) -> Option<SignedManifest> {
    let (publisher, of) = (Arc::clone(&worker.publisher), repository.clone());
    let reading = tokio::task::spawn_blocking(move || publisher.signed(&of));
    let why = match tokio::time::timeout(PATIENCE, reading).await {
        Ok(Ok(Ok(signed))) => return Some(signed),
        Ok(Ok(Err(error))) => super::failure::chain(&error),
        Ok(Err(panic)) => format!("reading it failed: {panic}"),
        Err(_) => format!("it could not be read within {} s", PATIENCE.as_secs()),
    };
    tracing::warn!(%repository, "its manifest is not given to the server, which cannot announce the publish: {why}");
    None
}
