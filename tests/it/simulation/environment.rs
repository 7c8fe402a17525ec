//! Everything that workers and clients see: the server behind a bad network, repositories, time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use conveyor::app::clock::{Clock, Entropy};
use conveyor::app::{AppError, Engine, Settings};
use conveyor::domain::fleet::{Repositories, RepositoryRules};
use conveyor::domain::ids::InstanceId;
use conveyor::domain::names::RepositoryName;
use conveyor::store::Store;
use conveyor::store::logs::LogStore;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::bugs::Bug;
use super::checker::Checker;
use super::clock::{ManualClock, SeededEntropy};
use super::executor::{abandon, block_on, overlap};
use super::repository::{Holder, Repository};
use super::transport::{CallError, Called, Fault, Reply, Request, execute};

/// Silence after which a claim is lost.
pub(super) const EXPIRY: Duration = Duration::from_secs(6);
/// How often a worker shows that it lives.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);
/// The repositories, each with the fleet that serves it: that of its one node.
pub(super) const REPOSITORIES: [(&str, &str); 3] = [("a.sim.org", "n1"), ("b.sim.org", "n2"), ("c.sim.org", "n2")];

pub(super) struct Environment {
    pub(super) rng: ChaCha8Rng,
    pub(super) clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
    pub(super) store: Store,
    /// Absent while the server is down.
    engine: Option<Engine>,
    up_at: Duration,
    ticked_at: Duration,
    /// Requests whose callers gave up on them, still on their way.
    delayed: Vec<Request>,
    pub(super) repositories: BTreeMap<RepositoryName, Repository>,
    /// Worker processes that run.
    pub(super) alive: BTreeSet<InstanceId>,
    pub(super) checker: Checker,
    /// Probability that a call meets a fault.
    pub(super) fault_rate: f64,
    /// The bug that was planted, if any.
    pub(super) bug: Option<Bug>,
    pub(super) trace: Option<Vec<String>>,
}

impl Environment {
    pub(super) fn new(seed: u64, bug: Option<Bug>, tracing: bool) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let fault_rate = [0.0, 0.02, 0.1, 0.3][rng.random_range(0..4)];
        let mut environment = Self {
            clock: Arc::default(),
            entropy: Arc::new(SeededEntropy::new(rng.random())),
            store: Store::in_memory().unwrap(),
            engine: None,
            up_at: Duration::ZERO,
            ticked_at: Duration::ZERO,
            delayed: Vec::new(),
            repositories: REPOSITORIES.iter().map(|(name, _)| (name.parse().unwrap(), Repository::default())).collect(),
            alive: BTreeSet::new(),
            checker: Checker::default(),
            fault_rate,
            bug,
            trace: tracing.then(Vec::new),
            rng,
        };
        environment.start_server();
        environment
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        let now = self.now();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9.3} {}", now.as_secs_f64(), line()));
        }
    }

    fn start_server(&mut self) {
        let rules = |fleet: &str| RepositoryRules { fleet: fleet.into(), ..RepositoryRules::default() };
        let repositories: Repositories =
            REPOSITORIES.iter().map(|(name, fleet)| (name.parse().unwrap(), rules(fleet))).collect();
        let settings = Settings {
            claim_expiry: EXPIRY,
            heartbeat: HEARTBEAT,
            offer_ttl: Duration::from_secs(4),
            recovery_limit: Duration::from_secs(20),
            ..Settings::default()
        };
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let entropy = Arc::clone(&self.entropy) as Arc<dyn Entropy>;
        let logs = LogStore::in_memory().unwrap();
        let start = Engine::start(self.store.clone(), logs, None, repositories, clock, entropy, settings);
        self.engine = Some(block_on(start).expect("the server starts"));
        self.ticked_at = self.now();
        self.note(|| "server is up".into());
    }

    pub(super) fn crash_server(&mut self) {
        if self.engine.take().is_some() {
            self.up_at = self.now() + Duration::from_millis(self.rng.random_range(0..4000));
            self.store = self.store.restarted().unwrap();
            self.note(|| "server is down".into());
        }
    }

    /// Lets time pass; the server starts and ticks when it should.
    pub(super) fn pass(&mut self, by: Duration) {
        self.clock.advance(by);
        if self.engine.is_none() && self.now() >= self.up_at {
            self.start_server();
        }
        if let Some(engine) = &self.engine
            && self.now() - self.ticked_at >= Duration::from_millis(500)
        {
            if let Err(error) = block_on(engine.tick()) {
                self.checker.fail(format!("tick: {error:?}"));
            }
            self.ticked_at = self.now();
        }
    }

    pub(super) fn start_server_now(&mut self) {
        self.up_at = Duration::ZERO;
        self.pass(Duration::ZERO);
    }

    /// Sends a request; the network and the server may fail in any way.
    pub(super) fn call(&mut self, request: Request) -> Called {
        let fault = self.chance(self.fault_rate).then(|| Fault::ALL[self.rng.random_range(0..Fault::ALL.len())]);
        self.note(|| format!("{request}  {}", fault.map_or(String::new(), |fault| format!("[{fault:?}]"))));
        let lost = Called::Now(Err(CallError::Network));
        if self.engine.is_none() {
            return lost;
        }
        match fault {
            None => Called::Now(self.serve(request)),
            Some(Fault::DropRequest) => lost,
            Some(Fault::DropReply) => {
                drop(self.serve(request));
                lost
            }
            Some(Fault::Duplicate) => {
                self.delayed.push(request.clone());
                Called::Now(self.serve(request))
            }
            Some(Fault::DelayRequest) => {
                self.delayed.push(request);
                lost
            }
            Some(Fault::DelayReply) => {
                let at = self.now() + Duration::from_millis(self.rng.random_range(0..10_000));
                Called::Later(at, self.serve(request))
            }
            Some(Fault::Overlap) => Called::Now(self.overlap(request)),
            Some(Fault::Abandon) => {
                self.abandon(request);
                lost
            }
            Some(Fault::CrashBefore) => {
                self.crash_server();
                lost
            }
            Some(Fault::CrashInside) => {
                self.abandon(request);
                self.crash_server();
                lost
            }
            Some(Fault::CrashAfter) => {
                drop(self.serve(request));
                self.crash_server();
                lost
            }
        }
    }

    /// Lets the server begin with a request, do something else, and end the request.
    fn overlap(&mut self, request: Request) -> Result<Reply, CallError> {
        let polls = self.rng.random_range(1..4);
        let other = if self.delayed.is_empty() { None } else { Some(self.delayed.swap_remove(0)) };
        self.note(|| format!("    meanwhile: {}", other.as_ref().map_or("tick".into(), Request::to_string)));
        let Some(engine) = self.engine.take() else { return Err(CallError::Network) };
        let (meanwhile, result) = overlap(execute(&engine, request), polls, async {
            match other {
                Some(other) => execute(&engine, other).await.map(drop),
                None => engine.tick().await,
            }
        });
        self.engine = Some(engine);
        if let Err(error) = meanwhile
            && !matches!(error, AppError::Conflict { .. })
        {
            self.checker.fail(format!("the server answers {error:?}"));
        }
        self.answer(result)
    }

    fn abandon(&mut self, request: Request) {
        let polls = self.rng.random_range(1..4);
        if let Some(engine) = &self.engine {
            abandon(execute(engine, request), polls);
        }
    }

    /// Lets the server work on a request.
    fn serve(&mut self, request: Request) -> Result<Reply, CallError> {
        let Some(engine) = &self.engine else { return Err(CallError::Network) };
        let result = block_on(execute(engine, request));
        self.answer(result)
    }

    fn answer(&mut self, result: Result<Reply, AppError>) -> Result<Reply, CallError> {
        let result = match result {
            Ok(reply) => Ok(reply),
            Err(AppError::Conflict { code, .. }) => Err(CallError::Refused(code)),
            Err(error) => {
                self.checker.fail(format!("the server answers {error:?}"));
                Err(CallError::Network)
            }
        };
        self.note(|| match &result {
            Ok(reply) => format!("    -> {reply}"),
            Err(error) => format!("    -> {error:?}"),
        });
        if let Ok(Reply::Offers(offers)) = &result
            && !offers.is_empty()
        {
            let sent = Request::Sent(offers.iter().map(|offer| (offer.batch_id, offer.generation)).collect());
            match self.rng.random_range(0..4) {
                0 if self.fault_rate > 0.0 => self.delayed.push(sent),
                1 if self.fault_rate > 0.0 => {}
                _ => drop(self.serve(sent)),
            }
        }
        result
    }

    /// One of the requests on their way arrives, or is lost.
    pub(super) fn deliver_delayed(&mut self) {
        if self.delayed.is_empty() {
            return;
        }
        let index = self.rng.random_range(0..self.delayed.len());
        let request = self.delayed.swap_remove(index);
        if self.chance(0.8) {
            self.note(|| format!("late: {request}"));
            drop(self.serve(request));
        }
    }

    /// The faults are over, and nothing is on its way any more.
    pub(super) fn calm_down(&mut self) {
        self.note(|| "calm".into());
        self.fault_rate = 0.0;
        self.delayed.clear();
        for repository in self.repositories.values_mut() {
            repository.unreadable = false;
            if repository.holder == Holder::Human {
                repository.holder = Holder::Nobody;
            }
        }
        self.start_server_now();
    }

    pub(super) fn new_instance(&mut self) -> InstanceId {
        let now = self.clock.now();
        let instance = InstanceId(super::clock::uuid_v7(&mut self.rng, now));
        self.alive.insert(instance);
        instance
    }
}
