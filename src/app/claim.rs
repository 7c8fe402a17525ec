//! Gives a batch to a worker.

use crate::app::advance::advance;
use crate::app::{AppError, Engine, batch_or_not_found, readable_job};
use crate::domain::batch::{Batch, BatchError, BatchJob, BatchState, Claim};
use crate::domain::ids::BatchId;
use crate::domain::job::event::JobEvent;
use crate::domain::job::state::JobState;
use crate::domain::protocol::{ClaimReply, ClaimRequest, ClaimedJob};
use crate::planted::{self, Bug};
use crate::store::Tx;

impl Engine {
    /// Claims a batch; the same instance asking again gets the same claim.
    pub async fn claim(&self, id: BatchId, request: ClaimRequest) -> Result<ClaimReply, AppError> {
        let (epoch, expiry) = (self.store.epoch(), self.settings.claim_expiry);
        let node = request.node.clone();
        // Its deadline comes first: the caller may be gone before the commit is known here.
        let deadline = self.time() + expiry;
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
                if is_open && !dispatcher.repositories().contains_key(&batch.repository) {
                    let message =
                        format!("repository {} is not in the server's configuration any more", batch.repository);
                    let hint = "drop this batch; its jobs wait until the repository is configured again";
                    return Err(AppError::conflict("held", message, hint));
                }
                if is_open && dispatcher.held(tx, now)?.contains(&batch.repository) {
                    let message = format!("repository {} is held; nothing of it begins now", batch.repository);
                    return Err(AppError::conflict("held", message, "drop this batch; it is offered again afterwards"));
                }
                let token = format!("{epoch}.{id}.{}", dispatcher.entropy.secret());
                let claim = Claim { token, epoch, node: request.node.clone(), instance: request.instance };
                let (generation, claim) = as_planted(&batch, request.generation, claim);
                let (claim, is_new) = batch.claim(generation, claim)?;
                if !is_new && planted::is(Bug::RefusesClaimAskedAgain) {
                    return Err(BatchError::Taken { node: claim.node.clone() }.into());
                }
                let claim = claim.clone();
                if is_new {
                    // Those that were cancelled are gone, and what became ready since comes along.
                    batch.jobs = offered(tx, &batch)?;
                    if !batch.jobs.is_empty() {
                        dispatcher.top_up(tx, now, &mut batch)?;
                    }
                    tx.update_members(&batch)?;
                }
                let mut jobs = Vec::with_capacity(batch.jobs.len());
                for member in &batch.jobs {
                    let Some(mut job) = readable_job(tx, member.job_id)? else { continue };
                    if is_new {
                        job = advance(
                            tx,
                            now,
                            dispatcher,
                            job,
                            &JobEvent::Claimed { batch: id, node: request.node.clone() },
                        )?;
                    }
                    let time_left_s = job.spec.deadline.map(|deadline| {
                        u32::try_from(deadline.duration_since(now).as_secs().max(0)).unwrap_or(u32::MAX)
                    });
                    jobs.push(ClaimedJob {
                        attempt: member.attempt,
                        pinned: job.progress.pinned,
                        time_left_s,
                        spec: job.spec,
                    });
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

/// What is asked for; with a planted bug, what a server takes it for that does not look closely.
fn as_planted(batch: &Batch, generation: u32, claim: Claim) -> (u32, Claim) {
    let generation = if planted::is(Bug::AcceptsStaleOffer) { batch.generation } else { generation };
    match batch.state.claim() {
        Some(held) if planted::is(Bug::GrantsClaimTwice) => (generation, Claim { instance: held.instance, ..claim }),
        _ => (generation, claim),
    }
}

/// The jobs of a batch that are offered in it still.
fn offered(tx: &Tx<'_>, batch: &Batch) -> Result<Vec<BatchJob>, AppError> {
    let mut offered = Vec::with_capacity(batch.jobs.len());
    for member in &batch.jobs {
        let Some(job) = readable_job(tx, member.job_id)? else { continue };
        if matches!(job.progress.state, JobState::Offered { batch: of } if of == batch.id) {
            offered.push(*member);
        }
    }
    Ok(offered)
}
