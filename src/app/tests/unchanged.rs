//! Jobs that end without a publish: what is believed of them, and when.

use uuid::Uuid;

use super::{REPOSITORY, Rig};
use crate::app::AppError;
use crate::domain::batch::Intent;
use crate::domain::ids::JobId;
use crate::domain::job::spec::JobSpec;
use crate::domain::job::state::JobState;
use crate::domain::outcome::{JobOutcome, Outcome};
use crate::domain::protocol::{IntentRequest, OutcomeRequest};

fn unchanged() -> Outcome {
    let outputs = [("published".to_owned(), "false".to_owned())].into();
    Outcome::Unchanged { revision: 6, root_hash: "ab".repeat(20), outputs }
}

#[tokio::test]
async fn nothing_to_publish_is_a_success_of_the_revision_that_is_there_and_told_twice_it_is_told_once() {
    let rig = Rig::new().await;
    let job = rig.submit().await;
    let held = rig.claim("default").await;
    rig.report(&held, unchanged()).await;
    rig.report(&held, unchanged()).await;
    let view = rig.engine.job(job).await.unwrap();
    assert_eq!(view.status, JobState::Succeeded { revision: 6, root_hash: "ab".repeat(20), unchanged: true });
    assert_eq!(view.outputs["published"], "false");
    assert!(rig.contradictions(job).await.is_empty());
    // The path is free again.
    rig.submit().await;
    rig.claim("default").await;
    rig.assert_sound().await;
}

#[tokio::test]
async fn who_was_permitted_to_publish_cannot_say_that_there_was_nothing_to_publish() {
    let rig = Rig::new().await;
    let job = rig.submit().await;
    let held = rig.claim("default").await;
    rig.permit(&held).await;
    let jobs = vec![JobOutcome { job_id: held.job, attempt: held.attempt, outcome: unchanged() }];
    let request = OutcomeRequest { token: held.token.clone(), jobs, signed: None };
    let refused = rig.engine.outcome(held.batch, request).await;
    assert!(matches!(&refused, Err(AppError::Conflict { code: "permitted", .. })), "{refused:?}");
    assert_eq!(rig.state(job).await, "running", "what the repository says is waited for");
}

#[tokio::test]
async fn a_dry_run_is_refused_the_permission_to_publish() {
    let rig = Rig::new().await;
    let id = JobId(Uuid::now_v7());
    let spec: JobSpec = serde_json::from_value(serde_json::json!({
        "id": id, "name": "one",
        "work": {"kind": "publish", "repository": REPOSITORY, "payload": {"type": "empty"}, "dry_run": true},
    }))
    .unwrap();
    rig.engine.submit(None, vec![spec]).await.unwrap();
    let held = rig.claim("default").await;
    let intent = Intent { base_revision: 6, base_root_hash: "ab".into(), changed_paths_digest: "cd".into() };
    let refused = rig.engine.intent(held.batch, IntentRequest { token: held.token.clone(), intent }).await;
    assert!(matches!(&refused, Err(AppError::Conflict { code: "dry_run", .. })), "{refused:?}");
    rig.report(&held, unchanged()).await;
    assert_eq!(rig.state(id).await, "succeeded");
    rig.assert_sound().await;
}
