//! One schedule: chaos first, then calm, in which everything must come to its end.

use std::time::Duration;

use rand::RngExt;

use super::bugs::Bug;
use super::checker::Violation;
use super::client::Client;
use super::environment::{Environment, NODES};
use super::worker::Worker;

/// Random steps of a schedule.
const CHAOS: usize = 500;
/// Rounds after which everything must have ended.
const CALM: usize = 2000;
/// Worker processes at the same time, two of one node among them.
const WORKERS: usize = 6;

/// What happened, summed up.
#[derive(Debug, Clone, Default)]
pub(super) struct Stats {
    pub(super) schedules: usize,
    pub(super) jobs: usize,
    pub(super) published: usize,
    pub(super) events: u64,
    pub(super) largest_batch: usize,
    pub(super) calm_rounds: usize,
}

impl Stats {
    pub(super) fn add(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.jobs += other.jobs;
        self.published += other.published;
        self.events += other.events;
        self.largest_batch = self.largest_batch.max(other.largest_batch);
        self.calm_rounds += other.calm_rounds;
    }
}

pub(super) struct World {
    env: Environment,
    workers: Vec<Worker>,
    client: Client,
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>, tracing: bool) -> Self {
        let mut env = Environment::new(seed, bug, tracing);
        let client = Client::new(&mut env);
        Self { env, workers: Vec::new(), client }
    }

    pub(super) fn trace(&self) -> &[String] {
        self.env.trace.as_deref().unwrap_or_default()
    }

    pub(super) fn run(&mut self) -> Result<Stats, Violation> {
        for _ in 0..CHAOS {
            let pause = self.env.rng.random_range(0..300);
            self.pass(Duration::from_millis(pause))?;
            self.disturb();
            self.check()?;
        }
        self.env.calm_down();
        self.check()?;
        let mut calm_rounds = 0;
        while calm_rounds < CALM && !self.is_over() {
            self.calm_round()?;
            calm_rounds += 1;
        }
        let now = self.env.now();
        self.env.checker.finish(now, &self.env.store);
        self.verdict()?;
        if !self.is_over() {
            return Err("two workers of a node go on for ever".into());
        }
        let published = self.env.repositories.values().map(|repository| repository.chain.len()).sum();
        Ok(Stats {
            schedules: 1,
            jobs: self.env.checker.accepted.len(),
            published,
            events: self.env.checker.events_seen(),
            largest_batch: self.env.checker.largest_batch(),
            calm_rounds,
        })
    }

    /// One random thing happens.
    fn disturb(&mut self) {
        let env = &mut self.env;
        let faults = env.fault_rate > 0.0;
        match env.rng.random_range(0..1000) {
            0..50 => self.client.submit(env),
            50..80 => self.client.interfere(env),
            80..120 => env.deliver_delayed(),
            120..145 if faults => env.disturb_repository(),
            145..155 if faults => env.disturb_broker(),
            155..158 if faults => env.crash_server(),
            158..161 if faults => env.freeze_server(),
            161..164 if faults => env.partition(),
            164..176 if faults => self.crash_worker(),
            176..181 => self.start_second_worker(),
            181..189 if faults => self.stall_worker(),
            189..195 if faults => {
                let furthest = [5_000, 900_000, 40 * 86_400_000][env.rng.random_range(0..3)];
                let jump = env.rng.random_range(-furthest..furthest);
                env.note(|| format!("the time of day jumps by {jump} ms"));
                env.clock.jump(jump);
            }
            195..197 if faults => self.quiet(),
            _ => self.step_worker(),
        }
    }

    fn step_worker(&mut self) {
        for (node, _) in NODES {
            if !self.workers.iter().any(|worker| worker.node == node) && self.env.chance(0.1) {
                self.workers.push(Worker::start(&mut self.env, node));
            }
        }
        // Nodes work side by side: what takes one of them a step leaves the others theirs.
        for _ in 0..2 {
            if let Some(index) = self.any_worker() {
                self.workers[index].step(&mut self.env);
                self.workers.retain(|worker| !worker.stopped);
            }
        }
    }

    fn any_worker(&mut self) -> Option<usize> {
        (!self.workers.is_empty()).then(|| self.env.rng.random_range(0..self.workers.len()))
    }

    fn crash_worker(&mut self) {
        if let Some(index) = self.any_worker() {
            self.workers.swap_remove(index).crash(&mut self.env);
        }
    }

    fn stall_worker(&mut self) {
        if let Some(index) = self.any_worker() {
            let until = self.env.now() + Duration::from_millis(self.env.rng.random_range(0..15_000));
            let instance = self.workers[index].instance;
            self.env.note(|| format!("worker {instance} stalls until {until:?}"));
            self.workers[index].stalled_until = until;
        }
    }

    /// A worker starts while the older one of its node still runs.
    fn start_second_worker(&mut self) {
        if let Some(index) = self.any_worker().filter(|_| self.workers.len() < WORKERS) {
            let node = self.workers[index].node;
            self.workers.push(Worker::start(&mut self.env, node));
        }
    }

    /// Only the server does anything for a while.
    fn quiet(&mut self) {
        for _ in 0..self.env.rng.random_range(1..12) {
            self.env.pass(Duration::from_secs(1));
        }
    }

    /// Tells whether there is nothing left to wait for; of two workers of a node only one may go on.
    fn is_over(&self) -> bool {
        let of = |node: &str| self.workers.iter().filter(|worker| worker.node == node).count();
        let one_each = NODES.iter().all(|(node, _)| of(node) <= 1);
        one_each && self.client.plan.is_empty() && self.env.checker.all_ended()
    }

    /// Everybody does what they should.
    fn calm_round(&mut self) -> Result<(), Violation> {
        for (node, _) in NODES {
            if !self.workers.iter().any(|worker| worker.node == node) {
                self.workers.push(Worker::start(&mut self.env, node));
            }
        }
        let idle = self.env.broker.is_empty() && self.workers.iter().all(Worker::is_idle);
        self.pass(Duration::from_millis(if idle { 2000 } else { 300 }))?;
        self.client.submit(&mut self.env);
        self.check()?;
        for worker in &mut self.workers {
            worker.stalled_until = Duration::ZERO;
            worker.step_all(&mut self.env);
            self.env.observe();
        }
        self.workers.retain(|worker| !worker.stopped);
        self.verdict()
    }

    fn pass(&mut self, by: Duration) -> Result<(), Violation> {
        self.env.pass(by);
        self.check()
    }

    fn check(&mut self) -> Result<(), Violation> {
        self.env.observe();
        self.verdict()
    }

    fn verdict(&self) -> Result<(), Violation> {
        self.env.checker.violation.clone().map_or(Ok(()), Err)
    }
}
