//! The time of day jumps by a year, either way, while everything is in progress.

use std::time::Duration;

use super::{OTHER, Rig};
use crate::app::Settings;
use crate::domain::job::event::Failure;
use crate::domain::job::state::JobState;
use crate::domain::outcome::Outcome;

const YEAR_MS: i64 = 365 * 86_400_000;

fn failed() -> Outcome {
    Outcome::Failed { failure: Failure { code: "x".into(), message: "y".into() }, transient: true }
}

/// Lets time pass as it does for a server that runs.
async fn pass(rig: &Rig, seconds: u64) {
    for _ in 0..seconds {
        rig.clock.pass(Duration::from_secs(1));
        rig.tick().await;
    }
}

#[tokio::test]
async fn claims_and_offers_live_as_long_as_ever() {
    for jump in [YEAR_MS, -YEAR_MS] {
        let rig = Rig::new().await;
        rig.tick().await;
        let id = rig.submit().await;
        let held = rig.claim("default").await;
        let offered = rig.submit_to(OTHER, &[]).await;
        let offer = rig.engine.take_offers("default", "n2", rig.instance, 1).await.unwrap().remove(0);
        rig.engine.offers_sent(vec![(offer.batch_id, offer.generation)]).await.unwrap();
        rig.clock.jump(jump);
        rig.tick().await;
        pass(&rig, Settings::default().offer_ttl.as_secs() - 2).await;
        assert!(rig.engine.take_offers("default", "n2", rig.instance, 1).await.unwrap().is_empty(), "still on its way");
        assert_eq!(rig.state(offered).await, "offered");
        assert_eq!(rig.state(id).await, "running");
        pass(&rig, 4).await;
        let again = rig.engine.take_offers("default", "n2", rig.instance, 1).await.unwrap().remove(0);
        assert_eq!((again.batch_id, again.generation), (offer.batch_id, offer.generation + 1));
        // The claim is alive, so its publish is permitted.
        rig.permit(&held).await;
        pass(&rig, Settings::default().claim_expiry.as_secs()).await;
        assert_eq!(rig.state(id).await, "recovering", "and it ends by the silence of its worker");
        rig.assert_sound().await;
    }
}

#[tokio::test]
async fn a_back_off_is_over_at_once_or_in_time_and_never_later() {
    for jump in [YEAR_MS, -YEAR_MS] {
        let rig = Rig::new().await;
        let id = rig.submit().await;
        let held = rig.claim("default").await;
        rig.report(&held, failed()).await;
        assert_eq!(rig.state(id).await, "backoff");
        rig.clock.jump(jump);
        pass(&rig, 2).await;
        assert_eq!(rig.claim("default").await.job, id);
        // The next one is reckoned from the new time.
        let job = rig.engine.job(id).await.unwrap();
        assert_eq!((job.attempt, job.failures), (2, 1));
    }
}

#[tokio::test]
async fn a_small_jump_back_makes_a_back_off_longer_by_no_more_than_its_limit() {
    let rig = Rig::new().await;
    let id = rig.submit().await;
    let held = rig.claim("default").await;
    rig.report(&held, failed()).await;
    rig.clock.jump(-300_000);
    pass(&rig, 305).await;
    let status = rig.engine.job(id).await.unwrap().status;
    assert!(matches!(status, JobState::Offered { .. }), "{status:?}");
}

#[tokio::test]
async fn a_token_is_good_by_the_time_of_day_and_is_good_again_when_that_is_set_right() {
    let rig = Rig::new().await;
    let token = rig.token("short", Some(rig.engine.clock.now() + jiff::SignedDuration::from_hours(24))).await;
    assert!(rig.engine.authenticate(token.expose()).is_ok());
    rig.clock.jump(YEAR_MS);
    assert!(rig.engine.authenticate(token.expose()).is_err());
    rig.clock.jump(-YEAR_MS);
    assert!(rig.engine.authenticate(token.expose()).is_ok());
}
