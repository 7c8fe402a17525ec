//! Permits a publish: the point of no return.

use crate::app::advance::advance;
use crate::app::{AppError, Engine, batch_or_not_found, job_or_not_found};
use crate::domain::batch::{BatchError, BatchState};
use crate::domain::ids::BatchId;
use crate::domain::job::event::JobEvent;
use crate::domain::job::state::{JobState, Phase};
use crate::domain::protocol::IntentRequest;
use crate::planted::{self, Bug};

impl Engine {
    /// Grants the permission while claim and leadership live and nobody wants the job stopped.
    pub async fn intent(&self, id: BatchId, request: IntentRequest) -> Result<(), AppError> {
        // A claim whose time is up is lost, also where no tick has noticed yet.
        let alive = self.live().claims.get(&id).is_some_and(|deadline| self.time() < *deadline);
        if !alive {
            return Err(BatchError::ClaimLost.into());
        }
        crate::crash::point("intent.before");
        self.write(move |tx, now, dispatcher| {
            let mut batch = batch_or_not_found(tx, id)?;
            let granted_before = matches!(batch.state, BatchState::Publishing { .. });
            let base_revision = request.intent.base_revision;
            batch.permit(&request.token, request.intent)?;
            if granted_before || planted::is(Bug::PermitsWithoutRecord) {
                return Ok(());
            }
            for member in &batch.jobs {
                let job = job_or_not_found(tx, member.job_id)?;
                if job.spec.deadline.is_some_and(|deadline| deadline <= now) && !planted::is(Bug::PermitsPastDeadline) {
                    let message = format!("the deadline of job {} has passed", member.job_id);
                    let hint = "abort the transaction and report the batch as released";
                    return Err(AppError::conflict("deadline_passed", message, hint));
                }
                if job.progress.dry_run {
                    let message = format!("job {} is a dry run, which publishes nothing", member.job_id);
                    let hint = "abort the transaction and report the batch as unchanged";
                    return Err(AppError::conflict("dry_run", message, hint));
                }
                match job.progress.state {
                    JobState::Running { batch, phase: Phase::Staging, cancel_requested: false, .. } if batch == id => {
                        advance(tx, now, dispatcher, job, &JobEvent::PublishPermitted { base_revision })?;
                    }
                    JobState::Running { cancel_requested: true, .. } if planted::is(Bug::PermitsDespiteCancel) => {}
                    JobState::Running { cancel_requested: true, .. } => {
                        let message = format!("job {} is to be cancelled", member.job_id);
                        return Err(AppError::conflict(
                            "cancel_requested",
                            message,
                            "abort the transaction and report the batch as released",
                        ));
                    }
                    _ => return Err(BatchError::ClaimLost.into()),
                }
            }
            tx.update_batch(&batch)?;
            Ok(())
        })
        .await?;
        crate::crash::point("intent.after");
        Ok(())
    }
}
