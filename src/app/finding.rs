//! Settles a lost batch by what its repository says.

use crate::app::advance::advance;
use crate::app::{AppError, Engine, batch_or_not_found, job_or_not_found};
use crate::domain::batch::{BatchError, BatchState};
use crate::domain::ids::BatchId;
use crate::domain::job::event::{Failure, JobEvent};
use crate::domain::job::state::JobState;
use crate::domain::outcome::Finding;
use crate::domain::policy::MAX_INTERRUPTIONS;
use crate::domain::protocol::FindingRequest;

impl Engine {
    /// Records what the batch's node found out. Reporting again is no error.
    pub async fn finding(&self, id: BatchId, request: FindingRequest) -> Result<(), AppError> {
        let limit = self.settings.recovery_limit;
        crate::crash::point("finding.before");
        self.write(move |tx, now, dispatcher| {
            let mut batch = batch_or_not_found(tx, id)?;
            let since = match &batch.state {
                BatchState::Settled => return Ok(()),
                BatchState::Recovering { node, since, .. } if *node == request.node => *since,
                BatchState::Recovering { node, .. } => {
                    return Err(AppError::conflict("not_your_batch", format!("batch {id} was lost on node {node}"), "only that node can find out"));
                }
                _ => return Err(BatchError::NotNow { state: batch.state.as_str() }.into()),
            };
            for member in batch.jobs.clone() {
                let job = job_or_not_found(tx, member.job_id)?;
                let event = match &request.finding {
                    Finding::Published { revision, root_hash } => {
                        JobEvent::Succeeded { revision: *revision, root_hash: root_hash.clone(), outputs: Default::default() }
                    }
                    Finding::NotPublished if job.progress.interruptions + 1 >= MAX_INTERRUPTIONS && matches!(job.progress.state, JobState::Recovering { .. }) => {
                        let message = format!("its worker was lost {MAX_INTERRUPTIONS} times; look into the worker's journal, then retry the job");
                        JobEvent::AttemptFailed { failure: Failure { code: "worker_lost".into(), message }, retry_at: None }
                    }
                    Finding::NotPublished => JobEvent::FoundUnpublished,
                    Finding::Unreadable { reason } => {
                        let waited = now.duration_since(since).unsigned_abs();
                        if waited < limit || !matches!(job.progress.state, JobState::Recovering { .. }) {
                            return Ok(());
                        }
                        JobEvent::RecoveryGivenUp { reason: reason.chars().take(4000).collect() }
                    }
                };
                advance(tx, now, dispatcher, job, &event)?;
            }
            if !matches!(request.finding, Finding::Unreadable { .. }) {
                batch.state = BatchState::Settled;
                tx.update_batch(&batch)?;
                dispatcher.touch_repository(&batch.repository);
            }
            Ok(())
        })
        .await?;
        crate::crash::point("finding.after");
        Ok(())
    }
}
