//! Lets an event happen to a job, with all that follows from it.

use jiff::{SignedDuration, Timestamp};

use crate::app::{AppError, readable_batch, readable_job};
use crate::domain::dependencies::{Readiness, readiness};
use crate::domain::ids::BatchId;
use crate::domain::job::Job;
use crate::domain::job::event::JobEvent;
use crate::domain::job::state::{JobState, StateKind};
use crate::planted::{self, Bug};
use crate::store::{StoreError, Tx};

use super::dispatch::Dispatcher;
use crate::domain::batch::BatchState;

/// Applies an event; when the job ends by it, the jobs that waited for it become ready or are skipped.
pub(super) fn advance(
    tx: &mut Tx<'_>,
    now: Timestamp,
    dispatcher: &Dispatcher,
    job: Job,
    event: &JobEvent,
) -> Result<Job, AppError> {
    let mut job = apply(tx, now, dispatcher, job, event)?;
    // What comes back from a worker after its deadline would be offered and refused again and again until a tick meets it.
    let is_back = matches!(job.progress.state.kind(), StateKind::Queued | StateKind::Backoff);
    if is_back && job.spec.deadline.is_some_and(|deadline| deadline <= now) {
        job = apply(tx, now, dispatcher, job, &JobEvent::DeadlinePassed)?;
    }
    if matches!(job.progress.state, JobState::Distributing { until: None, .. }) {
        let within = SignedDuration::from_secs(job.spec.visible_within_s().into());
        let until = now.checked_add(within).unwrap_or(Timestamp::MAX);
        job = apply(tx, now, dispatcher, job, &JobEvent::Distributing { since: now, until })?;
    }
    if job.progress.state.is_final() {
        release_dependents(tx, now, dispatcher, job.seq)?;
    }
    Ok(job)
}

/// Ends a job that no worker has: it leaves the batch in which it was offered.
pub(super) fn end_unclaimed(
    tx: &mut Tx<'_>,
    now: Timestamp,
    dispatcher: &Dispatcher,
    job: Job,
    event: &JobEvent,
) -> Result<Job, AppError> {
    let offered = match job.progress.state {
        JobState::Offered { batch } => Some(batch),
        _ => None,
    };
    let job = advance(tx, now, dispatcher, job, event)?;
    if let Some(batch) = offered {
        dissolve_if_empty(tx, batch)?;
    }
    Ok(job)
}

/// A batch of whose jobs none is left has nothing to do; whoever holds its offer will hear so.
fn dissolve_if_empty(tx: &mut Tx<'_>, id: BatchId) -> Result<(), AppError> {
    let Some(mut batch) = readable_batch(tx, id)? else { return Ok(()) };
    for member in &batch.jobs {
        let state = readable_job(tx, member.job_id)?.map(|job| job.progress.state);
        if !planted::is(Bug::CancelsWholeBatch) && matches!(state, Some(JobState::Offered { batch }) if batch == id) {
            return Ok(());
        }
    }
    batch.state = BatchState::Settled;
    Ok(tx.update_batch(&batch)?)
}

/// Applies an event; a job that becomes ready gets its place behind those that are.
fn apply(
    tx: &mut Tx<'_>,
    now: Timestamp,
    dispatcher: &Dispatcher,
    job: Job,
    event: &JobEvent,
) -> Result<Job, StoreError> {
    let before = job.progress.state.kind();
    let job = tx.apply(now, job, event)?;
    let after = job.progress.state.kind();
    let was_outside = matches!(before, StateKind::Waiting | StateKind::AwaitingApproval) || before.is_final();
    if after == StateKind::Queued && was_outside {
        tx.set_rank(job.seq, dispatcher.rank(&job.spec))?;
    }
    if matches!(before, StateKind::Queued | StateKind::Backoff) && after.is_final() {
        dispatcher.withdrawn(&job.spec, tx.rank(job.seq)?);
    }
    dispatcher.touch(&job);
    Ok(job)
}

fn release_dependents(tx: &mut Tx<'_>, now: Timestamp, dispatcher: &Dispatcher, ended: u64) -> Result<(), AppError> {
    let mut ended = vec![ended];
    while let Some(seq) = ended.pop() {
        for id in tx.dependents(seq, StateKind::Waiting)? {
            // One that cannot be read waits for ever, and keeps nobody else waiting.
            let Some(job) = readable_job(tx, id)? else { continue };
            let event = match readiness(tx.dependencies(job.seq)?) {
                Readiness::Pending => continue,
                Readiness::Met => JobEvent::DependenciesMet,
                Readiness::Unmet(_) if planted::is(Bug::IgnoresFailedDependency) => JobEvent::DependenciesMet,
                Readiness::Unmet(dependency) => JobEvent::DependencyUnmet { dependency },
            };
            let job = apply(tx, now, dispatcher, job, &event)?;
            if job.progress.state.is_final() {
                ended.push(job.seq);
            }
        }
    }
    Ok(())
}
