//! A worker shows that it lives and hears what it must know.

use std::collections::HashMap;

use crate::app::progress::Member;
use crate::app::workers::Worker;
use crate::app::{AppError, Engine, readable_job};
use crate::domain::batch::{Batch, BatchState};
use crate::domain::ids::BatchId;
use crate::domain::job::state::{JobState, Phase};
use crate::domain::protocol::{HeartbeatReply, HeartbeatRequest, HeldClaim, RecoverRequest};

impl Engine {
    /// Renews the claims of a worker. Those of an earlier life of the same node are lost by this: that life is over.
    pub async fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatReply, AppError> {
        let free_slots = request.free_slots as usize;
        let at = self.clock.monotonic();
        let by_broker = request.by_broker;
        let seen = Worker {
            instance: request.instance,
            fleet: request.fleet.clone(),
            free_slots,
            by_broker,
            about: request.about.clone(),
            is_empty: request.claims.is_empty(),
            at,
            heard_at: self.clock.now(),
            is_silent: false,
        };
        let workers = &self.dispatcher.workers;
        let is_first = by_broker && !workers.fleets_by_broker().contains(&request.fleet);
        let changed = workers.heard(&self.dispatcher.repositories(), &request.node, seen)?;
        self.withdraw(&changed.withdrawn);
        if changed.is_served {
            // Nothing was planned there while nobody served it.
            self.write(|_, _, _| Ok(())).await?;
        }
        if is_first || changed.is_served || changed.takes_again {
            self.broker.announce();
        }

        let (node, instance) = (request.node.clone(), request.instance);
        let (mine, cancel, mut running) = self
            .store
            .read(move |db| {
                let mine: Vec<Batch> =
                    db.live_batches()?.into_iter().filter(|batch| batch.state.node() == Some(node.as_str())).collect();
                let (mut cancel, mut running) = (Vec::new(), HashMap::<BatchId, Vec<Member>>::new());
                for batch in
                    mine.iter().filter(|batch| batch.state.claim().is_some_and(|claim| claim.instance == instance))
                {
                    for member in &batch.jobs {
                        let Some(job) = readable_job(db, member.job_id)? else { continue };
                        let JobState::Running { phase, cancel_requested, .. } = job.progress.state else { continue };
                        if phase == Phase::Staging && cancel_requested {
                            cancel.push(batch.id);
                        }
                        let (job_id, attempt) = (member.job_id, member.attempt);
                        let member = Member { job_id, submission: job.submission, attempt };
                        running.entry(batch.id).or_default().push(member);
                    }
                }
                Ok::<_, AppError>((mine, cancel, running))
            })
            .await?;

        let held: HashMap<BatchId, &HeldClaim> = request.claims.iter().map(|held| (held.batch_id, held)).collect();
        let mut reply = HeartbeatReply {
            cancel,
            expires_in_s: u32::try_from(self.settings.claim_expiry.as_secs()).unwrap_or(u32::MAX),
            next_in_ms: u32::try_from(self.settings.heartbeat.as_millis()).unwrap_or(u32::MAX),
            ..HeartbeatReply::default()
        };
        let mut orphans = Vec::new();
        let deadline = self.time() + self.settings.claim_expiry;
        for batch in &mine {
            match &batch.state {
                BatchState::Claimed { claim } | BatchState::Publishing { claim, .. } => {
                    if claim.instance != request.instance {
                        orphans.push(batch.id);
                        reply.recover.push(recover(batch));
                    } else if let Some(held) = held.get(&batch.id).filter(|held| held.token == claim.token) {
                        let was_alive = self.live().claims.insert(batch.id, deadline).is_some();
                        // Its outcome may have come while the table was read.
                        if let (Some(report), true) = (held.progress, was_alive) {
                            self.note_progress(batch.id, running.remove(&batch.id).unwrap_or_default(), report);
                        }
                    }
                }
                BatchState::Recovering { .. } => reply.recover.push(recover(batch)),
                BatchState::Unsent | BatchState::Offered { .. } | BatchState::Settled => {}
            }
        }
        // What a person settled is looked at once more, while nothing else of ours can be met in that repository.
        for (batch, (node, repository)) in &self.live().unconfirmed {
            if *node == request.node && !mine.iter().any(|batch| batch.repository == *repository) {
                let (batch_id, repository, key) = (*batch, repository.clone(), batch.key());
                reply.recover.push(RecoverRequest { batch_id, repository, key });
            }
        }
        let holds = |held: &HeldClaim| {
            let is_its = |batch: &&Batch| batch.state.claim().is_some_and(|claim| claim.token == held.token);
            mine.iter().filter(is_its).any(|batch| batch.id == held.batch_id)
        };
        reply.lost = held.iter().filter(|(_, held)| !holds(held)).map(|(batch, _)| *batch).collect();
        reply.lost.sort_unstable();
        self.lose(orphans).await?;
        Ok(reply)
    }
}

fn recover(batch: &Batch) -> RecoverRequest {
    RecoverRequest { batch_id: batch.id, repository: batch.repository.clone(), key: batch.id.key() }
}
