//! Single facts about the engine, staged by hand.

use std::sync::Arc;
use std::time::Duration;

use conveyor::app::clock::Clock;
use conveyor::app::{Engine, Settings};
use conveyor::domain::batch::Intent;
use conveyor::domain::fleet::{Repositories, RepositoryRules};
use conveyor::domain::ids::{InstanceId, JobId};
use conveyor::domain::job::spec::JobSpec;
use conveyor::domain::job::state::StateKind;
use conveyor::domain::outcome::{JobOutcome, Outcome};
use conveyor::domain::plan::BatchLimits;
use conveyor::domain::protocol::{ClaimReply, ClaimRequest, HeartbeatRequest, IntentRequest, Offer, OutcomeRequest};
use conveyor::store::Store;
use conveyor::store::logs::LogStore;

use super::clock::{ManualClock, SeededEntropy};
use super::executor::block_on;

/// A server with some repositories of one fleet, and its one worker.
struct Tester {
    engine: Engine,
    clock: Arc<ManualClock>,
    instance: InstanceId,
}

fn uuid(number: usize) -> uuid::Uuid {
    uuid::Builder::from_unix_timestamp_millis(1_772_000_000_000 + number as u64, &[0; 10]).into_uuid()
}

impl Tester {
    fn new(repositories: usize) -> Self {
        let name = |number| format!("r{number}.example.org").parse().unwrap();
        let repositories: Repositories =
            (0..repositories).map(|number| (name(number), RepositoryRules::default())).collect();
        let (clock, entropy) = (Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(1)));
        let (store, logs) = (Store::in_memory().unwrap(), LogStore::in_memory().unwrap());
        let engine = block_on(Engine::start(
            store,
            logs,
            None,
            repositories,
            Arc::clone(&clock) as Arc<dyn Clock>,
            entropy,
            // One job a batch, so that each is claimed by itself.
            Settings { batches: BatchLimits { jobs: 1, ..BatchLimits::default() }, ..Settings::default() },
        ))
        .unwrap();
        Self { engine, clock, instance: InstanceId(uuid(0)) }
    }

    fn submit(&self, number: usize, repository: usize) {
        let spec: JobSpec = serde_json::from_value(serde_json::json!({
            "id": uuid(number),
            "name": format!("job {number}"),
            "work": {
                "kind": "publish",
                "repository": format!("r{repository}.example.org"),
                "payload": {"type": "empty"},
            },
        }))
        .unwrap();
        block_on(self.engine.submit(None, vec![spec])).unwrap();
    }

    /// The worker, with one free slot, takes one offer and claims it.
    fn claim(&self) -> Option<(Offer, ClaimReply)> {
        self.clock.advance(Duration::from_millis(10));
        let beat = HeartbeatRequest {
            node: "n".into(),
            instance: self.instance,
            fleet: "default".into(),
            free_slots: 1,
            claims: vec![],
            by_broker: false,
            about: Default::default(),
        };
        block_on(self.engine.heartbeat(beat)).unwrap();
        let offers = block_on(self.engine.take_offers("default", "n", self.instance, 1)).unwrap();
        let offer = offers.into_iter().next()?;
        let request = ClaimRequest { generation: offer.generation, node: "n".into(), instance: self.instance };
        let claim = block_on(self.engine.claim(offer.batch_id, request)).unwrap();
        Some((offer, claim))
    }

    fn permit(&self, offer: &Offer, claim: &ClaimReply) {
        let intent = Intent { base_revision: 1, base_root_hash: String::new(), changed_paths_digest: String::new() };
        block_on(self.engine.intent(offer.batch_id, IntentRequest { token: claim.token.clone(), intent })).unwrap();
    }

    fn report(&self, offer: &Offer, claim: &ClaimReply, outcome: Outcome) {
        let job = &offer.jobs[0];
        let jobs = vec![JobOutcome { job_id: job.job_id, attempt: job.attempt, outcome }];
        block_on(
            self.engine.outcome(offer.batch_id, OutcomeRequest { token: claim.token.clone(), jobs, signed: None }),
        )
        .unwrap();
    }

    fn state(&self, number: usize) -> StateKind {
        block_on(self.engine.job(JobId(uuid(number)))).unwrap().state
    }
}

#[test]
fn the_repository_whose_job_waits_longest_is_served_first() {
    let tester = Tester::new(6);
    let repository = |number: usize| number * 5 % 6;
    (0..18).for_each(|number| tester.submit(number, repository(number)));
    let mut served = Vec::new();
    while let Some((offer, claim)) = tester.claim() {
        tester.permit(&offer, &claim);
        let outcome = Outcome::Succeeded { revision: 1, root_hash: "r".into(), outputs: Default::default() };
        tester.report(&offer, &claim, outcome);
        served.push(offer.repository.to_string());
    }
    let submitted: Vec<_> = (0..18).map(|number| format!("r{}.example.org", repository(number))).collect();
    // Two are offered at a time, and which of those is taken first does not matter.
    for (place, name) in served.iter().enumerate() {
        let near = &submitted[place.saturating_sub(1)..submitted.len().min(place + 2)];
        assert!(near.contains(name), "{served:?}");
    }
    assert_eq!(served.len(), submitted.len());
}

#[test]
fn an_outcome_that_is_unknown_can_be_reported_again() {
    let tester = Tester::new(1);
    tester.submit(1, 0);
    let (offer, claim) = tester.claim().unwrap();
    tester.permit(&offer, &claim);
    for _ in 0..2 {
        tester.report(&offer, &claim, Outcome::Unknown { reason: "the publish hangs".into() });
        assert_eq!(tester.state(1), StateKind::Recovering);
    }
}
