//! What a person says, and what comes to light afterwards.

use std::time::Duration;

use super::{NODE, Rig};
use crate::app::{AppError, Settings};
use crate::domain::ids::{BatchId, JobId};
use crate::domain::job::event::{JobEvent, Verdict};
use crate::domain::job::state::JobState;
use crate::domain::outcome::{Finding, Outcome};
use crate::domain::protocol::{JobView, ResolveRequest};

const REVISION: u64 = 7;

fn published() -> Verdict {
    Verdict::Published { revision: REVISION, root_hash: "ef".repeat(20) }
}

fn found() -> Finding {
    Finding::Published { revision: REVISION, root_hash: "ef".repeat(20) }
}

async fn say(rig: &Rig, id: JobId, batch: BatchId, verdict: Verdict) -> Result<JobView, AppError> {
    let request = ResolveRequest { batch_id: Some(batch), verdict, by: "somebody".into(), reason: "looked".into() };
    rig.engine.resolve(id, request).await
}

fn code(result: Result<JobView, AppError>) -> &'static str {
    match result {
        Err(AppError::Conflict { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_nobody_could_find_out_is_shown_with_all_that_is_known_and_what_to_do() {
    let rig = Rig::new().await;
    let held = rig.unclear(true).await;
    let unclear = rig.engine.job(held.job).await.unwrap().unclear.unwrap();
    assert_eq!((unclear.node.as_str(), unclear.key.clone()), (NODE, held.batch.key()));
    assert_eq!(unclear.intent.as_ref().unwrap().base_revision, 6);
    let advice = unclear.advice(held.job).join("\n");
    for needed in [&held.batch.key(), NODE, "revision 6", "--published", "--not-published", &held.job.to_string()] {
        assert!(advice.contains(needed), "{needed} is missing in {advice}");
    }
}

#[tokio::test]
async fn a_published_job_has_succeeded_with_that_revision_and_its_story_says_who_said_so() {
    let rig = Rig::new().await;
    let held = rig.unclear(true).await;
    let job = say(&rig, held.job, held.batch, published()).await.unwrap();
    assert_eq!(job.status, JobState::Succeeded { revision: REVISION, root_hash: "ef".repeat(20), unchanged: false });
    // Again is no error; otherwise is one, with the state.
    say(&rig, held.job, held.batch, published()).await.unwrap();
    let error = say(&rig, held.job, held.batch, Verdict::NotPublished).await.unwrap_err();
    assert!(error.to_string().contains("succeeded"), "{error}");
    let said: Vec<_> =
        rig.story(held.job).await.into_iter().filter(|e| matches!(e, JobEvent::Resolved { .. })).collect();
    let (by, reason) = ("somebody".to_owned(), "looked".to_owned());
    assert_eq!(said, [JobEvent::Resolved { batch: held.batch, verdict: published(), by, reason }]);
    rig.assert_sound().await;
}

#[tokio::test]
async fn a_job_that_was_not_published_runs_again_under_a_new_key() {
    let rig = Rig::new().await;
    let held = rig.unclear(true).await;
    say(&rig, held.job, held.batch, Verdict::NotPublished).await.unwrap();
    let again = rig.claim("default").await;
    assert_eq!((again.job, again.attempt), (held.job, held.attempt + 1));
    assert_ne!(again.batch, held.batch);
    // The answer to the first request was lost: it is the same answer, although the job runs by now.
    assert_eq!(say(&rig, held.job, held.batch, Verdict::NotPublished).await.unwrap().state.as_str(), "running");
    rig.assert_sound().await;
}

#[tokio::test]
async fn a_job_that_is_given_up_has_failed_and_can_be_retried() {
    let rig = Rig::new().await;
    let held = rig.unclear(false).await;
    let job = say(&rig, held.job, held.batch, Verdict::GivenUp).await.unwrap();
    assert!(matches!(&job.status, JobState::Failed { failure, .. } if failure.code == "given_up"), "{:?}", job.status);
    rig.engine.retry(held.job, false).await.unwrap();
    rig.assert_sound().await;
}

#[tokio::test]
async fn only_a_job_that_needs_an_operator_is_settled_and_only_for_the_batch_that_was_looked_for() {
    let rig = Rig::new().await;
    let waiting = rig.submit().await;
    assert_eq!(code(say(&rig, waiting, BatchId(uuid::Uuid::now_v7()), published()).await), "needs_no_operator");
    rig.engine.cancel(waiting).await.unwrap();
    let held = rig.unclear(false).await;
    assert_eq!(code(say(&rig, held.job, BatchId(uuid::Uuid::now_v7()), published()).await), "different_batch");
    assert_eq!(code(say(&rig, held.job, held.batch, published()).await), "not_permitted");
    assert_eq!(rig.state(held.job).await, "needs_operator");
}

#[tokio::test]
async fn the_node_is_asked_once_more_and_what_it_finds_otherwise_is_in_the_story() {
    let rig = Rig::new().await;
    let held = rig.unclear(true).await;
    say(&rig, held.job, held.batch, Verdict::GivenUp).await.unwrap();
    assert_eq!(rig.asked().await, [held.batch]);
    rig.unreadable(&held).await;
    assert_eq!(rig.asked().await, [held.batch], "it could not tell");
    rig.found(&held, found()).await;
    assert!(rig.asked().await.is_empty(), "it has told");
    rig.found(&held, found()).await;
    let said = rig.contradictions(held.job).await;
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains(NODE) && said[0].contains("revision 7"), "{said:?}");
    assert_eq!(rig.state(held.job).await, "failed", "evidence that comes late changes nothing by itself");
    rig.assert_sound().await;
}

#[tokio::test]
async fn what_the_node_finds_as_it_was_said_is_nothing_to_tell() {
    let rig = Rig::new().await;
    let held = rig.unclear(true).await;
    let unhashed = Verdict::Published { revision: REVISION, root_hash: String::new() };
    say(&rig, held.job, held.batch, unhashed).await.unwrap();
    rig.found(&held, found()).await;
    assert!(rig.contradictions(held.job).await.is_empty());
    rig.found(&held, Finding::NotPublished).await;
    assert_eq!(rig.contradictions(held.job).await.len(), 1);
}

#[tokio::test]
async fn a_late_outcome_that_says_otherwise_is_answered_and_told() {
    let rig = Rig::new().await;
    rig.submit().await;
    let held = rig.claim("default").await;
    rig.permit(&held).await;
    let succeeded = |revision| Outcome::Succeeded { revision, root_hash: "ef".repeat(20), outputs: Default::default() };
    rig.report(&held, succeeded(REVISION)).await;
    rig.report(&held, succeeded(REVISION)).await;
    assert!(rig.contradictions(held.job).await.is_empty(), "the same, again");
    rig.report(&held, succeeded(8)).await;
    rig.report(&held, Outcome::Released).await;
    rig.report(&held, Outcome::Released).await;
    let said = rig.contradictions(held.job).await;
    assert_eq!(said.len(), 2, "{said:?}");
    rig.assert_sound().await;
}

#[tokio::test]
async fn a_jump_of_the_time_of_day_does_not_end_a_recovery_early() {
    let rig = Rig::new().await;
    rig.submit().await;
    let held = rig.claim("default").await;
    rig.report(&held, Outcome::Unknown { reason: "lost".into() }).await;
    rig.unreadable(&held).await;
    rig.clock.jump(40 * 86_400_000);
    rig.clock.pass(Settings::default().recovery_limit - Duration::from_secs(1));
    rig.unreadable(&held).await;
    assert_eq!(rig.state(held.job).await, "recovering");
    rig.clock.jump(-80 * 86_400_000);
    rig.clock.pass(Duration::from_secs(1));
    rig.unreadable(&held).await;
    assert_eq!(rig.state(held.job).await, "needs_operator");
}
