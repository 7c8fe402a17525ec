//! One schedule: chaos first, then calm, in which everything must come to its end.

use std::time::Duration;

use rand::RngExt;

use super::bugs::Bug;
use super::checker::Violation;
use super::client::Client;
use super::environment::Environment;
use super::worker::Worker;

/// Random steps of a schedule.
const CHAOS: usize = 350;
/// Rounds after which everything must have ended.
const CALM: usize = 2000;
const NODES: [&str; 2] = ["n1", "n2"];

/// What happened, summed up.
#[derive(Debug, Clone, Default)]
pub(super) struct Stats {
    pub(super) schedules: usize,
    pub(super) jobs: usize,
    pub(super) published: usize,
    pub(super) calm_rounds: usize,
}

impl Stats {
    pub(super) fn add(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.jobs += other.jobs;
        self.published += other.published;
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
            let pause = self.env.rng.random_range(0..400);
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
        self.env.checker.finish(&self.env.store);
        self.verdict()?;
        if !self.is_over() {
            return Err("two workers of a node go on for ever".into());
        }
        let published = self.env.repositories.values().map(|repository| repository.chain.len()).sum();
        Ok(Stats { schedules: 1, jobs: self.env.checker.accepted.len(), published, calm_rounds })
    }

    /// One random thing happens.
    fn disturb(&mut self) {
        let env = &mut self.env;
        let faults = env.fault_rate > 0.0;
        match env.rng.random_range(0..1000) {
            0..60 => self.client.submit(env),
            60..90 => self.client.interfere(env),
            90..130 => env.deliver_delayed(),
            130..160 if faults => env.disturb_repository(),
            160..163 if faults => env.crash_server(),
            163..175 if faults => self.crash_worker(),
            175..180 => self.start_second_worker(),
            180..188 if faults => self.stall_worker(),
            188..194 if faults => {
                let furthest = [5_000, 900_000, 40 * 86_400_000][env.rng.random_range(0..3)];
                let jump = env.rng.random_range(-furthest..furthest);
                env.note(|| format!("the time of day jumps by {jump} ms"));
                env.clock.jump(jump);
            }
            194..196 if faults => self.quiet(),
            _ => self.step_worker(),
        }
    }

    fn step_worker(&mut self) {
        for node in NODES {
            if !self.workers.iter().any(|worker| worker.node == node) && self.env.chance(0.1) {
                self.workers.push(Worker::start(&mut self.env, node));
            }
        }
        if let Some(index) = self.any_worker() {
            self.workers[index].step(&mut self.env);
            self.workers.retain(|worker| !worker.stopped);
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
        if let Some(index) = self.any_worker().filter(|_| self.workers.len() < 4) {
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
        let one_each = NODES.iter().all(|node| self.workers.iter().filter(|worker| worker.node == *node).count() <= 1);
        one_each && self.client.plan.is_empty() && self.env.checker.all_ended()
    }

    /// Everybody does what they should.
    fn calm_round(&mut self) -> Result<(), Violation> {
        for node in NODES {
            if !self.workers.iter().any(|worker| worker.node == node) {
                self.workers.push(Worker::start(&mut self.env, node));
            }
        }
        let idle = self.workers.iter().all(Worker::is_idle);
        self.pass(Duration::from_millis(if idle { 2000 } else { 300 }))?;
        self.client.submit(&mut self.env);
        self.check()?;
        for worker in &mut self.workers {
            worker.stalled_until = Duration::ZERO;
            worker.step_all(&mut self.env);
            self.env.checker.observe(&self.env.store);
        }
        self.workers.retain(|worker| !worker.stopped);
        self.verdict()
    }

    fn pass(&mut self, by: Duration) -> Result<(), Violation> {
        self.env.pass(by);
        self.check()
    }

    fn check(&mut self) -> Result<(), Violation> {
        self.env.checker.observe(&self.env.store);
        self.verdict()
    }

    fn verdict(&self) -> Result<(), Violation> {
        self.env.checker.violation.clone().map_or(Ok(()), Err)
    }
}
