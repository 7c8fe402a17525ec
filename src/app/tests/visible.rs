//! Jobs that wait for their URLs, with answers made by hand.

use std::time::Duration;

use url::Url;
use uuid::Uuid;

use super::{REPOSITORY, Rig, repositories};
use crate::app::{Answers, AppError, Settings};
use crate::domain::ids::JobId;
use crate::domain::job::spec::JobSpec;
use crate::domain::job::state::JobState;
use crate::domain::outcome::Outcome;
use crate::domain::visible::{Answer, VisibleUrls};
use crate::store::Store;

const A: &str = "http://a.example.org/cvmfs/x";
const B: &str = "http://b.example.org/cvmfs/x";

fn spec(urls: &[&str]) -> JobSpec {
    serde_json::from_value(serde_json::json!({
        "id": JobId(Uuid::now_v7()), "name": "one", "visible_at": urls, "visible_within_s": 60,
        "work": {"kind": "publish", "repository": REPOSITORY, "payload": {"type": "empty"}},
    }))
    .unwrap()
}

async fn rig(store: Store) -> Rig {
    let visible_urls = VisibleUrls::parse(&["http://a.example.org/cvmfs".into(), "http://b.example.org".into()]);
    Rig::with(store, repositories("default"), Settings { visible_urls: visible_urls.unwrap(), ..Settings::default() })
        .await
}

/// A job that is published as revision 7 and waits for both.
async fn published(rig: &Rig) -> JobId {
    let spec = spec(&[A, B]);
    rig.asked().await;
    rig.engine.submit(None, vec![spec.clone()]).await.unwrap();
    let held = rig.claim("default").await;
    rig.permit(&held).await;
    let outcome = Outcome::Succeeded { revision: 7, root_hash: "ab".into(), outputs: Default::default() };
    rig.report(&held, outcome).await;
    assert_eq!(rig.state(spec.id).await, "distributing");
    assert_eq!(rig.engine.awaited().await.unwrap().len(), 1);
    spec.id
}

async fn answer(rig: &Rig, served: &[(&str, Result<u64, &str>)]) {
    let asked = rig.engine.monotonic();
    let answers: Answers = served
        .iter()
        .map(|(url, served)| {
            let served = served.map_err(str::to_owned);
            ((REPOSITORY.parse().unwrap(), url.parse::<Url>().unwrap()), Answer { asked, served })
        })
        .collect();
    rig.engine.note_answers(&answers).await.unwrap();
}

#[tokio::test]
async fn only_the_last_answers_of_all_count() {
    let rig = rig(Store::in_memory().unwrap()).await;
    let id = published(&rig).await;
    answer(&rig, &[(A, Ok(7))]).await;
    answer(&rig, &[(A, Ok(6)), (B, Ok(9))]).await;
    let view = rig.engine.job(id).await.unwrap();
    assert_eq!(view.progress.unwrap().to_string(), "1 of 2 replicas serves revision 7");
    assert_eq!(view.replicas.iter().map(|replica| replica.serves).collect::<Vec<_>>(), [false, true]);
    assert!(matches!(rig.engine.cancel(id).await, Err(AppError::Conflict { code: "already_published", .. })));
    answer(&rig, &[(A, Ok(8)), (B, Ok(9))]).await;
    assert_eq!(rig.state(id).await, "succeeded");
    assert!(rig.engine.awaited().await.unwrap().is_empty());
    rig.assert_sound().await;
}

#[tokio::test]
async fn the_time_is_over_only_when_all_that_lack_it_were_asked_behind_it() {
    let rig = rig(Store::in_memory().unwrap()).await;
    let id = published(&rig).await;
    answer(&rig, &[(A, Ok(7)), (B, Err("no answer"))]).await;
    rig.clock.pass(Duration::from_secs(61));
    rig.tick().await;
    assert_eq!(rig.state(id).await, "distributing");
    answer(&rig, &[(A, Ok(7)), (B, Ok(6))]).await;
    let view = rig.engine.job(id).await.unwrap();
    let JobState::Failed { failure, published } = view.status else { panic!("{view:?}") };
    assert_eq!((failure.code.as_str(), published.unwrap().revision), ("not_visible", 7));
    assert!(failure.message.contains(&format!("{B} serves revision 6")), "{failure:?}");

    let retried = rig.engine.retry(id, false).await.unwrap();
    assert_eq!((retried.state.as_str(), retried.attempt), ("distributing", 1));
    assert!(rig.engine.take_offers("default", super::NODE, rig.instance, 1).await.unwrap().is_empty());
    rig.engine.awaited().await.unwrap();
    answer(&rig, &[(A, Ok(7)), (B, Ok(7))]).await;
    assert_eq!(rig.state(id).await, "succeeded");
    rig.assert_sound().await;
}

#[tokio::test]
async fn a_restart_keeps_the_wait_and_asks_anew() {
    let store = Store::in_memory().unwrap();
    let first = rig(store.clone()).await;
    let id = published(&first).await;
    answer(&first, &[(A, Ok(7)), (B, Ok(6))]).await;
    let rig = rig(store).await;
    rig.clock.pass(Duration::from_secs(3600));
    assert_eq!(rig.engine.awaited().await.unwrap().len(), 1);
    rig.engine.note_answers(&Answers::new()).await.unwrap();
    assert_eq!(rig.state(id).await, "distributing", "nobody was asked yet");
    answer(&rig, &[(A, Ok(7)), (B, Ok(7))]).await;
    assert_eq!(rig.state(id).await, "succeeded", "its time passed while nobody asked");
}

#[tokio::test]
async fn the_server_asks_only_urls_that_it_was_allowed_to() {
    let rig = rig(Store::in_memory().unwrap()).await;
    for url in ["http://c.example.org/cvmfs/x", "https://a.example.org/cvmfs/x", "http://a.example.org/cvmfs-x"] {
        let refused = rig.engine.submit(None, vec![spec(&[A, url])]).await;
        assert!(matches!(refused, Err(AppError::Invalid { code: "url_not_allowed", .. })), "{url}: {refused:?}");
    }
    rig.engine.submit(None, vec![spec(&[A, B])]).await.unwrap();
}
