use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::app::clock::SystemClock;
use crate::notify::verify::Sources;

/// Notifications of which nothing is verified.
pub(crate) async fn unverified(store: Store) -> Notifications {
    let sources = Sources { verify: false, keys_dir: "/nonexistent".into(), urls: BTreeMap::new(), pattern: None };
    Notifications::start(store, Verifier::new(sources), Arc::new(SystemClock::default())).await.unwrap()
}

/// A message with a manifest that nobody signed.
pub(crate) fn unverified_message(repository: &str, revision: u64) -> Message {
    let now = Timestamp::now().to_string();
    Message::about(RepositoryName::new(repository).unwrap(), &manifest(repository, revision), &now)
}

const REPOSITORY: &str = "test.example.org";

/// A manifest with a signature that is none.
fn manifest(repository: &str, revision: u64) -> Vec<u8> {
    use sha1::Digest as _;
    let hash = "0".repeat(40);
    let body = format!("C{hash}\nRd41d8cd98f00b204e9800998ecf8427e\nD240\nS{revision}\nN{repository}\nX{hash}\n");
    let digest = hex::encode(sha1::Sha1::digest(body.as_bytes()));
    [body.as_bytes(), b"--\n", digest.as_bytes(), b"\nsignature"].concat()
}

fn message(revision: u64) -> Message {
    unverified_message(REPOSITORY, revision)
}

async fn on(store: Store) -> Notifications {
    unverified(store).await
}

#[tokio::test]
async fn only_a_newer_revision_is_told_whatever_order_they_come_in() {
    let notifications = on(Store::in_memory().unwrap()).await;
    let mut subscription = notifications.subscribe();
    subscription.add(message(1).repository());
    let mut told = Vec::new();
    for revision in [3, 3, 1, 7, 5, 7, 8] {
        let accepted = notifications.publish(message(revision), None, Origin::Posted).await.unwrap();
        match accepted {
            Accepted::Told(announcement) => {
                assert_eq!(*subscription.next().await, *announcement);
                told.push(revision);
            }
            Accepted::NotNewer { last } => assert_eq!(Some(&last), told.last()),
        }
    }
    assert_eq!(told, [3, 7, 8]);
    assert_eq!(*notifications.told().borrow(), 3);
    assert_eq!(notifications.since(0).len(), 1);
}

#[tokio::test]
async fn many_at_once_end_with_the_newest_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let notifications = Arc::new(on(Store::open(directory.path()).unwrap()).await);
    let mut subscription = notifications.subscribe();
    subscription.add(message(1).repository());
    let mut posts = tokio::task::JoinSet::new();
    for revision in (1..=200).rev() {
        let notifications = Arc::clone(&notifications);
        posts.spawn(async move { notifications.publish(message(revision), None, Origin::Posted).await.unwrap() });
    }
    let mut last = 0;
    while last < 200 {
        let next = subscription.next().await.revision;
        assert!(next > last, "{next} after {last}");
        last = next;
    }
    posts.join_all().await;
    drop((subscription, notifications));
    let again = on(Store::open(directory.path()).unwrap()).await;
    let mut subscription = again.subscribe();
    subscription.add(message(1).repository());
    assert_eq!(subscription.next().await.revision, 200);
    assert!(matches!(again.publish(message(199), None, Origin::Job).await.unwrap(), Accepted::NotNewer { last: 200 }));
}

#[tokio::test]
async fn a_manifest_of_another_repository_and_what_is_none_are_refused() {
    let notifications = on(Store::in_memory().unwrap()).await;
    let name = RepositoryName::new(REPOSITORY).unwrap();
    for bad in [manifest("other.example.org", 1), Vec::new(), b"text".to_vec(), manifest(REPOSITORY, u64::MAX)] {
        let refused = notifications.announce(name.clone(), &bad, None, Origin::Job).await;
        assert!(matches!(refused, Err(NotifyError::Refused(_))), "{refused:?}");
    }
    assert!(notifications.last(&name).is_none());
}

#[tokio::test]
async fn a_damaged_message_is_passed_over_and_named_by_the_check() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let notifications = on(store.clone()).await;
    notifications.publish(message(1), None, Origin::Posted).await.unwrap();
    store.write::<_, StoreError, _>(|tx| tx.tamper("UPDATE notifications SET message = '{'")).await.unwrap();
    drop(notifications);
    let again = on(store).await;
    assert!(again.last(message(1).repository()).is_none());
    let checked = crate::store::check_state(directory.path(), crate::store::Depth::Exists).unwrap();
    assert!(checked.problems.iter().any(|problem| problem.contains(REPOSITORY)), "{:?}", checked.problems);
    assert!(matches!(again.publish(message(2), None, Origin::Posted).await.unwrap(), Accepted::Told(_)));
}

#[tokio::test]
async fn what_was_stored_is_told_also_where_whoever_published_it_goes_in_the_middle() {
    let notifications = on(Store::in_memory().unwrap()).await;
    let mut subscription = notifications.subscribe();
    subscription.add(message(1).repository());
    {
        let mut publishing = std::pin::pin!(notifications.publish(message(1), None, Origin::Posted));
        // As far as it comes without waiting, and no further.
        assert!(futures_util::poll!(publishing.as_mut()).is_pending());
    }
    let told = tokio::time::timeout(std::time::Duration::from_secs(60), subscription.next()).await;
    assert_eq!(told.unwrap().revision, 1);
}
