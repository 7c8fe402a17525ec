//! What is known of workers, and who is offered what.

use super::*;
use crate::domain::names::RepositoryName;
use crate::domain::protocol::HeartbeatReply;
use crate::domain::worker::{Drained, WorkerAbout, WorkerState};

/// A worker's heartbeat.
struct Beat<'a> {
    node: &'a str,
    instance: InstanceId,
    about: WorkerAbout,
    by_broker: bool,
}

impl<'a> Beat<'a> {
    fn of(node: &'a str, instance: InstanceId, serves: &[&str]) -> Self {
        let repositories = serves.iter().map(|name| RepositoryName::new((*name).to_owned()).unwrap()).collect();
        let about = WorkerAbout { repositories: Some(repositories), slots: Some(2), ..WorkerAbout::default() };
        Self { node, instance, about, by_broker: false }
    }

    async fn send(&self, rig: &Rig) -> HeartbeatReply {
        let request = HeartbeatRequest {
            node: self.node.into(),
            instance: self.instance,
            fleet: "default".into(),
            free_slots: 2,
            claims: Vec::new(),
            by_broker: self.by_broker,
            about: self.about.clone(),
        };
        rig.engine.heartbeat(request).await.unwrap()
    }
}

fn instance() -> InstanceId {
    InstanceId(Uuid::now_v7())
}

/// Nodes with their states, and the repositories that nobody serves.
async fn listed(rig: &Rig) -> (Vec<(String, WorkerState)>, Vec<String>) {
    let list = rig.engine.workers().await.unwrap();
    let workers = list.workers.into_iter().map(|worker| (worker.node, worker.state)).collect();
    (workers, list.gaps.iter().map(|gap| gap.repository.to_string()).collect())
}

#[tokio::test]
async fn a_worker_is_offered_only_what_it_serves() {
    let rig = Rig::new().await;
    let (one, two) = (instance(), instance());
    Beat::of("n1", one, &["b.example.org"]).send(&rig).await;
    let id = rig.submit().await;
    assert_eq!(rig.state(id).await, "queued", "nobody serves it, so that nothing is offered");
    assert_eq!(listed(&rig).await, (vec![("n1".into(), WorkerState::Idle)], vec![REPOSITORY.into()]));
    let gap = rig.engine.workers().await.unwrap().gaps.remove(0);
    assert_eq!(gap.describe(), "no worker of fleet default serves a.example.org: its jobs wait");

    Beat::of("n2", two, &[REPOSITORY]).send(&rig).await;
    assert_eq!(rig.state(id).await, "offered");
    assert!(rig.engine.take_offers("default", "n1", one, 1).await.unwrap().is_empty());
    let offers = rig.engine.take_offers("default", "n2", two, 1).await.unwrap();
    let claim = async |node: &str, instance| {
        let request = ClaimRequest { generation: offers[0].generation, node: node.into(), instance };
        rig.engine.claim(offers[0].batch_id, request).await
    };
    let Err(crate::app::AppError::Conflict { code, .. }) = claim("n1", one).await else { panic!("it may not") };
    assert_eq!(code, "not_served");
    claim("n2", two).await.unwrap();
    let (workers, gaps) = listed(&rig).await;
    assert_eq!(workers, [("n1".into(), WorkerState::Idle), ("n2".into(), WorkerState::Busy)]);
    assert!(gaps.is_empty(), "{gaps:?}");
}

#[tokio::test]
async fn what_nobody_serves_stands_in_nobodys_way() {
    const SERVED: &str = "b.example.org";
    let repositories = [REPOSITORY, SERVED].map(|name| (name.parse().unwrap(), RepositoryRules::default()));
    let rig = Rig::with(Store::in_memory().unwrap(), repositories.into(), Settings::default()).await;
    let unserved = rig.submit().await;
    assert_eq!(rig.state(unserved).await, "offered", "before any worker was heard of");
    let mut beat = Beat::of("n1", instance(), &[SERVED]);
    beat.send(&rig).await;
    // No slot is free, so that one offer is the most there may be.
    rig.engine.take_offers("default", "n1", beat.instance, 0).await.unwrap();
    let served = rig.submit_to(SERVED, &[]).await;
    assert_eq!(rig.state(served).await, "offered");

    // By the broker the same: it must not be given to a worker that cannot serve it.
    beat.by_broker = true;
    beat.send(&rig).await;
    let workers = &rig.engine.dispatcher.workers;
    let reached = |name: &str| workers.broker_reaches("default", &name.parse().unwrap());
    assert_eq!((reached(REPOSITORY), reached(SERVED)), (false, true));
    Beat { by_broker: true, ..Beat::of("n2", instance(), &[REPOSITORY, SERVED]) }.send(&rig).await;
    assert!(reached(REPOSITORY));
    let gaps = rig.engine.workers().await.unwrap().gaps;
    assert_eq!((gaps.len(), &gaps[0].nodes, gaps[0].repository.as_str()), (1, &vec!["n1".to_owned()], REPOSITORY));
    // It is complained about once.
    let complaints = || workers.complaints(&rig.engine.repositories()).len();
    assert_eq!((complaints(), complaints()), (1, 0));
}

#[tokio::test]
async fn what_was_offered_to_a_worker_that_drains_is_offered_to_others_at_once() {
    let rig = Rig::new().await;
    let (one, two) = (instance(), instance());
    let mut beat = Beat::of("n1", one, &[REPOSITORY]);
    beat.send(&rig).await;
    rig.submit().await;
    let offer = rig.engine.take_offers("default", "n1", one, 1).await.unwrap().remove(0);
    rig.engine.offers_sent(vec![(offer.batch_id, offer.generation)]).await.unwrap();
    beat.about.draining = true;
    beat.send(&rig).await;
    rig.engine.tick().await.unwrap();
    assert!(rig.engine.take_offers("default", "n1", one, 1).await.unwrap().is_empty(), "it takes no more");
    assert_eq!(listed(&rig).await.0, [("n1".into(), WorkerState::Draining)]);
    let again = rig.engine.take_offers("default", "n2", two, 1).await.unwrap().remove(0);
    assert_eq!((again.batch_id, again.generation), (offer.batch_id, offer.generation + 1));
}

#[tokio::test]
async fn a_worker_that_an_operator_drained_is_missed_and_looks_for_offers_at_once_when_it_is_resumed() {
    let rig = Rig::new().await;
    let mut beat = Beat::of("n1", instance(), &[REPOSITORY]);
    beat.about.draining = true;
    beat.about.drained = Some(Drained { since: jiff::Timestamp::UNIX_EPOCH, why: "new disk".into() });
    beat.send(&rig).await;
    rig.clock.pass(Settings::default().claim_expiry + Duration::from_secs(1));
    rig.engine.tick().await.unwrap();
    assert_eq!(listed(&rig).await.0, [("n1".into(), WorkerState::Silent)], "it is to come back");
    beat.send(&rig).await;
    // Its request for offers waits here, from before it was resumed.
    let changed = rig.engine.broker.changed();
    beat.about = WorkerAbout { draining: false, drained: None, ..beat.about };
    beat.send(&rig).await;
    assert!(changed.has_changed().unwrap());
}

#[tokio::test]
async fn a_lost_worker_is_shown_and_one_that_said_goodbye_is_not() {
    let rig = Rig::new().await;
    let (one, two) = (instance(), instance());
    Beat::of("n1", two, &[REPOSITORY]).send(&rig).await;
    let mut beat = Beat::of("n2", one, &[REPOSITORY]);
    beat.about.draining = true;
    beat.send(&rig).await;
    let heard_at = rig.engine.workers().await.unwrap().workers[0].heard_at;
    rig.clock.pass(Settings::default().claim_expiry + Duration::from_secs(1));
    rig.engine.tick().await.unwrap();
    let list = rig.engine.workers().await.unwrap();
    let unserved = [REPOSITORY, OTHER].map(String::from).to_vec();
    assert_eq!(listed(&rig).await, (vec![("n1".into(), WorkerState::Silent)], unserved));
    assert_eq!(list.workers[0].heard_at, heard_at);
    // A clock that was set back makes an instance that seems older.
    Beat::of("n1", one, &[REPOSITORY]).send(&rig).await;
    assert_eq!(listed(&rig).await.0, [("n1".into(), WorkerState::Idle)]);
    for _ in 0..2 {
        rig.clock.pass(Duration::from_secs(25 * 3600));
        rig.engine.tick().await.unwrap();
    }
    assert!(listed(&rig).await.0.is_empty(), "after a day it is forgotten");
}

#[tokio::test]
async fn a_node_that_a_batch_waits_for_is_shown_though_it_was_never_heard_of() {
    let rig = Rig::new().await;
    rig.submit().await;
    let held = rig.claim("default").await;
    let store = rig.engine.store().restarted().unwrap();
    let rig = Rig::on(store, "default").await;
    let worker = rig.engine.workers().await.unwrap().workers.remove(0);
    assert_eq!((worker.node.as_str(), worker.state, worker.heard_at), (NODE, WorkerState::Silent, None));
    assert_eq!((worker.batches[0].batch_id, worker.batches[0].state.as_str()), (held.batch, "claimed"));
}
