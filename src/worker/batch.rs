//! One claimed batch, from its payloads to its outcome.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::held::Stop;
use super::log::{AttemptLog, LogOwner};
use super::{Worker, failure, fence, stage};
use crate::client::ClientError;
use crate::domain::batch::Intent;
use crate::domain::ids::BatchId;
use crate::domain::outcome::{JobOutcome, Outcome};
use crate::domain::protocol::{ClaimReply, IntentRequest, OutcomeRequest};
use crate::publisher::{PublisherError, Transaction};

/// Changed paths that are named in the log.
const LISTED_PATHS: usize = 50;
/// Pause before an outcome is sent again.
const PAUSE_BEFORE_REPORT: Duration = Duration::from_secs(1);

/// Runs a batch and reports how it ended, unless its claim is lost.
pub(super) async fn run(worker: Arc<Worker>, batch: BatchId, claim: ClaimReply) {
    let mut stop = worker.held.insert(batch, claim.token.clone());
    let logs: Vec<_> = claim
        .jobs
        .iter()
        .map(|job| {
            let owner = LogOwner { batch, job: job.spec.id, token: claim.token.clone() };
            AttemptLog::open(worker.client.clone(), owner)
        })
        .collect();
    tracing::info!(batch.id = %batch, repository = %claim.repository, lease.path = %claim.lease_path, jobs = claim.jobs.len(), "batch claimed");

    let outcome = match tempfile::Builder::new()
        .prefix("batch-")
        .permissions(scratch_mode())
        .tempdir_in(&worker.settings.temp_dir)
    {
        Ok(scratch) => attempt(&worker, batch, &claim, &logs, &mut stop, scratch.path()).await,
        Err(source) => failure::failed(
            "node_failed",
            format!("cannot make a directory in {}: {source}", worker.settings.temp_dir.display()),
            true,
        ),
    };
    let lost = *stop.borrow() == Stop::Lost;
    for log in logs {
        log.line(summary(&outcome)).await;
        log.close().await;
    }
    // A lost claim is settled by recovery, except where the publish was made: that is evidence, and welcome late.
    if !lost || matches!(outcome, Outcome::Succeeded { .. }) {
        let reporting = report(&worker, batch, &claim, &outcome);
        if !worker.draining.report(reporting).await {
            tracing::warn!(batch.id = %batch, "the worker ends without having reported; the server recovers the batch");
        }
    }
    crate::crash::point("worker.reported");
}

fn scratch_mode() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o711)
}

/// Everything up to the outcome, which speaks of all jobs of the batch.
async fn attempt(
    worker: &Arc<Worker>,
    batch: BatchId,
    claim: &ClaimReply,
    logs: &[AttemptLog],
    stop: &mut watch::Receiver<Stop>,
    scratch: &Path,
) -> Outcome {
    let began = Instant::now();
    let staged = stage::stage(worker, batch, claim, logs, stop, scratch).await;
    let transaction = match staged {
        Ok(transaction) => transaction,
        Err(outcome) => return outcome,
    };
    crate::crash::point("worker.staged");
    let described = stage::blocking(move || Changed::of(&*transaction).map(|changed| (transaction, changed))).await;
    let (transaction, changed) = match described {
        Ok(described) => described,
        Err(outcome) => return outcome,
    };
    let staged = transaction.progress();
    for log in logs {
        describe(log, &changed).await;
    }
    let intent = Intent {
        base_revision: transaction.base().number,
        base_root_hash: transaction.base().root_hash.clone(),
        changed_paths_digest: changed.digest,
    };
    if let Err(outcome) = permission(worker, batch, claim, intent, stop).await {
        abort(transaction).await;
        return outcome;
    }
    crate::crash::point("worker.permitted");

    let (publisher, repository, key) = (Arc::clone(&worker.publisher), claim.repository.clone(), claim.key.clone());
    let message = claim.jobs.iter().map(|job| job.spec.name.as_str()).collect::<Vec<_>>().join(", ");
    let staged_in = began.elapsed();
    let publishing = worker.draining.publishing();
    let published = tokio::task::spawn_blocking(move || {
        let publishing = Instant::now();
        let outcome = match transaction.publish(&message) {
            Ok(revision) => Outcome::Succeeded {
                revision: revision.number,
                root_hash: revision.root_hash,
                outputs: Default::default(),
            },
            Err(error) => fence::settle(&publisher, &repository, &key, &error),
        };
        (outcome, publishing.elapsed())
    })
    .await;
    drop(publishing);
    crate::crash::point("worker.published");
    match published {
        Ok((Outcome::Succeeded { revision, root_hash, mut outputs }, published_in)) => {
            outputs.insert("paths_changed".into(), changed.count.to_string());
            outputs.insert("staged_files".into(), staged.files().to_string());
            outputs.insert("staged_bytes".into(), staged.bytes().to_string());
            outputs.insert("staging_ms".into(), staged_in.as_millis().to_string());
            outputs.insert("publish_ms".into(), published_in.as_millis().to_string());
            Outcome::Succeeded { revision, root_hash, outputs }
        }
        Ok((outcome, _)) => outcome,
        Err(panic) => Outcome::Unknown { reason: format!("the publisher failed: {panic}") },
    }
}

/// Asks for the permission to publish; anything but a clear yes is a no.
async fn permission(
    worker: &Worker,
    batch: BatchId,
    claim: &ClaimReply,
    intent: Intent,
    stop: &watch::Receiver<Stop>,
) -> Result<(), Outcome> {
    if *stop.borrow() != Stop::No {
        return Err(Outcome::Released);
    }
    let request = IntentRequest { token: claim.token.clone(), intent };
    match worker.client.intent(batch, &request).await {
        Ok(()) if worker.held.may_publish() => Ok(()),
        Ok(()) => {
            Err(failure::failed("server_silent", "the server has been silent for too long to begin a publish", true))
        }
        Err(ClientError::Refused { status: 409, .. }) => Err(Outcome::Released),
        Err(error) => Err(failure::failed("server_unreachable", failure::chain(&error), true)),
    }
}

async fn abort(transaction: Box<dyn Transaction>) {
    match tokio::task::spawn_blocking(move || transaction.abort()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(error = &error as &dyn std::error::Error, "cannot abort a transaction"),
        Err(panic) => tracing::error!(error = %panic, "aborting a transaction failed"),
    }
}

/// Reports until the server has it.
async fn report(worker: &Worker, batch: BatchId, claim: &ClaimReply, outcome: &Outcome) {
    let jobs = claim
        .jobs
        .iter()
        .map(|job| JobOutcome { job_id: job.spec.id, attempt: job.attempt, outcome: outcome.clone() })
        .collect();
    let request = OutcomeRequest { token: claim.token.clone(), jobs };
    loop {
        match worker.client.outcome(batch, &request).await {
            Ok(()) => return,
            // A server that is full or broken today will want it tomorrow.
            Err(error) if error.is_transient() || error.status().is_some_and(|status| status >= 500) => {
                tracing::warn!(batch.id = %batch, error = &error as &dyn std::error::Error, "cannot report the outcome; trying again");
                tokio::time::sleep(PAUSE_BEFORE_REPORT).await;
            }
            Err(error) => {
                tracing::warn!(batch.id = %batch, error = &error as &dyn std::error::Error, "the server does not want the outcome; it settles the batch itself");
                return;
            }
        }
    }
}

async fn describe(log: &AttemptLog, changed: &Changed) {
    log.line(format!("{} paths change", changed.count)).await;
    for change in &changed.first {
        log.line(change.clone()).await;
    }
    if changed.count > LISTED_PATHS {
        log.line(format!("… and {} more", changed.count - LISTED_PATHS)).await;
    }
}

/// What is told of a change set, which can have millions of paths.
struct Changed {
    count: usize,
    first: Vec<String>,
    digest: String,
}

impl Changed {
    /// Blocks.
    fn of(transaction: &dyn Transaction) -> Result<Self, PublisherError> {
        let (mut count, mut first, mut hasher) = (0, Vec::new(), Sha256::new());
        transaction.changes(&mut |change| {
            let line = change.to_string();
            hasher.update(&line);
            hasher.update([0]);
            count += 1;
            if first.len() < LISTED_PATHS {
                first.push(line);
            }
        })?;
        Ok(Self { count, first, digest: hex::encode(hasher.finalize()) })
    }
}

fn summary(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded { revision, root_hash, .. } => {
            format!("published as revision {revision}, root hash {root_hash}")
        }
        Outcome::Failed { failure, .. } => format!("failed: {}", failure.message),
        Outcome::Busy { holder } => format!("the repository is busy: {holder}"),
        Outcome::Released => "given back; nothing was published".into(),
        Outcome::Unknown { reason } => format!("the outcome is not known yet: {reason}"),
    }
}
