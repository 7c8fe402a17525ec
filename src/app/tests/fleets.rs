//! A repository that moves to another fleet.

use super::Rig;
use crate::domain::job::event::JobEvent;

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
