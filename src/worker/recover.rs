//! Finds out what became of a batch whose worker was lost on this node.

use std::sync::Arc;

use super::Worker;
use crate::domain::outcome::Finding;
use crate::domain::protocol::{FindingRequest, RecoverRequest};
use crate::publisher::{Evidence, Publisher};

/// Fences, looks, reports. The server asks again with every heartbeat until it is told.
pub(super) async fn run(worker: Arc<Worker>, request: RecoverRequest) {
    // Our own task for it has not noticed yet that it is over; it holds the transaction.
    if worker.held.is_taken(request.batch_id) {
        return;
    }
    let (batch, repository) = (request.batch_id, request.repository.clone());
    crate::crash::point("worker.recovering");
    let finding = find(Arc::clone(&worker.publisher), request).await;
    tracing::info!(batch.id = %batch, finding = ?finding, "looked for the publish of a lost batch");
    crate::crash::point("worker.found");
    let signed = match finding {
        Finding::Published { .. } => super::signed::manifest(&worker, &repository).await,
        Finding::NotPublished | Finding::Unreadable { .. } => None,
    };
    let report = FindingRequest { node: worker.settings.node.clone(), finding, signed };
    if let Err(error) = worker.client.finding(batch, &report).await {
        tracing::warn!(batch.id = %batch, error = &error as &dyn std::error::Error, "cannot report what became of a lost batch; the server will ask again");
    }
}

/// Asks the publisher, on a thread that may block.
async fn find(publisher: Arc<dyn Publisher>, request: RecoverRequest) -> Finding {
    let looked = tokio::task::spawn_blocking(move || publisher.recover(&request.repository, &request.key)).await;
    match looked {
        Ok(Ok(Evidence::Published(revision))) => {
            Finding::Published { revision: revision.number, root_hash: revision.root_hash }
        }
        Ok(Ok(Evidence::NotPublished)) => Finding::NotPublished,
        Ok(Err(error)) => Finding::Unreadable { reason: super::failure::chain(&error) },
        Err(panic) => Finding::Unreadable { reason: format!("looking for it failed: {panic}") },
    }
}
