//! Paused and held repositories: what is offered, what runs, and when it is over.

use std::time::Duration;

use uuid::Uuid;

use super::{NODE, OTHER, REPOSITORY, Rig, repositories};
use crate::app::{AppError, Settings};
use crate::domain::batch::BatchState;
use crate::domain::hold::Window;
use crate::domain::ids::HoldId;
use crate::domain::names::RepositoryName;
use crate::domain::outcome::Outcome;
use crate::domain::protocol::{ClaimRequest, Offer};
use crate::domain::repository::{HoldReply, HoldRequest, PauseRequest, RepositoryView};
use crate::store::Store;

fn name() -> RepositoryName {
    REPOSITORY.parse().unwrap()
}

impl Rig {
    async fn pause(&self, for_s: Option<u64>) -> RepositoryView {
        use crate::app::clock::Clock;
        let until = for_s.map(|s| self.clock.now() + Duration::from_secs(s));
        let request = PauseRequest { reason: "new disks".into(), until };
        self.engine.pause(name(), request, "olga").await.unwrap()
    }

    async fn hold(&self, id: HoldId, renew: bool) -> Result<HoldReply, AppError> {
        let request = HoldRequest { id, reason: "gc".into(), lease_s: 60, renew };
        self.engine.hold(name(), request, "olga").await
    }

    async fn offered(&self) -> Vec<Offer> {
        self.engine.take_offers("default", NODE, self.instance, 4).await.unwrap()
    }

    async fn try_claim(&self, offer: &Offer) -> Result<(), AppError> {
        let request = ClaimRequest { generation: offer.generation, node: NODE.into(), instance: self.instance };
        self.engine.claim(offer.batch_id, request).await.map(drop)
    }

    /// Lets time pass as it does: a tick a second.
    async fn seconds(&self, count: u64) {
        for _ in 0..count {
            self.clock.pass(Duration::from_secs(1));
            self.tick().await;
        }
    }
}

fn id() -> HoldId {
    HoldId(Uuid::now_v7())
}

fn code(result: Result<impl std::fmt::Debug, AppError>) -> &'static str {
    match result {
        Err(AppError::Conflict { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn of_a_paused_repository_nothing_begins_and_what_runs_ends() {
    let rig = Rig::new().await;
    let running = rig.submit().await;
    let held = rig.claim("default").await;
    let waiting = rig.submit().await;
    let elsewhere = rig.submit_to(OTHER, &[]).await;
    let view = rig.pause(None).await;
    assert_eq!((view.holds[0].by.as_str(), view.holds[0].reason.as_str()), ("olga", "new disks"));
    assert_eq!(view.batches.len(), 1);
    rig.permit(&held).await;
    let done = Outcome::Succeeded { revision: 7, root_hash: "ef".into(), outputs: Default::default() };
    rig.report(&held, done).await;
    assert_eq!(rig.state(running).await, "succeeded");
    let offers = rig.offered().await;
    assert_eq!(offers.iter().map(|offer| offer.jobs[0].job_id).collect::<Vec<_>>(), [elsewhere], "others go on");
    let said = rig.engine.job(waiting).await.unwrap().held;
    assert!(said.len() == 1 && said[0].contains("paused by olga") && said[0].contains("new disks"), "{said:?}");

    rig.engine.resume(name(), "olga").await.unwrap();
    assert_eq!(rig.offered().await[0].jobs[0].job_id, waiting);
    assert!(rig.engine.job(waiting).await.unwrap().held.is_empty());
    rig.assert_sound().await;
}

#[tokio::test]
async fn what_is_offered_and_not_claimed_is_taken_back() {
    let rig = Rig::new().await;
    let job = rig.submit().await;
    let offer = rig.offered().await.remove(0);
    rig.pause(None).await;
    assert_eq!(rig.state(job).await, "queued");
    assert_eq!(code(rig.try_claim(&offer).await), "settled");
    rig.seconds(60).await;
    assert!(rig.offered().await.is_empty());
    rig.engine.resume(name(), "olga").await.unwrap();
    assert_eq!(rig.claim("default").await.job, job);
    rig.assert_sound().await;
}

#[tokio::test]
async fn a_pause_outlives_a_restart_and_ends_at_its_time() {
    let store = Store::in_memory().unwrap();
    let rig = Rig::on(store.clone(), "default").await;
    let job = rig.submit().await;
    rig.pause(Some(90)).await;
    let rig = Rig::on(store, "default").await;
    rig.seconds(80).await;
    assert!(rig.offered().await.is_empty());
    rig.seconds(11).await;
    assert_eq!(rig.offered().await[0].jobs[0].job_id, job);
    assert!(rig.engine.repository(name()).await.unwrap().holds.is_empty());
}

#[tokio::test]
async fn a_holder_is_alone_once_nothing_runs_and_nobody_else_can_be_it() {
    let rig = Rig::new().await;
    rig.submit().await;
    let held = rig.claim("default").await;
    let next = rig.submit().await;
    let (mine, other) = (id(), id());
    let reply = rig.hold(mine, false).await.unwrap();
    assert!(!reply.exclusive && reply.running[0].node.as_deref() == Some(NODE), "{reply:?}");
    assert_eq!(code(rig.hold(other, false).await), "held");
    // Lost and unclear it may still be published: nobody is alone with that.
    rig.report(&held, Outcome::Unknown { reason: "lost".into() }).await;
    assert!(!rig.hold(mine, true).await.unwrap().exclusive);
    rig.found(&held, crate::domain::outcome::Finding::NotPublished).await;
    assert!(rig.hold(mine, true).await.unwrap().exclusive);
    assert!(rig.offered().await.is_empty());
    assert_eq!(rig.state(next).await, "queued");

    // Whoever renews keeps it, over a restart's worth of silence, too.
    rig.seconds(50).await;
    assert!(rig.hold(mine, true).await.unwrap().exclusive);
    rig.seconds(50).await;
    assert!(rig.offered().await.is_empty());
    // Who does not has lost it, and is told so.
    rig.seconds(11).await;
    assert_eq!(rig.offered().await.len(), 1);
    assert_eq!(code(rig.hold(mine, true).await), "hold_lost");
    rig.assert_sound().await;
}

#[tokio::test]
async fn a_hold_that_is_released_or_resumed_is_over_at_once() {
    let rig = Rig::new().await;
    rig.submit().await;
    for release in [true, false] {
        let mine = id();
        assert!(rig.hold(mine, false).await.unwrap().exclusive);
        match release {
            true => rig.engine.release(name(), mine, "olga").await.unwrap(),
            false => rig.engine.resume(name(), "boss").await.unwrap(),
        };
        assert_eq!(rig.offered().await.len(), 1);
        assert_eq!(code(rig.hold(mine, true).await), "hold_lost");
    }
    let request = HoldRequest { id: id(), reason: String::new(), lease_s: 4, renew: false };
    assert!(matches!(rig.engine.hold(name(), request, "olga").await, Err(AppError::Invalid { .. })));
    let unknown = rig.engine.resume("unknown.example.org".parse().unwrap(), "olga").await;
    assert!(matches!(unknown, Err(AppError::NotFound { .. })));
}

#[tokio::test]
async fn in_a_maintenance_window_nothing_begins() {
    let mut repositories = repositories("default");
    // The rig's clock begins at noon.
    let window: Window = serde_json::from_value(serde_json::json!({
        "start": "12:01", "duration": "2m", "drain": "30s", "reason": "snapshots",
    }))
    .unwrap();
    repositories.get_mut(&name()).unwrap().maintenance.push(window);
    let rig = Rig::with(Store::in_memory().unwrap(), repositories, Settings::default()).await;
    let job = rig.submit().await;
    let offer = rig.offered().await.remove(0);
    rig.clock.pass(Duration::from_secs(30));
    assert_eq!(code(rig.try_claim(&offer).await), "held", "also before a tick has noticed");
    rig.tick().await;
    assert_eq!(code(rig.try_claim(&offer).await), "settled");
    let view = rig.engine.job(job).await.unwrap();
    assert!(view.held[0].contains("snapshots"), "{view:?}");
    rig.seconds(149).await;
    assert!(rig.offered().await.is_empty());
    rig.seconds(2).await;
    assert_eq!(rig.offered().await[0].jobs[0].job_id, job);
    let live = rig.engine.store().read(|db| db.live_batches()).await.unwrap();
    assert!(matches!(live[0].state, BatchState::Unsent | BatchState::Offered { .. }));
    rig.assert_sound().await;
}
