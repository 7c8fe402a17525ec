//! A worker shows that it lives and hears what it must know.

use std::collections::HashMap;

use crate::app::dispatch::WorkerSeen;
use crate::app::{AppError, Engine};
use crate::domain::batch::{Batch, BatchState};
use crate::domain::ids::BatchId;
use crate::domain::job::state::{JobState, Phase};
use crate::domain::protocol::{HeartbeatReply, HeartbeatRequest, RecoverRequest};

impl Engine {
    /// Renews the claims of a worker. Those of an earlier life of the same node are lost by this: that life is over.
    pub async fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatReply, AppError> {
        let free_slots = request.free_slots as usize;
        let at = self.clock.monotonic();
        let seen = WorkerSeen { instance: request.instance, fleet: request.fleet.clone(), free_slots, at };
        self.dispatcher.worker_seen(&request.node, seen)?;

        let (node, instance) = (request.node.clone(), request.instance);
        let (mine, cancel) = self
            .store
            .read(move |db| {
                let mine: Vec<Batch> =
                    db.live_batches()?.into_iter().filter(|batch| batch.state.node() == Some(node.as_str())).collect();
                let mut cancel = Vec::new();
                for batch in
                    mine.iter().filter(|batch| batch.state.claim().is_some_and(|claim| claim.instance == instance))
                {
                    for member in &batch.jobs {
                        let state = db.job(member.job_id)?.map(|job| job.progress.state);
                        if matches!(
                            state,
                            Some(JobState::Running { phase: Phase::Staging, cancel_requested: true, .. })
                        ) {
                            cancel.push(batch.id);
                        }
                    }
                }
                Ok::<_, AppError>((mine, cancel))
            })
            .await?;

        let tokens: HashMap<BatchId, &str> =
            request.claims.iter().map(|held| (held.batch_id, held.token.as_str())).collect();
        let mut reply = HeartbeatReply {
            cancel,
            expires_in_s: u32::try_from(self.settings.claim_expiry.as_secs()).unwrap_or(u32::MAX),
            next_in_ms: u32::try_from(self.settings.heartbeat.as_millis()).unwrap_or(u32::MAX),
            ..HeartbeatReply::default()
        };
        let mut orphans = Vec::new();
        let deadline = self.clock.monotonic() + self.settings.claim_expiry;
        for batch in &mine {
            match &batch.state {
                BatchState::Claimed { claim } | BatchState::Publishing { claim, .. } => {
                    if claim.instance != request.instance {
                        orphans.push(batch.id);
                        reply.recover.push(recover(batch));
                    } else if tokens.get(&batch.id) == Some(&claim.token.as_str()) {
                        self.live().claims.insert(batch.id, deadline);
                    }
                }
                BatchState::Recovering { .. } => reply.recover.push(recover(batch)),
                BatchState::Unsent | BatchState::Offered { .. } | BatchState::Settled => {}
            }
        }
        let holds = |held: BatchId, token: &str| {
            mine.iter().any(|batch| batch.id == held && batch.state.claim().is_some_and(|claim| claim.token == token))
        };
        reply.lost = tokens.iter().filter(|(batch, token)| !holds(**batch, token)).map(|(batch, _)| *batch).collect();
        reply.lost.sort_unstable();
        self.lose(orphans).await?;
        Ok(reply)
    }
}

fn recover(batch: &Batch) -> RecoverRequest {
    RecoverRequest { batch_id: batch.id, repository: batch.repository.clone(), key: batch.id.key() }
}
