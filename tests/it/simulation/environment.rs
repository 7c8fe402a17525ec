//! Everything that workers and clients see: the server behind a bad network, repositories, a broker, time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use conveyor::app::clock::{Clock, Entropy};
use conveyor::app::{AppError, Broken, Engine, Settings};
use conveyor::domain::fleet::{Repositories, RepositoryRules};
use conveyor::domain::ids::InstanceId;
use conveyor::domain::names::RepositoryName;
use conveyor::domain::plan::BatchLimits;
use conveyor::domain::visible::VisibleUrls;
use conveyor::planted;
use conveyor::store::logs::LogStore;
use conveyor::store::{Store, StoreError};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::broker::{Broker, Fate};
use super::bugs::{Bug, WorkerBug};
use super::checker::Checker;
use super::client::DEADLINE_PASSED;
use super::clock::{ManualClock, SeededEntropy};
use super::executor::{abandon, block_on, overlap};
use super::replicas::Replicas;
use super::repository::Repository;
use super::transport::{CallError, Called, Fault, Reply, Request, execute, is_unknown};

/// Silence after which a claim is lost.
pub(super) const EXPIRY: Duration = Duration::from_secs(6);
/// How often a worker shows that it lives.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often the server looks at the time.
const TICK: Duration = Duration::from_millis(500);
/// How often the server declares its queues.
const DECLARE_EVERY: Duration = Duration::from_secs(5);
/// The nodes, each with its fleet.
pub(super) const NODES: [(&str, &str); 4] = [("n1", "n1"), ("n2", "n2"), ("n3", "shared"), ("n4", "shared")];
/// The repositories, each with the fleet that serves it, and whether there is a gateway: only then has it several nodes.
const REPOSITORIES: [(&str, &str, bool); 4] =
    [("a.sim.org", "n1", false), ("b.sim.org", "n2", false), ("c.sim.org", "n2", false), ("g.sim.org", "shared", true)];

pub(super) fn repository_names() -> impl Iterator<Item = RepositoryName> {
    REPOSITORIES.iter().map(|(name, ..)| name.parse().unwrap())
}

/// Tells whether disjoint lease paths of a repository may be published at the same time.
pub(super) fn is_gateway(repository: &RepositoryName) -> bool {
    REPOSITORIES.iter().any(|(name, _, gateway)| *gateway && repository.as_str() == *name)
}

pub(super) struct Environment {
    pub(super) rng: ChaCha8Rng,
    pub(super) clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
    pub(super) store: Store,
    /// Absent while the server is down.
    pub(super) engine: Option<Engine>,
    /// A server that led before and does not know yet that it does no more.
    former: Option<Engine>,
    up_at: Duration,
    pub(super) frozen_until: Duration,
    ticked_at: Duration,
    /// Requests whose callers gave up on them, still on their way.
    pub(super) delayed: Vec<Request>,
    pub(super) repositories: BTreeMap<RepositoryName, Repository>,
    pub(super) broker: Broker,
    pub(super) replicas: Replicas,
    /// Nodes that do not reach the server, and until when.
    pub(super) partitioned: BTreeMap<&'static str, Duration>,
    /// Worker processes that run.
    pub(super) alive: BTreeSet<InstanceId>,
    pub(super) checker: Checker,
    /// Probability that a call meets a fault.
    pub(super) fault_rate: f64,
    /// Probability that a worker takes its offers from the broker.
    pub(super) by_broker: f64,
    /// Most jobs of a batch.
    batch_jobs: usize,
    /// When the server declares its queues next.
    declares_at: Duration,
    /// The bug that was planted, if any.
    bug: Option<Bug>,
    pub(super) trace: Option<Vec<String>>,
}

impl Environment {
    pub(super) fn new(seed: u64, bug: Option<Bug>, tracing: bool) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let fault_rate = [0.0, 0.02, 0.1, 0.3][rng.random_range(0..4)];
        let by_broker = [0.0, 0.5, 1.0][rng.random_range(0..3)];
        let batch_jobs = [1, 3, 100][rng.random_range(0..3)];
        let repository = |gateway| Repository { gateway, ..Repository::default() };
        let mut environment = Self {
            clock: Arc::default(),
            entropy: Arc::new(SeededEntropy::new(rng.random())),
            store: Store::in_memory().unwrap(),
            engine: None,
            former: None,
            up_at: Duration::ZERO,
            frozen_until: Duration::ZERO,
            ticked_at: Duration::ZERO,
            delayed: Vec::new(),
            repositories: REPOSITORIES.iter().map(|(name, _, gw)| (name.parse().unwrap(), repository(*gw))).collect(),
            broker: Broker::default(),
            replicas: Replicas::default(),
            partitioned: BTreeMap::new(),
            alive: BTreeSet::new(),
            checker: Checker::default(),
            fault_rate,
            by_broker,
            batch_jobs,
            declares_at: Duration::ZERO,
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

    pub(super) fn has(&self, bug: WorkerBug) -> bool {
        self.bug == Some(Bug::Worker(bug))
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        let now = self.now();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9.3} {}", now.as_secs_f64(), line()));
        }
    }

    fn start_server(&mut self) {
        let rules = |(name, fleet, gateway): &(&str, &str, bool)| {
            let batch_root = gateway.then(|| "/c".parse().unwrap());
            (
                name.parse().unwrap(),
                RepositoryRules { fleet: (*fleet).into(), gateway: *gateway, batch_root, ..RepositoryRules::default() },
            )
        };
        let repositories: Repositories = REPOSITORIES.iter().map(rules).collect();
        let settings = Settings {
            claim_expiry: EXPIRY,
            heartbeat: HEARTBEAT,
            offer_ttl: Duration::from_secs(4),
            recovery_limit: Duration::from_secs(20),
            visible_urls: VisibleUrls::all(),
            batches: BatchLimits { jobs: self.batch_jobs, ..BatchLimits::default() },
            ..Settings::default()
        };
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let entropy = Arc::clone(&self.entropy) as Arc<dyn Entropy>;
        let logs = LogStore::in_memory().unwrap();
        let start = Engine::start(self.store.clone(), logs, None, repositories, clock, entropy, settings);
        self.engine = Some(block_on(start).expect("the server starts"));
        self.ticked_at = self.now();
        self.checker.ledger.begin_anew(self.now());
        self.note(|| "server is up".into());
    }

    pub(super) fn crash_server(&mut self) {
        if let Some(engine) = self.engine.take() {
            self.up_at = self.now() + Duration::from_millis(self.rng.random_range(0..4000));
            self.frozen_until = Duration::ZERO;
            self.store = self.store.restarted().unwrap();
            // Or it only seems to be: another one leads from now on.
            self.former = self.chance(0.3).then_some(engine);
            self.note(|| "server is down".into());
        }
    }

    /// Lets time pass; the server starts, ticks and sends when it should.
    pub(super) fn pass(&mut self, by: Duration) {
        self.clock.advance(by);
        if self.engine.is_none() && self.now() >= self.up_at {
            self.start_server();
        }
        let now = self.now();
        if now < self.frozen_until || now - self.ticked_at < TICK {
            return;
        }
        let Some(engine) = self.engine.take() else { return };
        let stood_still = now - self.ticked_at > EXPIRY / 2;
        match self.disk_full(|| block_on(engine.tick())) {
            Ok(()) => {
                if stood_still {
                    self.checker.ledger.begin_anew(now);
                }
                self.checker.observe(now, &self.store);
                if let Some(why) = self.checker.ledger.overdue(now) {
                    self.checker.fail(why);
                }
            }
            Err(AppError::Store(StoreError::Full { .. })) => {
                if stood_still {
                    self.checker.ledger.begin_anew(now);
                }
            }
            Err(error) => self.checker.fail(format!("tick: {error:?}")),
        }
        self.ticked_at = now;
        self.send_offers(&engine);
        self.ask_replicas(&engine);
        self.engine = Some(engine);
    }

    /// Now and then, the next commit meets a full disk.
    pub(super) fn disk_full<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let fails = self.fault_rate > 0.0 && self.chance(0.02);
        planted::fail_commit(fails);
        let result = work();
        planted::fail_commit(false);
        result
    }

    /// The server sends offers to the broker, as far as there is one.
    fn send_offers(&mut self, engine: &Engine) {
        if self.broker.is_down() {
            return;
        }
        if self.now() >= self.declares_at {
            self.broker.declare(NODES.iter().map(|(_, fleet)| *fleet));
            self.declares_at = self.now() + DECLARE_EVERY;
        }
        let faulty = self.chance(self.fault_rate);
        let fate = if faulty {
            [Fate::Lost, Fate::ConfirmLost, Fate::Twice][self.rng.random_range(0..3)]
        } else {
            Fate::Confirmed
        };
        self.broker.set_fate(fate);
        for (_, fleet) in NODES {
            if faulty && self.chance(0.3) {
                // The connection breaks on the way.
                abandon(engine.send_unsent(fleet, &self.broker), self.rng.random_range(1..6));
                continue;
            }
            match block_on(engine.send_unsent(fleet, &self.broker)) {
                Ok(_) => {}
                // It declares, or connects anew, which does too.
                Err(Broken::Broker(_)) => self.declares_at = Duration::ZERO,
                Err(error) => self.checker.fail(format!("sending offers: {error:?}")),
            }
        }
    }

    pub(super) fn start_server_now(&mut self) {
        (self.up_at, self.frozen_until) = (Duration::ZERO, Duration::ZERO);
        self.pass(Duration::ZERO);
    }

    /// Sends a request from a node, or from a client; the network and the server may fail in any way.
    pub(super) fn call(&mut self, from: Option<&str>, request: Request) -> Called {
        let fault = self.chance(self.fault_rate).then(|| Fault::ALL[self.rng.random_range(0..Fault::ALL.len())]);
        self.note(|| format!("{request}  {}", fault.map_or(String::new(), |fault| format!("[{fault:?}]"))));
        let lost = Called::Now(Err(CallError::Network));
        if self.former.is_some() && self.chance(0.05) {
            self.ask_former(request);
            return lost;
        }
        let now = self.now();
        let cut = from.and_then(|node| self.partitioned.get(node)).is_some_and(|until| now < *until);
        if self.engine.is_none() || now < self.frozen_until || cut {
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
                self.abandon(&request);
                lost
            }
            Some(Fault::CrashBefore) => {
                self.crash_server();
                lost
            }
            Some(Fault::CrashInside) => {
                self.abandon(&request);
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
        self.touched(&request);
        other.iter().for_each(|other| self.touched(other));
        let ticks = other.is_none();
        let (meanwhile, result) = overlap(execute(&engine, request), polls, async {
            match other {
                Some(other) => execute(&engine, other).await.map(drop),
                None => engine.tick().await,
            }
        });
        self.engine = Some(engine);
        if ticks {
            if self.now() - self.ticked_at > EXPIRY / 2 {
                self.checker.ledger.begin_anew(self.now());
            }
            self.ticked_at = self.now();
        }
        if let Err(error) = meanwhile
            && !matches!(error, AppError::Conflict { .. } | AppError::Invalid { code: DEADLINE_PASSED, .. })
        {
            self.checker.fail(format!("the server answers {error:?}"));
        }
        self.answer(result)
    }

    fn abandon(&mut self, request: &Request) {
        self.touched(request);
        let polls = self.rng.random_range(1..4);
        if let Some(engine) = &self.engine {
            abandon(execute(engine, request.clone()), polls);
        }
        self.observe();
        self.touched(request);
    }

    /// Notes what a request may show the server, whatever becomes of it.
    fn touched(&mut self, request: &Request) {
        let (now, ledger) = (self.now(), &mut self.checker.ledger);
        match request {
            Request::Claim(id, claim) => ledger.renewed(now, *id, claim.instance, false),
            Request::Heartbeat(beat) => {
                ledger.heard(&beat.node, beat.instance);
                beat.claims.iter().for_each(|held| ledger.renewed(now, held.batch_id, beat.instance, false));
            }
            Request::Outcome(id, outcome) if is_unknown(outcome) => ledger.unknown(*id),
            _ => {}
        }
    }

    /// Lets the server work on a request, and judges what it does.
    fn serve(&mut self, request: Request) -> Result<Reply, CallError> {
        let now = self.now();
        self.observe();
        let Some(engine) = self.engine.take() else { return Err(CallError::Network) };
        let before = self.row_before(&request);
        let result = self.disk_full(|| block_on(execute(&engine, request.clone())));
        self.engine = Some(engine);
        let refused_life =
            matches!((&request, &result), (Request::Heartbeat(_), Err(AppError::Conflict { code: "superseded", .. })));
        if !refused_life {
            self.touched(&request);
        }
        self.observe();
        let result = self.answer(result);
        if let Some(before) = before {
            self.checker.check(request.judge(&before, &result));
        }
        match (&request, &result) {
            (Request::Heartbeat(beat), Ok(_)) => {
                for held in &beat.claims {
                    self.checker.ledger.renewed(now, held.batch_id, beat.instance, true);
                }
            }
            (Request::Claim(id, claim), Ok(_)) => self.checker.ledger.renewed(now, *id, claim.instance, true),
            _ => {}
        }
        result
    }

    fn row_before(&self, request: &Request) -> Option<conveyor::domain::batch::Batch> {
        let id = request.judged_batch()?;
        block_on(self.store.read::<_, StoreError, _>(move |db| db.batch(id))).expect("the store can be read")
    }

    pub(super) fn observe(&mut self) {
        self.checker.observe(self.clock.monotonic(), &self.store);
    }

    fn answer(&mut self, result: Result<Reply, AppError>) -> Result<Reply, CallError> {
        let result = match result {
            Ok(reply) => Ok(reply),
            Err(AppError::Conflict { code, .. } | AppError::Invalid { code: code @ DEADLINE_PASSED, .. }) => {
                Err(CallError::Refused(code))
            }
            Err(AppError::Store(StoreError::Full { .. })) => Err(CallError::Network),
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

    /// One of the requests on their way arrives, or is lost; maybe at a server that led when it was sent.
    pub(super) fn deliver_delayed(&mut self) {
        if self.delayed.is_empty() {
            return;
        }
        let index = self.rng.random_range(0..self.delayed.len());
        let request = self.delayed.swap_remove(index);
        if !self.chance(0.8) {
            return;
        }
        if self.former.is_some() && self.chance(0.5) {
            return self.ask_former(request);
        }
        if self.now() >= self.frozen_until {
            self.note(|| format!("late: {request}"));
            drop(self.serve(request));
        }
    }

    /// A server that no longer leads may answer, and must change nothing.
    fn ask_former(&mut self, request: Request) {
        let Some(former) = self.former.take() else { return };
        self.observe();
        let before = self.checker.events_seen();
        let result = block_on(execute(&former, request.clone()));
        self.note(|| format!("to a former leader: {request} -> {:?}", result.as_ref().map(|reply| reply.to_string())));
        self.checker.look(self.clock.monotonic(), &self.store);
        if self.checker.events_seen() != before {
            self.checker.fail(format!("a server that no longer leads changed something: {request}"));
        }
        self.former = Some(former);
    }

    /// The faults are over, and nothing is on its way any more.
    pub(super) fn calm_down(&mut self) {
        self.note(|| "calm".into());
        self.fault_rate = 0.0;
        self.delayed.clear();
        self.partitioned.clear();
        self.former = None;
        self.replicas.calm = true;
        self.broker.set_down(false);
        for repository in self.repositories.values_mut() {
            (repository.unreadable, repository.human) = (false, false);
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
