//! One claimed batch, from its payloads to its outcome.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::watch;

use super::changes::{Changed, Listed};
use super::held::{Purpose, Stop};
use super::log::{AttemptLog, LogOwner};
use super::stage::{Count, Staged};
use super::{Worker, changes, failure, fence, signed, stage};
use crate::client::ClientError;
use crate::domain::batch::Intent;
use crate::domain::ids::BatchId;
use crate::domain::job::event::Failure;
use crate::domain::job::spec::Publish;
use crate::domain::outcome::{JobOutcome, Outcome};
use crate::domain::protocol::{ClaimReply, IntentRequest, OutcomeRequest};
use crate::domain::signed::SignedManifest;
use crate::domain::tree::EntryPath;
use crate::publisher::{Mismatch, Published, Revision, Transaction};

/// Paths that are named where they were published otherwise than staged.
const LISTED_MISMATCHES: usize = 10;
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
    let signed = match ending {
        Ending::Published(..) => signed::manifest(&worker, &claim.repository).await,
        _ => None,
    };
    let outcomes = ending.outcomes(claim.jobs.len());
    join_all(logs.into_iter().zip(&outcomes).map(|(log, outcome)| async {
        log.line(summary(outcome)).await;
        log.close().await;
    }))
    .await;
    // A lost claim is settled by recovery, except where the publish was made: that is evidence, and welcome late.
    if !lost || outcomes.iter().any(|outcome| matches!(outcome, Outcome::Succeeded { .. })) {
        let reporting = report(&worker, batch, &claim, outcomes, signed);
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
    /// Published, with what is told of each job, or why it is not as the job wanted it.
    Published(Revision, Vec<Result<Outputs, Failure>>),
    /// There was nothing to publish beside this revision, with what is told of each job.
    Unchanged(Revision, Vec<Outputs>),
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
                .map(|of_job| match of_job {
                    Ok(outputs) => Outcome::Succeeded { revision: number, root_hash: root_hash.clone(), outputs },
                    Err(failure) => Outcome::Failed { failure, transient: false },
                })
                .collect(),
            Self::Unchanged(Revision { number, root_hash }, outputs) => outputs
                .into_iter()
                .map(|outputs| Outcome::Unchanged { revision: number, root_hash: root_hash.clone(), outputs })
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
    let (of_leases, folder) = (leases.clone(), scratch.to_owned());
    let described =
        stage::blocking(move || Changed::of(&*transaction, &leases, &folder).map(|changed| (transaction, changed)));
    let (transaction, changed) = match described.await {
        Ok(described) => described,
        Err(outcome) => return Ending::All(outcome),
    };
    changes::tell(worker, batch, claim, logs, &changed).await;
    let staged_in = began.elapsed();
    let outputs = |more: Outputs| -> Vec<Outputs> {
        let of_job = |(changed, staged): (&Listed, &Count)| {
            let mut outputs = more.clone();
            outputs.insert("batch_jobs".into(), claim.jobs.len().to_string());
            outputs.insert("staging_ms".into(), staged_in.as_millis().to_string());
            outputs.insert("paths_changed".into(), changed.count.to_string());
            outputs.insert("staged_files".into(), staged.files.to_string());
            outputs.insert("staged_bytes".into(), staged.bytes.to_string());
            outputs
        };
        changed.of_jobs.iter().zip(&counts).map(of_job).collect()
    };
    if let Some(why) = nothing_to_publish(claim, changed.is_empty) {
        let base = transaction.base().clone();
        abort(transaction).await;
        join_all(logs.iter().map(|log| log.line(why.said.into()))).await;
        return Ending::Unchanged(base, outputs(why.outputs));
    }
    let intent = Intent {
        base_revision: transaction.base().number,
        base_root_hash: transaction.base().root_hash.clone(),
        changed_paths_digest: changed.digest.clone(),
    };
    if let Err(outcome) = permission(worker, batch, claim, intent, stop).await {
        abort(transaction).await;
        return Ending::All(outcome);
    }
    crate::crash::point("worker.permitted");

    let (publisher, repository, key) = (Arc::clone(&worker.publisher), claim.repository.clone(), claim.key.clone());
    let message = message(claim);
    let publishing = worker.draining.publishing();
    worker.held.publishing(batch);
    let published = tokio::task::spawn_blocking(move || {
        let publishing = Instant::now();
        let settled = match transaction.publish(&message) {
            Ok(published) => Ok(published),
            Err(error) => fence::settle(&publisher, &repository, &key, &error),
        };
        (settled, publishing.elapsed())
    })
    .await;
    drop(publishing);
    crate::crash::point("worker.published");
    match published {
        Ok((Ok(published), published_in)) => {
            let Published { revision, figures: mut more, notes, mismatches } = published;
            for note in &notes {
                join_all(logs.iter().map(|log| log.line(note.clone()))).await;
            }
            more.insert("publish_ms".into(), published_in.as_millis().to_string());
            let judge = |(outputs, lease): (Outputs, &EntryPath)| {
                let wrong: Vec<_> = mismatches.iter().filter(|mismatch| mismatch.path.is_within(lease)).collect();
                if wrong.is_empty() { Ok(outputs) } else { Err(published_otherwise(&revision, &wrong)) }
            };
            let told = outputs(more).into_iter().zip(&of_leases).map(judge).collect();
            Ending::Published(revision, told)
        }
        Ok((Err(outcome), _)) => Ending::All(outcome),
        Err(panic) => Ending::All(Outcome::Unknown { reason: format!("the publisher failed: {panic}") }),
    }
}

/// What is said of a job whose changes are not in the repository as it made them, though they were published.
fn published_otherwise(revision: &Revision, wrong: &[&Mismatch]) -> Failure {
    let paths: Vec<_> =
        wrong.iter().take(LISTED_MISMATCHES).map(|mismatch| format!("/{} {}", mismatch.path, mismatch.why)).collect();
    let more = wrong.len().saturating_sub(LISTED_MISMATCHES);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let message = format!(
        "revision {} was published, and is not as it was staged: {}{more}; compare the lease path with what the job was to write",
        revision.number,
        paths.join("; ")
    );
    Failure { code: "published_otherwise".into(), message }
}

/// Why there is nothing to publish, and what is told of that.
struct Nothing {
    said: &'static str,
    outputs: Outputs,
}

/// Whether a batch is at its end once it is staged: the permission is not asked for then.
fn nothing_to_publish(claim: &ClaimReply, is_empty: bool) -> Option<Nothing> {
    let mut publishes = claim.jobs.iter().map(|job| job.spec.publish());
    let told = |word: &str| Outputs::from([(word.into(), "true".into()), ("published".into(), "false".into())]);
    // It goes alone. Should it ever not, the server refuses the permission, and the others are no dry run.
    if claim.jobs.len() == 1 && publishes.clone().any(|publish| publish.dry_run) {
        return Some(Nothing { said: "this was a dry run; nothing was published", outputs: told("dry_run") });
    }
    let unchanged = || Nothing { said: "nothing changed; nothing was published", outputs: told("unchanged") };
    (is_empty && !publishes.any(Publish::publishes_anyway)).then(unchanged)
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
async fn report(
    worker: &Worker,
    batch: BatchId,
    claim: &ClaimReply,
    outcomes: Vec<Outcome>,
    signed: Option<SignedManifest>,
) {
    let jobs = claim
        .jobs
        .iter()
        .zip(outcomes)
        .map(|(job, outcome)| JobOutcome { job_id: job.spec.id, attempt: job.attempt, outcome })
        .collect();
    let request = OutcomeRequest { token: claim.token.clone(), jobs, signed };
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

fn summary(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded { revision, root_hash, .. } => {
            format!("published as revision {revision}, root hash {root_hash}")
        }
        Outcome::Unchanged { revision, root_hash, .. } => {
            format!("no revision was made; the repository is at revision {revision}, root hash {root_hash}")
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
