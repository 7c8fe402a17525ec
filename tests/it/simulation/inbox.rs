//! How a worker receives offers from the broker: a window no wider than its free slots, and an acknowledgement once the
//! claim is answered (of one that was granted, once its batch has ended or it takes long).

use std::collections::BTreeMap;
use std::time::Duration;

use conveyor::domain::ids::BatchId;
use conveyor::domain::protocol::Offer;

use super::broker::Channel;
use super::bugs::WorkerBug;
use super::environment::Environment;
use super::task::Step;

/// A batch that takes longer is acknowledged while it runs.
const SHORT: Duration = Duration::from_secs(10);

/// An offer that is not acknowledged yet.
struct Pending {
    tag: u64,
    generation: u32,
    /// When its claim was granted.
    claimed: Option<Duration>,
    answered: bool,
    acknowledged: bool,
}

#[derive(Default)]
pub(super) struct Inbox {
    channel: Option<Channel>,
    pending: BTreeMap<BatchId, Pending>,
}

impl Inbox {
    pub(super) fn is_open(&self) -> bool {
        self.channel.is_some()
    }

    /// The next offer, where there is one. Connects, and widens the window, where that is due.
    pub(super) fn receive(
        &mut self,
        env: &mut Environment,
        queue: &str,
        free: usize,
        hears: bool,
    ) -> Option<(u64, Offer)> {
        if self.channel.is_some_and(|channel| !env.broker.is_open(channel)) {
            // What it held is back on the queue.
            self.channel = None;
            self.pending.clear();
        }
        let Some(channel) = self.channel else {
            // Offers that could not be claimed would go round and round.
            self.channel = if hears { env.broker.consume(queue, free) } else { None };
            return None;
        };
        let now = env.now();
        let is_long = |pending: &Pending| pending.claimed.is_some_and(|at| now - at > SHORT);
        if env.broker.room(channel) < free || self.pending.values().any(is_long) {
            env.broker.consume_anew(channel, free);
            let claimed = |pending: &Pending| pending.claimed.is_some();
            let done: Vec<BatchId> = self.pending.iter().filter(|(_, p)| claimed(p)).map(|(id, _)| *id).collect();
            done.into_iter().for_each(|id| self.settle(env, id, Step::Over));
        }
        env.broker.deliver(channel)
    }

    /// Notes a delivery that is claimed next.
    pub(super) fn keep(&mut self, env: &mut Environment, tag: u64, batch: BatchId, generation: u32) {
        let acknowledged = env.has(WorkerBug::AcksBeforeClaim);
        if acknowledged {
            self.acknowledge(env, tag);
        }
        self.pending.insert(batch, Pending { tag, generation, claimed: None, answered: false, acknowledged });
    }

    pub(super) fn acknowledge(&mut self, env: &mut Environment, tag: u64) {
        if let Some(channel) = self.channel {
            env.broker.acknowledge(channel, tag);
        }
    }

    /// What became of an offer's task.
    pub(super) fn settle(&mut self, env: &mut Environment, batch: BatchId, step: Step) {
        let Some(pending) = self.pending.get_mut(&batch) else { return };
        match step {
            Step::On => {}
            Step::Claimed => (pending.claimed, pending.answered) = (Some(env.now()), true),
            Step::Refused | Step::Over => {
                pending.answered = true;
                let tag = pending.tag;
                self.pending.remove(&batch);
                self.acknowledge(env, tag);
            }
            // The server is away: all go back to the broker.
            Step::Unanswered => self.close(env),
        }
    }

    /// The connection ends, by whatever. An offer must then be claimed, or be back on its queue.
    pub(super) fn close(&mut self, env: &mut Environment) {
        for (batch, pending) in std::mem::take(&mut self.pending) {
            if pending.acknowledged && !pending.answered {
                env.checker.fail(format!(
                    "offer {} of {batch} is lost: acknowledged, and its claim was never answered",
                    pending.generation
                ));
            }
        }
        if let Some(channel) = self.channel.take() {
            env.broker.close(channel);
        }
    }
}
