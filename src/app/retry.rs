//! Tries a job again that failed, was cancelled or was skipped: the same id, a new attempt.

use jiff::Timestamp;

use crate::app::advance::advance;
use crate::app::dispatch::Dispatcher;
use crate::app::{AppError, Engine, job_or_not_found};
use crate::domain::dependencies::{Readiness, readiness};
use crate::domain::ids::JobId;
use crate::domain::job::Job;
use crate::domain::job::event::JobEvent;
use crate::domain::job::spec::Source;
use crate::domain::job::state::{JobState, StateKind};
use crate::domain::protocol::JobView;
use crate::planted::{self, Bug};
use crate::store::Tx;

impl Engine {
    /// Revives a job and, where asked, all that was skipped because of it.
    pub async fn retry(&self, id: JobId, with_dependents: bool) -> Result<JobView, AppError> {
        let job = self.store.read(move |db| job_or_not_found(db, id)).await?;
        let (spec, needs_payload) = (job.spec, !is_published(&job.progress.state));
        if needs_payload
            && let (Some(Source::Blob { digest }), Some(blobs)) = (spec.publish().payload.source(), &self.blobs)
            && blobs.keep(*digest).await?.is_none()
        {
            let message = format!("the payload of job {id} ({:?}), blob {digest}, is no longer kept", spec.name);
            return Err(AppError::conflict("blob_gone", message, "upload it again: PUT /api/v1/blobs/DIGEST"));
        }
        self.write(move |tx, now, dispatcher| {
            let job = job_or_not_found(tx, id)?;
            let job = revive(tx, now, dispatcher, job)?;
            let mut revived = vec![job.seq];
            while let Some(seq) = revived.pop().filter(|_| with_dependents) {
                for id in tx.dependents(seq, StateKind::Skipped)? {
                    let dependent = job_or_not_found(tx, id)?;
                    // Another dependency of it may stand in its way still; then it stays skipped.
                    if !matches!(readiness(tx.dependencies(dependent.seq)?), Readiness::Unmet(_)) {
                        revived.push(revive(tx, now, dispatcher, dependent)?.seq);
                    }
                }
            }
            Ok(job.into())
        })
        .await
    }
}

fn is_published(state: &JobState) -> bool {
    matches!(state, JobState::Failed { published: Some(_), .. })
}

fn revive(tx: &mut Tx<'_>, now: Timestamp, dispatcher: &Dispatcher, mut job: Job) -> Result<Job, AppError> {
    let (id, name) = (job.id(), job.spec.name.clone());
    if !matches!(job.progress.state, JobState::Failed { .. } | JobState::Cancelled | JobState::Skipped { .. }) {
        let message = format!(
            "job {id} ({name:?}) is {}; only one that failed, was cancelled or was skipped is tried again",
            job.progress.state.kind()
        );
        return Err(AppError::conflict("not_retryable", message, "submit it under a new id to run it once more"));
    }
    if planted::is(Bug::RetriesPublished)
        && let JobState::Failed { published, .. } = &mut job.progress.state
    {
        *published = None;
    }
    if is_published(&job.progress.state) {
        // It only waits for its URLs once more, whatever became of what it depends on.
        return advance(tx, now, dispatcher, job, &JobEvent::Retried { waiting: false });
    }
    let waiting = match readiness(tx.dependencies(job.seq)?) {
        Readiness::Met => false,
        Readiness::Pending => true,
        Readiness::Unmet(dependency) => {
            let message = format!("job {id} ({name:?}) depends on job {dependency}, which did not end as it must");
            return Err(AppError::conflict("dependency_unmet", message, "retry that job with its dependents"));
        }
    };
    advance(tx, now, dispatcher, job, &JobEvent::Retried { waiting })
}
