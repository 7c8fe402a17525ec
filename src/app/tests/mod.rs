//! Use cases on a database in memory and a clock that is moved by hand.

#![allow(clippy::unwrap_used)]

mod batches;
mod clock_jumps;
mod damage;
mod fleets;
mod holds;
mod resolve;
mod retention;
mod unchanged;
mod visible;
mod workers;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::clock::{Clock, Entropy, SystemEntropy};
use super::{Engine, Settings};
use crate::domain::access::{Roles, TokenId};
use crate::domain::batch::Intent;
use crate::domain::fleet::{Repositories, RepositoryRules};
use crate::domain::ids::{BatchId, InstanceId, JobId};
use crate::domain::job::event::JobEvent;
use crate::domain::job::spec::JobSpec;
use crate::domain::outcome::{Finding, JobOutcome, Outcome};
use crate::domain::plan::BatchLimits;
use crate::domain::protocol::{
    ClaimRequest, FindingRequest, HeartbeatRequest, IntentRequest, NewToken, OutcomeRequest,
};
use crate::domain::token::Token;
use crate::store::Store;
use crate::store::logs::LogStore;

const REPOSITORY: &str = "a.example.org";
const OTHER: &str = "b.example.org";
const NODE: &str = "n1";

/// Time that passes when a test says so; the time of day can also jump.
#[derive(Default)]
struct ManualClock {
    monotonic_ms: AtomicU64,
    of_day_ms: AtomicI64,
}

impl ManualClock {
    fn pass(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap();
        self.monotonic_ms.fetch_add(ms, Ordering::SeqCst);
        self.jump(i64::try_from(ms).unwrap());
    }

    fn jump(&self, ms: i64) {
        self.of_day_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        start + SignedDuration::from_millis(self.of_day_ms.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::SeqCst))
    }
}

/// A server's engine, and one worker's view of it.
struct Rig {
    engine: Engine,
    clock: Arc<ManualClock>,
    instance: InstanceId,
}

/// A claim that the worker holds.
struct Held {
    job: JobId,
    batch: BatchId,
    token: String,
    attempt: u32,
}

fn repositories(fleet: &str) -> Repositories {
    let rules = || RepositoryRules { fleet: fleet.into(), ..RepositoryRules::default() };
    [(REPOSITORY.parse().unwrap(), rules()), (OTHER.parse().unwrap(), rules())].into()
}

impl Rig {
    async fn new() -> Self {
        Self::on(Store::in_memory().unwrap(), "default").await
    }

    /// One job a batch, so that each is claimed by itself.
    async fn on(store: Store, fleet: &str) -> Self {
        let batches = BatchLimits { jobs: 1, ..BatchLimits::default() };
        Self::with(store, repositories(fleet), Settings { batches, ..Settings::default() }).await
    }

    async fn with(store: Store, repositories: Repositories, settings: Settings) -> Self {
        let clock = Arc::new(ManualClock::default());
        let logs = LogStore::in_memory().unwrap();
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let shared = Arc::clone(&clock) as Arc<dyn Clock>;
        let engine = Engine::start(store, logs, None, repositories, shared, entropy, settings);
        Self { engine: engine.await.unwrap(), clock, instance: InstanceId(Uuid::now_v7()) }
    }

    async fn submit(&self) -> JobId {
        self.submit_to(REPOSITORY, &[]).await
    }

    async fn submit_to(&self, repository: &str, depends_on: &[JobId]) -> JobId {
        let id = JobId(Uuid::now_v7());
        let dependencies: Vec<_> = depends_on.iter().map(|id| serde_json::json!({"job_id": id})).collect();
        let spec: JobSpec = serde_json::from_value(serde_json::json!({
            "id": id, "name": "one", "attempts": 3, "dependencies": dependencies,
            "work": {"kind": "publish", "repository": repository, "payload": {"type": "empty"}},
        }))
        .unwrap();
        self.engine.submit(None, vec![spec]).await.unwrap();
        id
    }

    /// Makes an admin's token.
    async fn token(&self, id: &str, expires_at: Option<Timestamp>) -> Token {
        let id = TokenId::new(id).unwrap();
        let token = Token::assemble(&id, &"5e".repeat(32)).unwrap();
        let (name, roles, sha256) = (None, Roles::admin(), token.digest());
        let new = NewToken { id, name, roles, sha256, note: String::new(), expires_at };
        self.engine.create_token(new, &TokenId::bootstrap().into()).await.unwrap();
        token
    }

    /// Changes rows as nothing of ours would.
    async fn tamper(&self, sql: &'static str) {
        let changed = self.engine.store().write(move |tx| tx.tamper(sql)).await.unwrap();
        assert_eq!(changed, 1, "{sql}");
    }

    async fn tick(&self) {
        self.engine.tick().await.unwrap();
    }

    async fn claim(&self, fleet: &str) -> Held {
        let offers = self.engine.take_offers(fleet, NODE, self.instance, 1).await.unwrap();
        let offer = &offers[0];
        let request = ClaimRequest { generation: offer.generation, node: NODE.into(), instance: self.instance };
        let reply = self.engine.claim(offer.batch_id, request).await.unwrap();
        let job = &reply.jobs[0];
        Held { job: job.spec.id, batch: offer.batch_id, token: reply.token, attempt: job.attempt }
    }

    async fn permit(&self, held: &Held) {
        let intent =
            Intent { base_revision: 6, base_root_hash: "ab".repeat(20), changed_paths_digest: "cd".repeat(32) };
        self.engine.intent(held.batch, IntentRequest { token: held.token.clone(), intent }).await.unwrap();
    }

    async fn report(&self, held: &Held, outcome: Outcome) {
        let jobs = vec![JobOutcome { job_id: held.job, attempt: held.attempt, outcome }];
        let request = OutcomeRequest { token: held.token.clone(), jobs, signed: None };
        self.engine.outcome(held.batch, request).await.unwrap();
    }

    async fn found(&self, held: &Held, finding: Finding) {
        self.engine.finding(held.batch, FindingRequest { node: NODE.into(), finding, signed: None }).await.unwrap();
    }

    async fn unreadable(&self, held: &Held) {
        self.found(held, Finding::Unreadable { reason: "no manifest".into() }).await;
    }

    /// A batch whose worker was lost on its way, and that nobody can find out about.
    async fn unclear(&self, permitted: bool) -> Held {
        self.submit().await;
        let held = self.claim("default").await;
        if permitted {
            self.permit(&held).await;
        }
        self.report(&held, Outcome::Unknown { reason: "lost".into() }).await;
        self.unreadable(&held).await;
        self.clock.pass(Settings::default().recovery_limit);
        self.unreadable(&held).await;
        held
    }

    /// The batches that the worker's heartbeat asks it to look for.
    async fn asked(&self) -> Vec<BatchId> {
        let request = HeartbeatRequest {
            node: NODE.into(),
            instance: self.instance,
            fleet: "default".into(),
            free_slots: 1,
            claims: Vec::new(),
            by_broker: false,
            about: Default::default(),
        };
        self.engine.heartbeat(request).await.unwrap().recover.iter().map(|batch| batch.batch_id).collect()
    }

    async fn state(&self, id: JobId) -> &'static str {
        self.engine.job(id).await.unwrap().state.as_str()
    }

    async fn story(&self, id: JobId) -> Vec<JobEvent> {
        self.engine.store().read(move |db| db.story(id)).await.unwrap()
    }

    /// What late evidence said, of all that is in a job's story.
    async fn contradictions(&self, id: JobId) -> Vec<String> {
        let story = self.story(id).await.into_iter();
        story
            .filter_map(|event| match event {
                JobEvent::Contradicted { evidence, .. } => Some(evidence),
                _ => None,
            })
            .collect()
    }

    async fn assert_sound(&self) {
        let damaged = self.engine.store().read(|db| db.damaged_jobs()).await.unwrap();
        assert!(damaged.is_empty(), "{damaged:?}");
    }
}
