//! Cancels a job: at once while no worker has it, through its worker while nothing is permitted, not at all afterwards.

use crate::app::advance::end_unclaimed;
use crate::app::{AppError, Engine, job_or_not_found};
use crate::domain::ids::JobId;
use crate::domain::job::event::JobEvent;
use crate::domain::job::state::{JobState, Phase};
use crate::domain::protocol::JobView;

impl Engine {
    /// Cancels a job. Asking again for one that is cancelled, or will be, is no error.
    pub async fn cancel(&self, id: JobId) -> Result<JobView, AppError> {
        self.write(move |tx, now, dispatcher| {
            let job = job_or_not_found(tx, id)?;
            let name = job.spec.name.clone();
            match &job.progress.state {
                JobState::Cancelled
                | JobState::Running { cancel_requested: true, .. }
                | JobState::Recovering { cancel_requested: true, .. }
                | JobState::NeedsOperator { cancel_requested: true, .. } => return Ok(job.into()),
                JobState::Running { phase: Phase::Publishing, .. }
                | JobState::Recovering { publishing: true, .. }
                | JobState::NeedsOperator { publishing: true, .. } => {
                    let message =
                        format!("job {id} ({name:?}) has its permission to publish and can no longer be cancelled");
                    return Err(AppError::conflict(
                        "already_publishing",
                        message,
                        "wait for its end; submit another job to undo what it did",
                    ));
                }
                JobState::Distributing { revision, unchanged, .. } => {
                    let message = match unchanged {
                        false => format!("job {id} ({name:?}) is published as revision {revision}"),
                        true => format!("job {id} ({name:?}) had nothing to publish and only waits for its URLs"),
                    };
                    return Err(AppError::conflict(
                        "already_published",
                        message,
                        "it ends when its URLs serve that revision or its time is over; to undo it: conveyor revert",
                    ));
                }
                state if state.is_final() => {
                    let message = format!("job {id} ({name:?}) has ended: {}", state.kind());
                    return Err(AppError::conflict("already_ended", message, "nothing is left to cancel"));
                }
                _ => {}
            }
            Ok(end_unclaimed(tx, now, dispatcher, job, &JobEvent::CancelRequested)?.into())
        })
        .await
    }
}
