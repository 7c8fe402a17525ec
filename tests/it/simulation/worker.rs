//! A simulated worker process: heartbeats, offers, tasks and recoveries side by side, each a step at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use conveyor::domain::ids::{BatchId, InstanceId};
use conveyor::domain::protocol::{HeartbeatRequest, HeldClaim};
use rand::RngExt;

use super::environment::{EXPIRY, Environment, HEARTBEAT, NODES};
use super::inbox::Inbox;
use super::line::Line;
use super::recovery::Recovery;
use super::task::{Step, Stop, Task};
use super::transport::{CallError, Reply, Request};

/// Batches that one worker works on at the same time.
const SLOTS: usize = 2;

pub(super) struct Worker {
    pub(super) node: &'static str,
    fleet: &'static str,
    pub(super) instance: InstanceId,
    /// It does nothing until then: a stopped process, a paused machine.
    pub(super) stalled_until: Duration,
    /// It ended by itself.
    pub(super) stopped: bool,
    beat: Line,
    beat_due: Duration,
    offers: Line,
    /// Where offers come by the broker.
    inbox: Option<Inbox>,
    /// When the last heartbeat that was answered had been sent.
    answered_at: Duration,
    tasks: BTreeMap<BatchId, Task>,
    recoveries: BTreeMap<BatchId, Recovery>,
}

impl Worker {
    /// Starts a process.
    pub(super) fn start(env: &mut Environment, node: &'static str) -> Self {
        let instance = env.new_instance();
        let by_broker = env.chance(env.by_broker);
        env.note(|| format!("{node}: worker {instance} starts; offers by the broker: {by_broker}"));
        let now = env.now();
        Self {
            node,
            fleet: NODES.iter().find(|(name, _)| *name == node).unwrap().1,
            instance,
            stalled_until: now,
            stopped: false,
            beat: Line::default(),
            beat_due: now,
            offers: Line::default(),
            inbox: by_broker.then(Inbox::default),
            answered_at: Duration::ZERO,
            tasks: BTreeMap::new(),
            recoveries: BTreeMap::new(),
        }
    }

    /// The process is gone, wherever it stood.
    pub(super) fn crash(&mut self, env: &mut Environment) {
        env.note(|| format!("{}: worker {} is killed", self.node, self.instance));
        env.alive.remove(&self.instance);
        if let Some(inbox) = &mut self.inbox {
            inbox.close(env);
        }
    }

    /// One step of one of its threads, chosen at random.
    pub(super) fn step(&mut self, env: &mut Environment) {
        if self.stopped || env.now() < self.stalled_until {
            return;
        }
        let threads = 2 + self.tasks.len() + self.recoveries.len();
        match env.rng.random_range(0..threads) {
            0 => self.beat(env),
            1 => self.take_offers(env),
            n if n - 2 < self.tasks.len() => {
                let id = *self.tasks.keys().nth(n - 2).unwrap();
                self.step_task(env, id);
            }
            n => {
                let id = *self.recoveries.keys().nth(n - 2 - self.tasks.len()).unwrap();
                self.step_recovery(env, id);
            }
        }
    }

    /// One step of each of its threads.
    pub(super) fn step_all(&mut self, env: &mut Environment) {
        self.beat(env);
        if !self.stopped {
            self.take_offers(env);
        }
        for id in self.tasks.keys().copied().collect::<Vec<_>>() {
            self.step_task(env, id);
        }
        for id in self.recoveries.keys().copied().collect::<Vec<_>>() {
            self.step_recovery(env, id);
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.recoveries.is_empty()
    }

    fn free(&self) -> usize {
        SLOTS.saturating_sub(self.tasks.len())
    }

    fn beat(&mut self, env: &mut Environment) {
        if env.now() < self.beat_due {
            return;
        }
        let free = self.free();
        let request = || {
            let held = |(id, task): (&BatchId, &Task)| {
                task.token.clone().map(|token| HeldClaim { batch_id: *id, token, progress: None })
            };
            Request::Heartbeat(HeartbeatRequest {
                node: self.node.into(),
                instance: self.instance,
                fleet: self.fleet.into(),
                free_slots: u32::try_from(free).unwrap(),
                claims: self.tasks.iter().filter_map(held).collect(),
                by_broker: self.inbox.as_ref().is_some_and(Inbox::is_open),
                about: Default::default(),
            })
        };
        let Some(reply) = self.beat.ask(env, Some(self.node), request) else { return };
        self.beat_due = env.now() + HEARTBEAT;
        let asked_at = self.beat.asked_at;
        match reply {
            Ok(Reply::Heartbeat(reply)) => {
                self.answered_at = asked_at;
                for task in self.tasks.values_mut().filter(|task| task.token.is_some()) {
                    task.confirmed_at = task.confirmed_at.max(asked_at);
                }
                for (ids, stop) in [(&reply.cancel, Stop::Cancelled), (&reply.lost, Stop::Lost)] {
                    for id in ids {
                        if let Some(task) = self.tasks.get_mut(id).filter(|task| task.stop != Some(Stop::Lost)) {
                            task.stop = Some(stop);
                        }
                    }
                }
                for wanted in reply.recover {
                    self.recoveries.entry(wanted.batch_id).or_insert_with(|| Recovery::new(wanted));
                }
            }
            Err(CallError::Refused("superseded")) => {
                // A later life of this node runs: end, and leave nothing open.
                for (id, task) in std::mem::take(&mut self.tasks) {
                    task.abort(env, self.instance, id);
                }
                self.stopped = true;
                self.crash(env);
            }
            _ => {}
        }
    }

    /// Asks for offers, or receives one from the broker.
    fn take_offers(&mut self, env: &mut Environment) {
        let free = self.free();
        let hears = env.now() - self.answered_at <= EXPIRY * 2 / 3 && self.answered_at > Duration::ZERO;
        if let Some(inbox) = &mut self.inbox {
            let Some((tag, offer)) = inbox.receive(env, self.fleet, free, hears) else { return };
            let id = offer.batch_id;
            env.note(|| format!("{} receives {id} gen {} by the broker", self.node, offer.generation));
            if self.tasks.contains_key(&id) {
                // It is on already: this delivery has nothing to bring.
                inbox.acknowledge(env, tag);
            } else {
                inbox.keep(env, tag, id, offer.generation);
                self.tasks.insert(id, Task::new(offer, self.node));
            }
            return;
        }
        if free == 0 {
            return;
        }
        let (fleet, node, instance) = (self.fleet, self.node, self.instance);
        let request = || Request::Offers { fleet: fleet.into(), node: node.into(), instance, max: free };
        if let Some(Ok(Reply::Offers(offers))) = self.offers.ask(env, Some(node), request) {
            for offer in offers {
                if self.tasks.len() < SLOTS {
                    self.tasks.entry(offer.batch_id).or_insert_with(|| Task::new(offer, node));
                }
            }
        }
    }

    fn step_task(&mut self, env: &mut Environment, id: BatchId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let step = task.step(env, self.instance);
        if let Some(inbox) = &mut self.inbox {
            inbox.settle(env, id, step);
        }
        if !matches!(step, Step::On | Step::Claimed) {
            self.tasks.remove(&id);
        }
    }

    fn step_recovery(&mut self, env: &mut Environment, id: BatchId) {
        // Our own task for it has not noticed yet that it is over. The server asks again.
        if self.tasks.contains_key(&id) && !env.has(super::bugs::WorkerBug::LooksWithoutFence) {
            self.recoveries.remove(&id);
            return;
        }
        let Some(recovery) = self.recoveries.get_mut(&id) else { return };
        if recovery.step(env, self.node) {
            self.recoveries.remove(&id);
        }
    }
}
