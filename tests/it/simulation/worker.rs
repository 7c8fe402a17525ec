//! A simulated worker process: heartbeats, offers, tasks and recoveries side by side, each a step at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use conveyor::domain::ids::{BatchId, InstanceId};
use conveyor::domain::protocol::{HeartbeatRequest, HeldClaim};
use rand::RngExt;

use super::environment::{EXPIRY, Environment, HEARTBEAT};
use super::line::Line;
use super::recovery::Recovery;
use super::task::{Stop, Task};
use super::transport::{CallError, Reply, Request};

/// Batches that one worker works on at the same time.
const SLOTS: usize = 2;

pub(super) struct Worker {
    /// Also the name of its fleet.
    pub(super) node: &'static str,
    pub(super) instance: InstanceId,
    /// It does nothing until then: a stopped process, a paused machine.
    pub(super) stalled_until: Duration,
    /// It ended by itself.
    pub(super) stopped: bool,
    beat: Line,
    beat_due: Duration,
    offers: Line,
    /// When the last heartbeat that was answered had been sent.
    answered_at: Duration,
    tasks: BTreeMap<BatchId, Task>,
    recoveries: BTreeMap<BatchId, Recovery>,
}

impl Worker {
    /// Starts a process.
    pub(super) fn start(env: &mut Environment, node: &'static str) -> Self {
        let instance = env.new_instance();
        env.note(|| format!("{node}: worker {instance} starts"));
        let now = env.now();
        Self {
            node,
            instance,
            stalled_until: now,
            stopped: false,
            beat: Line::default(),
            beat_due: now,
            offers: Line::default(),
            answered_at: now,
            tasks: BTreeMap::new(),
            recoveries: BTreeMap::new(),
        }
    }

    /// The process is gone, wherever it stood.
    pub(super) fn crash(&self, env: &mut Environment) {
        env.note(|| format!("{}: worker {} is killed", self.node, self.instance));
        env.alive.remove(&self.instance);
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

    fn beat(&mut self, env: &mut Environment) {
        if env.now() < self.beat_due {
            return;
        }
        let request = || {
            let held = |(id, task): (&BatchId, &Task)| {
                task.token.clone().map(|token| HeldClaim { batch_id: *id, token, progress: None })
            };
            Request::Heartbeat(HeartbeatRequest {
                node: self.node.into(),
                instance: self.instance,
                fleet: self.node.into(),
                free_slots: u32::try_from(SLOTS.saturating_sub(self.tasks.len())).unwrap(),
                claims: self.tasks.iter().filter_map(held).collect(),
                by_broker: false,
                about: Default::default(),
            })
        };
        let Some(reply) = self.beat.ask(env, request) else { return };
        self.beat_due = env.now() + HEARTBEAT;
        match reply {
            Ok(Reply::Heartbeat(reply)) => {
                self.answered_at = self.beat.asked_at;
                for (ids, stop) in [(&reply.cancel, Stop::Cancelled), (&reply.lost, Stop::Lost)] {
                    for id in ids {
                        if let Some(task) = self.tasks.get_mut(id) {
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

    fn take_offers(&mut self, env: &mut Environment) {
        let free = SLOTS.saturating_sub(self.tasks.len());
        if free == 0 {
            return;
        }
        let (node, instance) = (self.node, self.instance);
        let request = || Request::Offers { fleet: node.into(), node: node.into(), instance, max: free };
        if let Some(Ok(Reply::Offers(offers))) = self.offers.ask(env, request) {
            for offer in offers {
                if self.tasks.len() < SLOTS {
                    self.tasks.entry(offer.batch_id).or_insert_with(|| Task::new(offer));
                }
            }
        }
    }

    fn step_task(&mut self, env: &mut Environment, id: BatchId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        // Without an answer for two thirds of the expiry nothing may be published any more.
        let silent = env.now() - self.answered_at > EXPIRY * 2 / 3;
        if task.step(env, self.node, self.instance, silent) {
            self.tasks.remove(&id);
        }
    }

    fn step_recovery(&mut self, env: &mut Environment, id: BatchId) {
        let Some(recovery) = self.recoveries.get_mut(&id) else { return };
        if recovery.fences(env) {
            // Our own hands are off it too.
            self.tasks.remove(&id);
        }
        if recovery.step(env, self.node) {
            self.recoveries.remove(&id);
        }
    }
}
