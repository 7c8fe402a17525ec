//! Settles a lost batch by what its repository says.

use std::time::Duration;

use crate::app::advance::advance;
use crate::app::resolve::compare;
use crate::app::{AppError, Engine, batch_or_not_found, readable_job};
use crate::domain::batch::{BatchError, BatchState};
use crate::domain::ids::BatchId;
use crate::domain::job::event::{Failure, JobEvent};
use crate::domain::job::state::JobState;
use crate::domain::outcome::Finding;
use crate::domain::policy::MAX_INTERRUPTIONS;
use crate::domain::protocol::FindingRequest;
use crate::planted::{self, Bug};

impl Engine {
    /// Records what the batch's node found out. Reporting again is no error.
    pub async fn finding(&self, id: BatchId, request: FindingRequest) -> Result<(), AppError> {
        // A lost batch is unreadable since it was first found so, on the clock that does not jump.
        let waited = match &request.finding {
            Finding::Unreadable { .. } => {
                let now = self.clock.monotonic();
                now.saturating_sub(*self.live().unreadable.entry(id).or_insert(now))
            }
            Finding::Published { .. } | Finding::NotPublished => Duration::ZERO,
        };
        let is_readable = !matches!(request.finding, Finding::Unreadable { .. });
        let limit = self.dispatcher.rules().recovery_limit;
        crate::crash::point("finding.before");
        self.write(move |tx, now, dispatcher| {
            let mut batch = batch_or_not_found(tx, id)?;
            match &batch.state {
                BatchState::Settled => {
                    let from = format!("node {}", request.node);
                    match &request.finding {
                        Finding::Published { revision, root_hash } => compare(tx, now, &batch, Some((*revision, root_hash)), &from)?,
                        Finding::NotPublished => compare(tx, now, &batch, None, &from)?,
                        Finding::Unreadable { .. } => {}
                    }
                    return Ok(());
                }
                BatchState::Recovering { node, .. } if *node == request.node || planted::is(Bug::BelievesAnyNode) => {}
                BatchState::Recovering { node, .. } => {
                    return Err(AppError::conflict("not_your_batch", format!("batch {id} was lost on node {node}"), "only that node can find out"));
                }
                _ => return Err(BatchError::NotNow { state: batch.state.as_str() }.into()),
            }
            for member in batch.jobs.clone() {
                let Some(job) = readable_job(tx, member.job_id)? else { continue };
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
                        if waited < limit || !matches!(job.progress.state, JobState::Recovering { .. }) {
                            return Ok(());
                        }
                        JobEvent::RecoveryGivenUp { reason: reason.chars().take(4000).collect() }
                    }
                };
                advance(tx, now, dispatcher, job, &event)?;
            }
            if is_readable {
                batch.state = BatchState::Settled;
                tx.update_batch(&batch)?;
                dispatcher.touch_repository(&batch.repository);
            }
            Ok(())
        })
        .await?;
        crate::crash::point("finding.after");
        if is_readable {
            let mut live = self.live();
            live.unreadable.remove(&id);
            live.unconfirmed.remove(&id);
        }
        Ok(())
    }
}
