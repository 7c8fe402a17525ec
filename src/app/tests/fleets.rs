//! A repository that moves to another fleet.

use super::{Rig, Settings};
use crate::domain::job::event::JobEvent;

#[tokio::test]
async fn a_server_that_stands_still_right_after_its_start_takes_no_claim_for_lost() {
    let rig = Rig::new().await;
    rig.submit().await;
    let held = rig.claim("default").await;
    rig.clock.pass(Settings::default().claim_expiry);
    rig.engine.tick().await.unwrap();
    rig.permit(&held).await;
}

#[tokio::test]
async fn an_offer_to_the_fleet_that_a_repository_left_is_withdrawn_and_made_to_the_new_one() {
    let rig = Rig::new().await;
    let id = rig.submit().await;
    assert_eq!(rig.state(id).await, "offered");
    let store = rig.engine.store().restarted().unwrap();
    drop(rig);
    let rig = Rig::on(store, "other").await;
    let old = rig.engine.take_offers("default", "n1", rig.instance, 1).await.unwrap();
    assert!(old.is_empty(), "{old:?}");
    assert!(rig.story(id).await.contains(&JobEvent::OfferWithdrawn));
    assert_eq!(rig.claim("other").await.job, id);
    rig.assert_sound().await;
}

#[tokio::test]
async fn what_a_worker_has_stays_with_it_when_the_repository_moves() {
    let rig = Rig::new().await;
    let id = rig.submit().await;
    rig.claim("default").await;
    let store = rig.engine.store().restarted().unwrap();
    let rig = Rig::on(store, "other").await;
    assert_eq!(rig.state(id).await, "running");
}
