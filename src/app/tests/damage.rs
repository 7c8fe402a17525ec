//! One row that cannot be read stops neither the server nor anybody else's jobs.

use super::{NODE, OTHER, REPOSITORY, Rig};
use crate::domain::job::event::Failure;
use crate::domain::outcome::Outcome;
use crate::domain::protocol::{HeartbeatRequest, HeldClaim};
use crate::store::JobFilter;

fn succeeded() -> Outcome {
    Outcome::Succeeded { revision: 7, root_hash: "ef".repeat(20), outputs: Default::default() }
}

fn failed() -> Outcome {
    Outcome::Failed { failure: Failure { code: "x".into(), message: "y".into() }, transient: true }
}

impl Rig {
    /// Everything a server does goes on.
    async fn works(&self, damaged: usize) {
        self.tick().await;
        let id = self.submit_to(OTHER, &[]).await;
        let held = self.claim("default").await;
        assert_eq!(held.job, id);
        self.asked().await;
        self.permit(&held).await;
        self.report(&held, succeeded()).await;
        assert_eq!(self.state(id).await, "succeeded");
        self.engine.count_by_state().await.unwrap();
        let events = self.engine.store().read(|db| db.events(None, None, 0, 1)).await.unwrap();
        assert_eq!(events.len(), 1, "the first that can be read");
        let told = self.engine.store().read(|db| db.events_to_tell(0, 1)).await.unwrap();
        assert_eq!(told.len(), 1);
        let listed = self.engine.store().read(|db| db.list(&JobFilter::default(), None, 100)).await.unwrap().0;
        assert!(listed.iter().any(|job| job.id() == id));
        assert_eq!(self.engine.store().damaged_rows(), damaged);
    }

    async fn again(&self) -> Self {
        Self::on(self.engine.store().restarted().unwrap(), "default").await
    }
}

#[tokio::test]
async fn a_damaged_batch_keeps_its_repository_and_nobody_elses() {
    for column in ["detail = '{'", "detail = x'00'", "jobs = '7'", "repository = '-h'", "lease_path = 'a/../b'"] {
        let rig = Rig::new().await;
        let stuck = rig.submit().await;
        let held = rig.claim("default").await;
        rig.permit(&held).await;
        rig.tamper(Box::leak(format!("UPDATE batches SET {column}").into_boxed_str())).await;
        rig.works(1).await;
        let rig = rig.again().await;
        rig.works(1).await;
        // Nobody knows what became of it, so nothing else may be published there.
        let behind = rig.submit().await;
        if column != "repository = '-h'" {
            assert_eq!(rig.state(behind).await, "queued", "{column}");
        }
        assert_eq!(rig.state(stuck).await, "running");
    }
}

#[tokio::test]
async fn a_damaged_job_that_waits_for_its_next_attempt_is_passed_over() {
    let rig = Rig::new().await;
    for _ in 0..2 {
        rig.submit_to(OTHER, &[]).await;
        let held = rig.claim("default").await;
        rig.report(&held, failed()).await;
    }
    rig.tamper("UPDATE jobs SET progress = 'x' WHERE seq = 1").await;
    rig.clock.pass(std::time::Duration::from_secs(10));
    rig.tick().await;
    // The other one is tried again.
    let held = rig.claim("default").await;
    rig.permit(&held).await;
    rig.report(&held, succeeded()).await;
    rig.again().await.works(1).await;
}

#[tokio::test]
async fn a_damaged_job_keeps_those_before_it_from_nothing() {
    let rig = Rig::new().await;
    let first = rig.submit().await;
    rig.submit_to(OTHER, &[first]).await;
    let behind = rig.submit_to(OTHER, &[first]).await;
    rig.tamper("UPDATE jobs SET spec = 'x' WHERE seq = 2").await;
    let held = rig.claim("default").await;
    rig.permit(&held).await;
    rig.report(&held, succeeded()).await;
    assert_eq!(rig.state(first).await, "succeeded");
    assert_eq!(rig.claim("default").await.job, behind);
}

#[tokio::test]
async fn a_damaged_job_that_runs_does_not_cost_its_worker_the_other_claims() {
    let rig = Rig::new().await;
    rig.submit().await;
    let damaged = rig.claim("default").await;
    let good = rig.submit_to(OTHER, &[]).await;
    let held = rig.claim("default").await;
    rig.tamper("UPDATE jobs SET progress = '{}' WHERE seq = 1").await;
    let claim = |held: &super::Held| HeldClaim { batch_id: held.batch, token: held.token.clone(), progress: None };
    let request = HeartbeatRequest {
        node: NODE.into(),
        instance: rig.instance,
        fleet: "default".into(),
        free_slots: 0,
        claims: vec![claim(&damaged), claim(&held)],
        by_broker: false,
        about: Default::default(),
    };
    assert!(rig.engine.heartbeat(request).await.unwrap().lost.is_empty());
    rig.permit(&held).await;
    rig.report(&held, succeeded()).await;
    assert_eq!(rig.state(good).await, "succeeded");
    // Its batch ends, so that its repository is free.
    rig.report(&damaged, failed()).await;
    let next = rig.submit_to(REPOSITORY, &[]).await;
    assert_eq!(rig.claim("default").await.job, next);
}

#[tokio::test]
async fn claims_of_a_lost_worker_expire_also_beside_a_damaged_one() {
    let rig = Rig::new().await;
    rig.submit().await;
    rig.claim("default").await;
    let good = rig.submit_to(OTHER, &[]).await;
    rig.claim("default").await;
    rig.tamper("UPDATE jobs SET progress = '{}' WHERE seq = 1").await;
    for _ in 0..4 {
        rig.clock.pass(std::time::Duration::from_secs(10));
        rig.tick().await;
    }
    assert_eq!(rig.state(good).await, "recovering");
    assert_eq!(rig.asked().await.len(), 2);
}

#[tokio::test]
async fn a_damaged_event_is_left_out_of_what_is_told() {
    let rig = Rig::new().await;
    rig.submit_to(OTHER, &[]).await;
    let held = rig.claim("default").await;
    rig.permit(&held).await;
    rig.report(&held, succeeded()).await;
    rig.tamper("UPDATE events SET event = '{' WHERE number = 1").await;
    rig.works(1).await;
    let rig = rig.again().await;
    rig.works(1).await;
    rig.tamper("UPDATE events SET state = 'gone' WHERE number = 2").await;
    rig.works(2).await;
}

#[tokio::test]
async fn a_damaged_token_lets_nobody_in_and_keeps_nobody_out() {
    let rig = Rig::new().await;
    let tokens = [rig.token("first", None).await, rig.token("second", None).await];
    rig.tamper("UPDATE tokens SET roles = '7' WHERE id = (SELECT min(id) FROM tokens)").await;
    let rig = rig.again().await;
    let good = tokens.iter().filter(|token| rig.engine.authenticate(token.expose()).is_ok()).count();
    assert_eq!(good, 1);
    rig.works(1).await;
}
