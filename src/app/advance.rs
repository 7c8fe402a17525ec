//! Lets an event happen to a job, with all that follows from it.

use jiff::Timestamp;

use crate::app::AppError;
use crate::domain::dependencies::{Readiness, readiness};
use crate::domain::job::Job;
use crate::domain::job::event::JobEvent;
use crate::domain::job::state::StateKind;
use crate::store::{StoreError, Tx};

use super::dispatch::Dispatcher;

/// Applies an event; when the job ends by it, the jobs that waited for it become ready or are skipped.
pub(super) fn advance(
    tx: &mut Tx<'_>,
    now: Timestamp,
    dispatcher: &Dispatcher,
    job: Job,
    event: &JobEvent,
) -> Result<Job, AppError> {
    let job = tx.apply(now, job, event)?;
    dispatcher.touch(&job);
    if job.progress.state.is_final() {
        release_dependents(tx, now, dispatcher, job.seq)?;
    }
    Ok(job)
}

fn release_dependents(tx: &mut Tx<'_>, now: Timestamp, dispatcher: &Dispatcher, ended: u64) -> Result<(), StoreError> {
    let mut ended = vec![ended];
    while let Some(seq) = ended.pop() {
        for id in tx.dependents(seq, StateKind::Waiting)? {
            let Some(job) = tx.job(id)? else { continue };
            let event = match readiness(tx.dependencies(job.seq)?) {
                Readiness::Pending => continue,
                Readiness::Met => JobEvent::DependenciesMet,
                Readiness::Unmet(dependency) => JobEvent::DependencyUnmet { dependency },
            };
            let job = tx.apply(now, job, &event)?;
            dispatcher.touch(&job);
            if job.progress.state.is_final() {
                ended.push(job.seq);
            }
        }
    }
    Ok(())
}
