//! Remembers what a URL delivered first, so that every attempt runs the same bytes.

use crate::app::advance::advance;
use crate::app::{AppError, Engine, batch_or_not_found, job_or_not_found};
use crate::domain::batch::BatchError;
use crate::domain::ids::{BatchId, JobId};
use crate::domain::job::event::JobEvent;
use crate::domain::protocol::PinRequest;

impl Engine {
    /// Pins a job's URL to a digest. The same digest again is no error, another one is.
    pub async fn pin(&self, batch: BatchId, job: JobId, request: PinRequest) -> Result<(), AppError> {
        self.write(move |tx, now, dispatcher| {
            let batch = batch_or_not_found(tx, batch)?;
            batch.may_report(&request.token)?;
            if !batch.jobs.iter().any(|member| member.job_id == job) {
                return Err(BatchError::ClaimLost.into());
            }
            let job = job_or_not_found(tx, job)?;
            match job.progress.pinned {
                None => drop(advance(tx, now, dispatcher, job, &JobEvent::SourcePinned { digest: request.digest })?),
                Some(pinned) if pinned == request.digest => {}
                Some(pinned) => {
                    let message =
                        format!("the first attempt of job {} fetched {pinned}, this one {}", job.id(), request.digest);
                    return Err(AppError::conflict("source_changed", message, "submit a new job for the new content"));
                }
            }
            Ok(())
        })
        .await
    }
}
