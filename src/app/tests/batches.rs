//! Many jobs, one publish; and in which order jobs go.

use std::time::Duration;

use jiff::SignedDuration;
use uuid::Uuid;

use super::{NODE, REPOSITORY, Rig, repositories};
use crate::app::clock::Clock;
use crate::app::{AppError, Settings};
use crate::domain::batch::Intent;
use crate::domain::fleet::{Repositories, RepositoryRules};
use crate::domain::ids::{BatchId, JobId};
use crate::domain::job::event::{Failure, JobEvent};
use crate::domain::job::spec::JobSpec;
use crate::domain::job::state::{JobState, StateKind};
use crate::domain::outcome::{Finding, JobOutcome, Outcome};
use crate::domain::plan::BatchLimits;
use crate::domain::protocol::{ClaimReply, ClaimRequest, HeartbeatRequest, IntentRequest, Offer, OutcomeRequest};
use crate::store::{Store, StoreError};

fn spec(lease_path: &str, submitter: &str) -> JobSpec {
    serde_json::from_value(serde_json::json!({
        "id": JobId(Uuid::now_v7()), "name": "one", "submitter": submitter,
        "work": {"kind": "publish", "repository": REPOSITORY, "lease_path": lease_path, "payload": {"type": "empty"}},
    }))
    .unwrap()
}

fn specs(count: usize) -> Vec<JobSpec> {
    (0..count).map(|number| spec(&format!("/a/{number}"), "")).collect()
}

fn ids(specs: &[JobSpec]) -> Vec<JobId> {
    specs.iter().map(|spec| spec.id).collect()
}

fn claimed(reply: &ClaimReply) -> Vec<JobId> {
    reply.jobs.iter().map(|job| job.spec.id).collect()
}

fn failure() -> Failure {
    Failure { code: "publish_failed".into(), message: "the catalog is odd".into() }
}

impl Rig {
    async fn batching(most: usize) -> Self {
        Self::batching_in(repositories("default"), most).await
    }

    async fn batching_in(repositories: Repositories, most: usize) -> Self {
        let batches = BatchLimits { jobs: most, ..BatchLimits::default() };
        Self::with(Store::in_memory().unwrap(), repositories, Settings { batches, ..Settings::default() }).await
    }

    async fn send(&self, specs: Vec<JobSpec>) {
        self.engine.submit(None, specs).await.unwrap();
    }

    /// The offers that the worker, which has so many slots, gets now.
    async fn offers(&self, slots: usize) -> Vec<Offer> {
        self.engine.take_offers("default", NODE, self.instance, slots).await.unwrap()
    }

    async fn take(&self, offer: &Offer) -> Result<ClaimReply, AppError> {
        let request = ClaimRequest { generation: offer.generation, node: NODE.into(), instance: self.instance };
        self.engine.claim(offer.batch_id, request).await
    }

    /// Claims the only offer.
    async fn next(&self) -> (BatchId, ClaimReply) {
        let offers = self.offers(1).await;
        assert_eq!(offers.len(), 1);
        (offers[0].batch_id, self.take(&offers[0]).await.unwrap())
    }

    async fn ask(&self, batch: BatchId, claim: &ClaimReply) -> Result<(), AppError> {
        let intent = Intent { base_revision: 6, base_root_hash: "ab".into(), changed_paths_digest: "cd".into() };
        self.engine.intent(batch, IntentRequest { token: claim.token.clone(), intent }).await
    }

    async fn end(&self, batch: BatchId, claim: &ClaimReply, outcome: impl Fn(usize) -> Outcome) {
        let jobs = claim.jobs.iter().enumerate();
        let jobs = jobs.map(|(n, job)| JobOutcome { job_id: job.spec.id, attempt: job.attempt, outcome: outcome(n) });
        let request = OutcomeRequest { token: claim.token.clone(), jobs: jobs.collect(), signed: None };
        self.engine.outcome(batch, request).await.unwrap();
    }

    async fn succeed(&self, batch: BatchId, claim: &ClaimReply) {
        self.ask(batch, claim).await.unwrap();
        let outcome = Outcome::Succeeded { revision: 7, root_hash: "ef".into(), outputs: Default::default() };
        self.end(batch, claim, |_| outcome.clone()).await;
    }

    async fn states(&self, ids: &[JobId]) -> Vec<StateKind> {
        let mut states = Vec::new();
        for id in ids {
            states.push(self.engine.job(*id).await.unwrap().state);
        }
        states
    }

    /// Lets time pass, and what is due happen.
    async fn later(&self, by: Duration) {
        // In steps, with signs of life: a server that stood still, or a silent worker, is another story.
        for _ in 0..by.as_secs().max(1) {
            self.clock.pass(Duration::from_secs(1));
            self.engine.tick().await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_queues_is_one_batch_and_what_comes_until_it_is_claimed_comes_along() {
    let rig = Rig::batching(5).await;
    let (first, rest) = (spec("/a/x", ""), specs(6));
    rig.send(vec![first.clone()]).await;
    let offers = rig.offers(1).await;
    assert_eq!((offers[0].jobs.len(), offers[0].lease_path.as_str()), (1, "/a/x"));
    rig.send(rest.clone()).await;
    let claim = rig.take(&offers[0]).await.unwrap();
    assert_eq!(claimed(&claim), [&[first.id], &ids(&rest)[..4]].concat(), "five, in their order");
    assert_eq!(claim.lease_path.as_str(), "/a");
    assert!(rig.take(&offers[0]).await.unwrap() == claim, "asked again, it is the same");
    rig.succeed(offers[0].batch_id, &claim).await;
    let (batch, claim) = rig.next().await;
    assert_eq!(claimed(&claim), ids(&rest)[4..], "the rest queued meanwhile");
    rig.succeed(batch, &claim).await;
    assert!(rig.states(&ids(&rest)).await.iter().all(|state| *state == StateKind::Succeeded));
    rig.assert_sound().await;
}

#[tokio::test]
async fn a_job_that_must_be_alone_is() {
    let rig = Rig::batching(100).await;
    let mut jobs = specs(4);
    jobs[1].alone = true;
    rig.send(jobs.clone()).await;
    for wanted in [&jobs[..1], &jobs[1..2], &jobs[2..]] {
        let (batch, claim) = rig.next().await;
        assert_eq!(claimed(&claim), ids(wanted));
        rig.succeed(batch, &claim).await;
    }
}

#[tokio::test]
async fn a_script_that_fails_costs_the_others_no_attempt_and_runs_alone_from_then_on() {
    let rig = Rig::batching(100).await;
    let jobs = specs(3);
    rig.send(jobs.clone()).await;
    let (batch, claim) = rig.next().await;
    let failed = Outcome::Failed { failure: failure(), transient: true };
    rig.end(batch, &claim, |n| if n == 1 { failed.clone() } else { Outcome::Released }).await;
    assert_eq!(rig.states(&ids(&jobs)).await, [StateKind::Offered, StateKind::Backoff, StateKind::Offered]);
    let (batch, claim) = rig.next().await;
    assert_eq!(claimed(&claim), [jobs[0].id, jobs[2].id]);
    rig.later(Duration::from_secs(2)).await;
    rig.send(specs(1)).await;
    rig.succeed(batch, &claim).await;
    let (_, claim) = rig.next().await;
    assert_eq!(claimed(&claim), [jobs[1].id], "it came first, and takes nobody along");
    let views = [rig.engine.job(jobs[0].id).await.unwrap(), rig.engine.job(jobs[1].id).await.unwrap()];
    assert_eq!(views.map(|job| (job.attempt, job.failures)), [(2, 0), (2, 1)]);
    rig.assert_sound().await;
}

#[tokio::test]
async fn a_batch_that_fails_as_a_whole_is_halved_until_the_one_at_fault_is_found() {
    let rig = Rig::batching(100).await;
    let mut jobs = specs(8);
    jobs.iter_mut().for_each(|job| job.attempts = 1);
    rig.send(jobs.clone()).await;
    let mut sizes = Vec::new();
    while !rig.states(&ids(&jobs)).await.iter().all(|state| state.is_final()) {
        let offers = rig.offers(1).await;
        let Some(offer) = offers.first() else {
            rig.later(Duration::from_secs(1)).await;
            continue;
        };
        let claim = rig.take(offer).await.unwrap();
        sizes.push(claim.jobs.len());
        rig.ask(offer.batch_id, &claim).await.unwrap();
        if claimed(&claim).contains(&jobs[5].id) {
            let outcome = Outcome::BatchFailed { failure: failure(), transient: true };
            rig.end(offer.batch_id, &claim, |_| outcome.clone()).await;
        } else {
            let outcome = Outcome::Succeeded { revision: 7, root_hash: "ef".into(), outputs: Default::default() };
            rig.end(offer.batch_id, &claim, |_| outcome.clone()).await;
        }
    }
    assert_eq!(&sizes[..3], [8, 8, 4], "once more as it was, then in halves");
    let states = rig.states(&ids(&jobs)).await;
    let failed: Vec<_> = (0..8).filter(|n| states[*n] == StateKind::Failed).collect();
    assert_eq!(failed, [5], "{sizes:?}");
    rig.assert_sound().await;
}

#[tokio::test]
async fn cancelling_one_job_leaves_the_others_of_its_batch() {
    let rig = Rig::batching(100).await;
    let jobs = specs(3);
    rig.send(jobs.clone()).await;
    let offers = rig.offers(1).await;
    rig.engine.cancel(jobs[0].id).await.unwrap();
    let claim = rig.take(&offers[0]).await.unwrap();
    assert_eq!(claimed(&claim), ids(&jobs[1..]));
    // One of a batch that is being staged: the worker hears of it, and gives all of it back.
    rig.engine.cancel(jobs[1].id).await.unwrap();
    let refused = rig.ask(offers[0].batch_id, &claim).await.unwrap_err();
    assert!(refused.to_string().contains("cancelled"), "{refused}");
    rig.end(offers[0].batch_id, &claim, |_| Outcome::Released).await;
    let states = rig.states(&ids(&jobs)).await;
    assert_eq!(states, [StateKind::Cancelled, StateKind::Cancelled, StateKind::Offered]);
    // The last of an offer takes the offer with it.
    let offers = rig.offers(1).await;
    rig.engine.cancel(jobs[2].id).await.unwrap();
    assert!(rig.take(&offers[0]).await.is_err());
    rig.assert_sound().await;
}

#[tokio::test]
async fn a_lost_batch_is_settled_for_all_of_its_jobs() {
    for published in [true, false] {
        let rig = Rig::batching(100).await;
        let jobs = specs(3);
        rig.send(jobs.clone()).await;
        let (batch, claim) = rig.next().await;
        rig.ask(batch, &claim).await.unwrap();
        rig.end(batch, &claim, |_| Outcome::Unknown { reason: "killed".into() }).await;
        assert_eq!(rig.states(&ids(&jobs)).await, [StateKind::Recovering; 3]);
        let finding = match published {
            true => Finding::Published { revision: 7, root_hash: "ef".into() },
            false => Finding::NotPublished,
        };
        let request = crate::domain::protocol::FindingRequest { node: NODE.into(), finding, signed: None };
        rig.engine.finding(batch, request).await.unwrap();
        let wanted = if published { StateKind::Succeeded } else { StateKind::Offered };
        assert_eq!(rig.states(&ids(&jobs)).await, [wanted; 3]);
        rig.assert_sound().await;
    }
}

#[tokio::test]
async fn with_a_gateway_disjoint_lease_paths_are_claimed_beside_each_other() {
    let rules = RepositoryRules { gateway: true, ..RepositoryRules::default() };
    let rig = Rig::batching_in([(REPOSITORY.parse().unwrap(), rules)].into(), 100).await;
    let jobs = [spec("/a", ""), spec("/b", ""), spec("/A/x", ""), spec("/c", "")];
    rig.offers(5).await;
    rig.send(jobs.to_vec()).await;
    let offers = rig.offers(5).await;
    let paths: Vec<_> = offers.iter().map(|offer| offer.lease_path.as_str()).collect();
    assert_eq!(paths, ["/a", "/b", "/c"], "/A/x waits for /a");
    let claim = rig.take(&offers[0]).await.unwrap();
    rig.succeed(offers[0].batch_id, &claim).await;
    assert_eq!(rig.offers(5).await[0].lease_path.as_str(), "/A/x");
    rig.assert_sound().await;
}

#[tokio::test]
async fn whoever_has_few_jobs_need_not_wait_for_who_has_many_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { batches: BatchLimits { jobs: 10, ..BatchLimits::default() }, ..Settings::default() };
    let store = || Store::open(directory.path()).unwrap();
    let rig = Rig::with(store(), repositories("default"), settings.clone()).await;
    rig.send((0..200).map(|_| spec("/", "many")).collect()).await;
    for _ in 0..3 {
        let (batch, claim) = rig.next().await;
        rig.succeed(batch, &claim).await;
    }
    drop(rig);
    let rig = Rig::with(store(), repositories("default"), settings).await;
    let few: Vec<_> = (0..5).map(|_| spec("/", "few")).collect();
    rig.send(few.clone()).await;
    // The offer that was made before is first; it is topped up by rank as well.
    rig.later(Duration::from_secs(1)).await;
    let (batch, claim) = rig.next().await;
    rig.succeed(batch, &claim).await;
    let (batch, second) = rig.next().await;
    rig.succeed(batch, &second).await;
    let gone = [claimed(&claim), claimed(&second)].concat();
    assert!(few.iter().all(|job| gone.contains(&job.id)), "five of the first twenty");
}

#[tokio::test]
async fn a_deadline_ends_what_waits_and_refuses_what_runs_too_long() {
    let rig = Rig::batching(1).await;
    let deadline = rig.clock.now() + SignedDuration::from_secs(10);
    let mut jobs = specs(2);
    jobs.iter_mut().for_each(|job| job.deadline = Some(deadline));
    let mut behind = specs(1);
    behind[0].dependencies = serde_json::from_value(serde_json::json!([{"job_id": jobs[1].id}])).unwrap();
    rig.send([jobs.clone(), behind.clone()].concat()).await;
    let (batch, claim) = rig.next().await;
    assert_eq!(claim.jobs[0].time_left_s, Some(10));
    for _ in 0..10 {
        rig.later(Duration::from_secs(1)).await;
        rig.engine.heartbeat(beat(&rig, batch, &claim)).await.unwrap();
    }
    let refused = rig.ask(batch, &claim).await.unwrap_err();
    assert!(refused.to_string().contains("deadline"), "{refused}");
    rig.end(batch, &claim, |_| Outcome::Released).await;
    assert_eq!(rig.states(&[jobs[0].id]).await, [StateKind::Failed], "at once, not offered again");
    rig.later(Duration::from_secs(1)).await;
    let states = rig.states(&[jobs[0].id, jobs[1].id, behind[0].id]).await;
    assert_eq!(states, [StateKind::Failed, StateKind::Failed, StateKind::Skipped]);
    let status = rig.engine.job(jobs[1].id).await.unwrap().status;
    assert!(matches!(status, JobState::Failed { failure, .. } if failure.code == "deadline_passed"));
    assert!(rig.offers(1).await.is_empty());
    rig.assert_sound().await;
}

fn beat(rig: &Rig, batch: BatchId, claim: &ClaimReply) -> HeartbeatRequest {
    let claim = serde_json::json!({"batch_id": batch, "token": claim.token});
    let beat = serde_json::json!({
        "node": NODE, "instance": rig.instance, "fleet": "default", "free_slots": 0, "claims": [claim],
    });
    serde_json::from_value(beat).unwrap()
}

#[tokio::test]
async fn a_deadline_that_has_passed_already_is_refused() {
    let rig = Rig::batching(1).await;
    let mut jobs = specs(1);
    jobs[0].deadline = Some(rig.clock.now());
    let refused = rig.engine.submit(None, jobs.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("deadline"), "{refused}");
    // A job that is known is known, however late it is asked for again.
    jobs[0].deadline = Some(rig.clock.now() + SignedDuration::from_secs(1));
    rig.send(jobs.clone()).await;
    rig.later(Duration::from_secs(5)).await;
    rig.send(jobs).await;
}

#[tokio::test]
async fn damaged_jobs_stand_in_nobodys_way() {
    let rig = Rig::batching(1).await;
    let jobs = specs(4);
    // No worker is known, and the credit of one is used up by the first.
    rig.send(jobs.clone()).await;
    let store = rig.engine.store();
    let damaged = [jobs[1].id, jobs[2].id];
    store
        .write::<_, StoreError, _>(move |tx| {
            for id in damaged {
                tx.damage_spec(id)?;
            }
            Ok(())
        })
        .await
        .unwrap();
    let (batch, claim) = rig.next().await;
    assert_eq!(claimed(&claim), [jobs[0].id]);
    rig.succeed(batch, &claim).await;
    let (batch, claim) = rig.next().await;
    assert_eq!(claimed(&claim), [jobs[3].id]);
    rig.succeed(batch, &claim).await;
}

#[tokio::test]
async fn a_retry_begins_anew_also_in_company() {
    let rig = Rig::batching(100).await;
    let mut jobs = specs(2);
    jobs[0].attempts = 1;
    rig.send(jobs[..1].to_vec()).await;
    let (batch, claim) = rig.next().await;
    rig.end(batch, &claim, |_| Outcome::Failed { failure: failure(), transient: true }).await;
    rig.offers(1).await;
    rig.engine.retry(jobs[0].id, false).await.unwrap();
    rig.send(jobs[1..].to_vec()).await;
    let (_, claim) = rig.next().await;
    assert_eq!(claimed(&claim), ids(&jobs), "its failures are forgotten");
    let story = rig.engine.events(Some(jobs[0].id), None, 0, 100).await.unwrap();
    assert!(story.iter().any(|event| matches!(event.event, JobEvent::Retried { .. })));
}
