//! One claimed batch, from its payloads to its outcome.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::held::{Purpose, Stop};
use super::log::{AttemptLog, LogOwner};
use super::stage::{Count, Staged};
use super::{Worker, failure, fence, stage};
use crate::client::ClientError;
use crate::domain::batch::Intent;
use crate::domain::ids::BatchId;
use crate::domain::outcome::{JobOutcome, Outcome};
use crate::domain::protocol::{ClaimReply, IntentRequest, OutcomeRequest};
use crate::domain::tree::EntryPath;
use crate::publisher::{PublisherError, Revision, Transaction};

/// Changed paths that are named in the log.
const LISTED_PATHS: usize = 50;
/// Pause before an outcome is sent again.
const PAUSE_BEFORE_REPORT: Duration = Duration::from_secs(1);
/// Jobs that are named in the tag of a publish.
const NAMED_JOBS: usize = 10;

/// Runs a batch and reports how it ended, unless its claim is lost.
pub(super) async fn run(worker: Arc<Worker>, batch: BatchId, claim: ClaimReply) {
    let purpose = Purpose {
        repository: claim.repository.clone(),
        lease_path: claim.lease_path.clone(),
        jobs: claim.jobs.iter().map(|job| job.spec.id).collect(),
    };
    let mut stop = worker.held.insert(batch, claim.token.clone(), purpose);
    let logs: Vec<_> = claim
        .jobs
        .iter()
        .map(|job| {
            let owner = LogOwner { batch, job: job.spec.id, token: claim.token.clone() };
            AttemptLog::open(worker.client.clone(), owner)
        })
        .collect();
    tracing::info!(batch.id = %batch, repository = %claim.repository, lease.path = %claim.lease_path, jobs = claim.jobs.len(), "batch claimed");

    let ending = match tempfile::Builder::new()
        .prefix("batch-")
        .permissions(scratch_mode())
        .tempdir_in(&worker.settings.temp_dir)
    {
        Ok(scratch) => attempt(&worker, batch, &claim, &logs, &mut stop, scratch.path()).await,
        Err(source) => Ending::All(failure::failed(
            "node_failed",
            format!("cannot make a directory in {}: {source}", worker.settings.temp_dir.display()),
            true,
        )),
    };
    let lost = *stop.borrow() == Stop::Lost;
    let outcomes = ending.outcomes(claim.jobs.len());
    join_all(logs.into_iter().zip(&outcomes).map(|(log, outcome)| async {
        log.line(summary(outcome)).await;
        log.close().await;
    }))
    .await;
    // A lost claim is settled by recovery, except where the publish was made: that is evidence, and welcome late.
    if !lost || outcomes.iter().any(|outcome| matches!(outcome, Outcome::Succeeded { .. })) {
        let reporting = report(&worker, batch, &claim, outcomes);
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

/// How a batch ended.
pub(super) enum Ending {
    /// For all of its jobs alike.
    All(Outcome),
    /// By one of them, which alone is to blame; the others are given back.
    Spoilt {
        /// Its place in the batch.
        by: usize,
        /// What became of it.
        outcome: Outcome,
    },
    /// Published, with what is told of each job.
    Published(Revision, Vec<Outputs>),
}

type Outputs = BTreeMap<String, String>;

impl Ending {
    /// What comes of an error that one job met.
    pub(super) fn of_one(by: usize, outcome: Outcome) -> Self {
        match outcome {
            Outcome::Failed { .. } => Self::Spoilt { by, outcome },
            // Being stopped, or a repository that is busy, is nobody's fault.
            outcome => Self::All(outcome),
        }
    }

    /// The outcome of each of so many jobs.
    fn outcomes(self, jobs: usize) -> Vec<Outcome> {
        match self {
            // What fails for all is the fault of nobody in particular.
            Self::All(Outcome::Failed { failure, transient }) if jobs > 1 => {
                vec![Outcome::BatchFailed { failure, transient }; jobs]
            }
            Self::All(outcome) => vec![outcome; jobs],
            Self::Spoilt { by, outcome } => {
                let mut outcomes = vec![Outcome::Released; jobs];
                outcomes[by] = outcome;
                outcomes
            }
            Self::Published(Revision { number, root_hash }, outputs) => outputs
                .into_iter()
                .map(|outputs| Outcome::Succeeded { revision: number, root_hash: root_hash.clone(), outputs })
                .collect(),
        }
    }
}

/// Everything up to the end.
async fn attempt(
    worker: &Arc<Worker>,
    batch: BatchId,
    claim: &ClaimReply,
    logs: &[AttemptLog],
    stop: &mut watch::Receiver<Stop>,
    scratch: &Path,
) -> Ending {
    let began = Instant::now();
    let staged = stage::stage(worker, batch, claim, logs, stop, scratch).await;
    let Staged { transaction, counts } = match staged {
        Ok(staged) => staged,
        Err(ending) => return ending,
    };
    crate::crash::point("worker.staged");
    let leases: Result<Vec<_>, _> = claim.jobs.iter().map(|job| stage::lease(job.spec.publish())).collect();
    let leases = match leases {
        Ok(leases) => leases,
        Err(outcome) => return Ending::All(outcome),
    };
    let described =
        stage::blocking(move || Changed::of(&*transaction, &leases).map(|changed| (transaction, changed))).await;
    let (transaction, changed) = match described {
        Ok(described) => described,
        Err(outcome) => return Ending::All(outcome),
    };
    join_all(logs.iter().zip(&changed.of_jobs).map(|(log, changed)| describe(log, changed))).await;
    let intent = Intent {
        base_revision: transaction.base().number,
        base_root_hash: transaction.base().root_hash.clone(),
        changed_paths_digest: changed.digest,
    };
    if let Err(outcome) = permission(worker, batch, claim, intent, stop).await {
        abort(transaction).await;
        return Ending::All(outcome);
    }
    crate::crash::point("worker.permitted");

    let (publisher, repository, key) = (Arc::clone(&worker.publisher), claim.repository.clone(), claim.key.clone());
    let message = message(claim);
    let staged_in = began.elapsed();
    let publishing = worker.draining.publishing();
    worker.held.publishing(batch);
    let published = tokio::task::spawn_blocking(move || {
        let publishing = Instant::now();
        let settled = match transaction.publish(&message) {
            Ok(revision) => Ok(revision),
            Err(error) => fence::settle(&publisher, &repository, &key, &error),
        };
        (settled, publishing.elapsed())
    })
    .await;
    drop(publishing);
    crate::crash::point("worker.published");
    match published {
        Ok((Ok(revision), published_in)) => {
            let together = Outputs::from([
                ("batch_jobs".into(), claim.jobs.len().to_string()),
                ("staging_ms".into(), staged_in.as_millis().to_string()),
                ("publish_ms".into(), published_in.as_millis().to_string()),
            ]);
            let of_job = |(changed, staged): (&Listed, &Count)| {
                let mut outputs = together.clone();
                outputs.insert("paths_changed".into(), changed.count.to_string());
                outputs.insert("staged_files".into(), staged.files.to_string());
                outputs.insert("staged_bytes".into(), staged.bytes.to_string());
                outputs
            };
            Ending::Published(revision, changed.of_jobs.iter().zip(&counts).map(of_job).collect())
        }
        Ok((Err(outcome), _)) => Ending::All(outcome),
        Err(panic) => Ending::All(Outcome::Unknown { reason: format!("the publisher failed: {panic}") }),
    }
}

/// What the tag of the publish says: the names of its jobs, as far as there is room.
fn message(claim: &ClaimReply) -> String {
    let names = claim.jobs.iter().take(NAMED_JOBS).map(|job| job.spec.name.as_str()).collect::<Vec<_>>().join(", ");
    match claim.jobs.len().saturating_sub(NAMED_JOBS) {
        0 => names,
        more => format!("{names} and {more} more"),
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
        // The claim may be another's by now. That is the fault of neither the job nor its payload.
        Ok(()) => Err(Outcome::Released),
        Err(ClientError::Refused { status: 409, .. }) => Err(Outcome::Released),
        Err(error) if error.is_transient() => Err(Outcome::Released),
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
async fn report(worker: &Worker, batch: BatchId, claim: &ClaimReply, outcomes: Vec<Outcome>) {
    let jobs = claim
        .jobs
        .iter()
        .zip(outcomes)
        .map(|(job, outcome)| JobOutcome { job_id: job.spec.id, attempt: job.attempt, outcome })
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

async fn describe(log: &AttemptLog, changed: &Listed) {
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
    /// What lies within each job's lease path.
    of_jobs: Vec<Listed>,
    digest: String,
}

/// Changed paths: how many, and the first of them.
#[derive(Clone, Default)]
struct Listed {
    count: usize,
    first: Vec<String>,
}

impl Changed {
    /// Blocks. `leases`: those of the batch's jobs.
    fn of(transaction: &dyn Transaction, leases: &[EntryPath]) -> Result<Self, PublisherError> {
        let (mut of_jobs, mut hasher) = (vec![Listed::default(); leases.len()], Sha256::new());
        transaction.changes(&mut |change| {
            let line = change.to_string();
            hasher.update(&line);
            hasher.update([0]);
            for (listed, lease) in of_jobs.iter_mut().zip(leases) {
                if !change.path().is_within(lease) {
                    continue;
                }
                listed.count += 1;
                if listed.first.len() < LISTED_PATHS {
                    listed.first.push(line.clone());
                }
            }
        })?;
        Ok(Self { of_jobs, digest: hex::encode(hasher.finalize()) })
    }
}

fn summary(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded { revision, root_hash, .. } => {
            format!("published as revision {revision}, root hash {root_hash}")
        }
        Outcome::Failed { failure, .. } => format!("failed: {}", failure.message),
        Outcome::BatchFailed { failure, .. } => {
            format!("the batch failed, by no fault of this job that is known: {}", failure.message)
        }
        Outcome::Busy { holder } => format!("the repository is busy: {holder}"),
        Outcome::Released => "given back; nothing was published".into(),
        Outcome::Unknown { reason } => format!("the outcome is not known yet: {reason}"),
    }
}
