//! Gives a batch to a worker.

use crate::app::advance::advance;
use crate::app::{AppError, Engine, batch_or_not_found, job_or_not_found};
use crate::domain::batch::{BatchError, BatchState, Claim};
use crate::domain::ids::BatchId;
use crate::domain::job::event::JobEvent;
use crate::domain::job::state::JobState;
use crate::domain::protocol::{ClaimReply, ClaimRequest, ClaimedJob};

impl Engine {
    /// Claims a batch; the same instance asking again gets the same claim.
    pub async fn claim(&self, id: BatchId, request: ClaimRequest) -> Result<ClaimReply, AppError> {
        let (epoch, expiry) = (self.store.epoch(), self.settings.claim_expiry);
        let node = request.node.clone();
        // Its deadline comes first: the caller may be gone before the commit is known here.
        let deadline = self.clock.monotonic() + expiry;
        self.live().claims.entry(id).or_insert(deadline);
        crate::crash::point("claim.before");
        let (reply, is_new) = self
            .write(move |tx, now, dispatcher| {
                let mut batch = batch_or_not_found(tx, id)?;
                let is_open = matches!(batch.state, BatchState::Unsent | BatchState::Offered { .. });
                if is_open && !dispatcher.workers.may_take(&request.node, request.instance, &batch.repository) {
                    let message = format!("node {} says that it does not serve {}", request.node, batch.repository);
                    let hint = "drop this batch; workers that serve it are offered it";
                    return Err(AppError::conflict("not_served", message, hint));
                }
                let token = format!("{epoch}.{id}.{}", dispatcher.entropy.secret());
                let claim = Claim { token, epoch, node: request.node.clone(), instance: request.instance };
                let (claim, is_new) = batch.claim(request.generation, claim)?;
                let claim = claim.clone();
                let mut jobs = Vec::with_capacity(batch.jobs.len());
                for member in &batch.jobs {
                    let mut job = job_or_not_found(tx, member.job_id)?;
                    if is_new {
                        if !matches!(job.progress.state, JobState::Offered { batch } if batch == id) {
                            continue;
                        }
                        job = advance(
                            tx,
                            now,
                            dispatcher,
                            job,
                            &JobEvent::Claimed { batch: id, node: request.node.clone() },
                        )?;
                    }
                    jobs.push(ClaimedJob { attempt: member.attempt, pinned: job.progress.pinned, spec: job.spec });
                }
                if jobs.is_empty() {
                    batch.state = BatchState::Settled;
                }
                tx.update_batch(&batch)?;
                let reply = ClaimReply {
                    token: claim.token,
                    epoch: claim.epoch,
                    expires_in_s: u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX),
                    key: id.key(),
                    repository: batch.repository,
                    lease_path: batch.lease_path,
                    jobs,
                };
                Ok((reply, is_new))
            })
            .await?;
        crate::crash::point("claim.after");
        self.live().offers.remove(&id);
        self.dispatcher.workers.offer_over(id);
        self.broker.recorded(id);
        if reply.jobs.is_empty() {
            return Err(BatchError::Settled.into());
        }
        self.live().claims.insert(id, deadline);
        if is_new {
            self.dispatcher.workers.adjust_slots(&node, -1);
        }
        Ok(reply)
    }
}
