//! Records how a batch ended, as its worker reports it.

use jiff::Timestamp;

use crate::app::advance::advance;
use crate::app::dispatch::Dispatcher;
use crate::app::resolve::compare;
use crate::app::{AppError, Engine, announce, batch_or_not_found, readable_job};
use crate::domain::batch::{Batch, BatchError, BatchState};
use crate::domain::ids::BatchId;
use crate::domain::job::Job;
use crate::domain::job::event::{Failure, JobEvent};
use crate::domain::job::state::JobState;
use crate::domain::outcome::{JobOutcome, Outcome};
use crate::domain::policy;
use crate::domain::protocol::OutcomeRequest;
use crate::planted::{self, Bug};
use crate::store::Tx;

impl Engine {
    /// Records the outcome of a claimed batch. Reporting again is no error and changes nothing.
    pub async fn outcome(&self, id: BatchId, request: OutcomeRequest) -> Result<(), AppError> {
        crate::crash::point("outcome.before");
        let has_manifest = request.signed.is_some();
        let node = self
            .write(move |tx, now, dispatcher| {
                let mut batch = batch_or_not_found(tx, id)?;
                match batch.may_report(&request.token) {
                    Ok(()) if planted::is(Bug::RefusesLateEvidence) && batch.state.claim().is_none() => {
                        return Err(BatchError::ClaimLost.into());
                    }
                    // Recorded before: as a rule the worker only missed the answer.
                    Err(BatchError::Settled) => {
                        late(tx, now, &batch, &request.jobs)?;
                        announce::note(tx, &batch.repository, request.signed.as_ref())?;
                        return Ok(None);
                    }
                    result => result?,
                }
                check_covers(&batch, &request.jobs)?;
                let node = batch.state.node().map(str::to_owned);
                if request.jobs.iter().any(|job| matches!(job.outcome, Outcome::Unknown { .. })) {
                    if matches!(batch.state, BatchState::Recovering { .. }) {
                        return Ok(None);
                    }
                    lose(tx, now, dispatcher, &mut batch)?;
                    return Ok(node);
                }
                let mut jobs = Vec::with_capacity(request.jobs.len());
                for reported in &request.jobs {
                    if let Some(job) = readable_job(tx, reported.job_id)? {
                        jobs.push((job, reported));
                    }
                }
                // The least that one of them may be together: how far a batch that fails was divided already.
                let together =
                    jobs.iter().map(|(job, _)| job.progress.together(job.spec.goes_alone())).min().unwrap_or(1);
                for (job, reported) in jobs {
                    let jitter = dispatcher.entropy.jitter();
                    let event = event(&batch, together, &job, now, &reported.outcome, jitter)?;
                    advance(tx, now, dispatcher, job, &event)?;
                }
                announce::note(tx, &batch.repository, request.signed.as_ref())?;
                batch.state = BatchState::Settled;
                tx.update_batch(&batch)?;
                dispatcher.touch_repository(&batch.repository);
                Ok(node)
            })
            .await?;
        crate::crash::point("outcome.after");
        if has_manifest {
            self.something_to_announce();
        }
        self.live().forget_claim(id);
        if let Some(node) = node {
            self.dispatcher.workers.adjust_slots(&node, 1);
        }
        Ok(())
    }
}

/// Takes a batch from a worker that cannot answer for it any more.
pub(super) fn lose(
    tx: &mut Tx<'_>,
    now: Timestamp,
    dispatcher: &Dispatcher,
    batch: &mut Batch,
) -> Result<(), AppError> {
    batch.lose(now)?;
    tx.update_batch(batch)?;
    let node = batch.state.node().unwrap_or_default().to_owned();
    for member in &batch.jobs {
        let Some(job) = readable_job(tx, member.job_id)? else { continue };
        if matches!(job.progress.state, JobState::Running { batch: of, .. } if of == batch.id) {
            advance(tx, now, dispatcher, job, &JobEvent::WorkerLost { node: node.clone() })?;
        }
    }
    Ok(())
}

/// Compares what comes after a batch was settled with how it was. Every worker that reports has fenced and looked.
fn late(tx: &mut Tx<'_>, now: Timestamp, batch: &Batch, outcomes: &[JobOutcome]) -> Result<(), AppError> {
    for reported in outcomes {
        let Some(member) = batch.jobs.iter().find(|member| member.job_id == reported.job_id) else { continue };
        let published = match &reported.outcome {
            Outcome::Succeeded { revision, root_hash, .. } => Some((*revision, root_hash.as_str())),
            Outcome::Unchanged { .. }
            | Outcome::Failed { .. }
            | Outcome::BatchFailed { .. }
            | Outcome::Busy { .. }
            | Outcome::Released => None,
            Outcome::Unknown { .. } => continue,
        };
        let alone = Batch { jobs: vec![*member], ..batch.clone() };
        compare(tx, now, &alone, published, "a late report of its worker")?;
    }
    Ok(())
}

fn check_covers(batch: &Batch, outcomes: &[JobOutcome]) -> Result<(), AppError> {
    let covers = batch.jobs.len() == outcomes.len()
        && batch
            .jobs
            .iter()
            .all(|job| outcomes.iter().any(|outcome| outcome.job_id == job.job_id && outcome.attempt == job.attempt));
    if covers {
        return Ok(());
    }
    let message = format!("the outcome does not speak of the jobs and attempts of batch {}", batch.id);
    Err(AppError::invalid("bad_outcome", message, "report each job of the claim once, with its attempt"))
}

fn event(
    batch: &Batch,
    together: usize,
    job: &Job,
    now: Timestamp,
    outcome: &Outcome,
    jitter: f64,
) -> Result<JobEvent, AppError> {
    let progress = &job.progress;
    let permitted = matches!(batch.state, BatchState::Publishing { .. } | BatchState::Recovering { .. });
    let recovering = matches!(batch.state, BatchState::Recovering { .. });
    Ok(match outcome {
        Outcome::Succeeded { .. } if !permitted => {
            let message = format!("batch {} reports a publish that was never permitted", batch.id);
            return Err(AppError::conflict("not_permitted", message, "ask for the permission to publish first"));
        }
        Outcome::Succeeded { revision, root_hash, outputs } => {
            JobEvent::Succeeded { revision: *revision, root_hash: root_hash.clone(), outputs: outputs.clone() }
        }
        Outcome::Unchanged { .. } if permitted => {
            let message =
                format!("batch {} was permitted to publish, and reports that there was nothing to publish", batch.id);
            return Err(AppError::conflict(
                "permitted",
                message,
                "fence, look into the history and report what it says",
            ));
        }
        Outcome::Unchanged { revision, root_hash, outputs } => {
            JobEvent::Unchanged { revision: *revision, root_hash: root_hash.clone(), outputs: outputs.clone() }
        }
        // Late news of a lost claim: its worker fenced and looked by itself.
        Outcome::Failed { .. } | Outcome::BatchFailed { .. } | Outcome::Busy { .. } | Outcome::Released
            if recovering =>
        {
            JobEvent::FoundUnpublished
        }
        Outcome::Failed { failure, transient } | Outcome::BatchFailed { failure, transient } => {
            let is_of_all = matches!(outcome, Outcome::BatchFailed { .. });
            let divided = policy::batch_after_failure(batch.jobs.len(), together, *transient).filter(|_| is_of_all);
            let failure = Failure { code: failure.code.clone(), message: shorten(&failure.message) };
            match divided {
                Some(together) => JobEvent::BatchFailed { failure, together, until: policy::after_batch(now, jitter) },
                None => {
                    let retry_at = policy::retry_at(now, progress.failures, job.spec.attempts, *transient, jitter);
                    JobEvent::AttemptFailed { failure, retry_at }
                }
            }
        }
        Outcome::Busy { holder } => {
            JobEvent::Busy { until: policy::busy_until(now, progress.attempt, jitter), holder: shorten(holder) }
        }
        Outcome::Released | Outcome::Unknown { .. } => JobEvent::Released,
    })
}

/// Keeps a worker's text to what a person reads.
fn shorten(text: &str) -> String {
    text.chars().take(4000).collect()
}
