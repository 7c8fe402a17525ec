//! Backups, and what a restore makes of them.

use std::path::Path;

use super::{add, assert_sound, batch_id, job, job_id, now, spec};
use crate::domain::batch::{Batch, BatchJob, BatchState, Claim};
use crate::domain::ids::InstanceId;
use crate::domain::job::event::JobEvent;
use crate::domain::job::state::{JobState, StateKind};
use crate::store::backup::{RESTORING, back_up, restore};
use crate::store::{Depth, Store, StoreError, check_state};

async fn claimed(store: &Store, number: u64) {
    let batch = batch_id(number);
    add(store, spec(number), vec![JobEvent::Offered { batch }, JobEvent::Claimed { batch, node: "n1".into() }]).await;
    let claim = Claim { token: "1.token".into(), epoch: 1, node: "n1".into(), instance: InstanceId(super::uuid(77)) };
    insert(store, number, BatchState::Claimed { claim }).await;
}

async fn insert(store: &Store, number: u64, state: BatchState) {
    let batch = Batch {
        id: batch_id(number),
        fleet: "default".into(),
        repository: "a.example.org".parse().unwrap(),
        lease_path: "/".parse().unwrap(),
        jobs: vec![BatchJob { job_id: job_id(number), attempt: 1 }],
        generation: 1,
        state,
    };
    store.write::<_, StoreError, _>(move |tx| tx.insert_batch(now(), &batch)).await.unwrap();
}

/// One that succeeded, one that is queued, one that is offered, one that a worker has.
async fn filled(directory: &Path) -> Store {
    let store = Store::open(directory).unwrap();
    add(&store, spec(1), vec![JobEvent::CancelRequested]).await;
    add(&store, spec(2), vec![]).await;
    add(&store, spec(3), vec![JobEvent::Offered { batch: batch_id(3) }]).await;
    insert(&store, 3, BatchState::Unsent).await;
    claimed(&store, 4).await;
    store
}

async fn state(store: &Store, number: u64) -> JobState {
    job(store, number).await.unwrap().progress.state
}

#[tokio::test]
async fn a_restore_holds_back_what_may_have_been_published_and_asks_for_the_rest() {
    let place = tempfile::tempdir().unwrap();
    let (live, copy, back) = (place.path().join("live"), place.path().join("copy"), place.path().join("back"));
    let store = filled(&live).await;
    let (epoch, last) = (store.epoch(), *store.committed().borrow());
    let backup = back_up(&live, &copy, now()).unwrap();
    assert_eq!((backup.jobs, backup.unfinished, backup.last_event), (4, 3, last));
    assert!(check_state(&copy, Depth::Verify).unwrap().problems.is_empty());

    let restored = restore(&copy, &back, now(), false).unwrap();
    assert_eq!((restored.held_back, restored.recovering), (2, 1));
    let checked = check_state(&back, Depth::Verify).unwrap();
    assert_eq!((checked.problems, checked.jobs), (Vec::<String>::new(), 4));
    let again = Store::open(&back).unwrap();
    assert!(again.epoch() > epoch + 1_000_000, "no token of the lost time can be taken for one of now");
    assert!(*again.committed().borrow() > last + 1_000_000, "nor an event");
    assert_eq!(state(&again, 1).await.kind(), StateKind::Cancelled);
    for held in [2, 3] {
        let state = state(&again, held).await;
        assert!(matches!(&state, JobState::Failed { failure, .. } if failure.code == "restored"), "{state:?}");
    }
    let lost = state(&again, 4).await;
    assert!(matches!(lost, JobState::Recovering { cancel_requested: true, .. }), "{lost:?}");
    // What its node does not find is not tried again by itself: it may have been tried under another tag since.
    let unpublished = again
        .write::<_, StoreError, _>(|tx| {
            let job = tx.job(job_id(4))?.unwrap();
            tx.apply(now(), job, &JobEvent::FoundUnpublished)
        })
        .await
        .unwrap();
    assert_eq!(unpublished.progress.state, JobState::Cancelled);
    let batches = again.read::<_, StoreError, _>(|db| db.live_batches()).await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.state.as_str()).collect::<Vec<_>>(), ["recovering"]);
    assert_sound(&again).await;
}

#[tokio::test]
async fn where_nothing_ran_since_jobs_can_go_on() {
    let place = tempfile::tempdir().unwrap();
    let (live, copy, back) = (place.path().join("live"), place.path().join("copy"), place.path().join("back"));
    drop(filled(&live).await);
    back_up(&live, &copy, now()).unwrap();
    assert_eq!(restore(&copy, &back, now(), true).unwrap().held_back, 0);
    let again = Store::open(&back).unwrap();
    assert_eq!(state(&again, 2).await, JobState::Queued);
    assert_eq!(state(&again, 3).await, JobState::Queued);
    assert!(matches!(state(&again, 4).await, JobState::Recovering { cancel_requested: false, .. }));
    assert_sound(&again).await;
}

#[tokio::test]
async fn a_restore_touches_no_state_that_is_there() {
    let place = tempfile::tempdir().unwrap();
    let (live, copy) = (place.path().join("live"), place.path().join("copy"));
    let store = filled(&live).await;
    back_up(&live, &copy, now()).unwrap();
    assert!(back_up(&live, &copy, now()).unwrap_err().to_string().contains("copy"), "a backup is not written over");
    assert!(matches!(restore(&copy, &live, now(), false), Err(StoreError::NotLeader { .. })));
    drop(store);
    assert!(matches!(restore(&copy, &live, now(), false), Err(StoreError::Io { .. })));
    let half = place.path().join("half");
    std::fs::create_dir(&half).unwrap();
    std::fs::write(half.join(RESTORING), "").unwrap();
    assert!(matches!(Store::open(&half), Err(StoreError::HalfRestored { .. })));
    assert!(restore(&live, &place.path().join("new"), now(), false).is_err(), "no backup");
}

#[tokio::test]
async fn blobs_that_jobs_name_are_in_a_backup_and_damage_is_found() {
    let place = tempfile::tempdir().unwrap();
    let (live, copy, back) = (place.path().join("live"), place.path().join("copy"), place.path().join("back"));
    let store = Store::open(&live).unwrap();
    let blobs = crate::store::blobs::BlobStore::open(&live.join("blobs"), 1000).unwrap();
    let digest = crate::domain::digest::Sha256Digest::of(b"payload");
    blobs.put(digest, &b"payload"[..]).await.unwrap();
    let mut named = spec(1);
    named.work = serde_json::from_value(serde_json::json!({
        "kind": "publish", "repository": "a.example.org",
        "payload": {"type": "tarball", "source": {"from": "blob", "digest": digest}},
    }))
    .unwrap();
    add(&store, named, vec![]).await;
    assert_eq!(back_up(&live, &copy, now()).unwrap().blobs, 1);
    restore(&copy, &back, now(), true).unwrap();
    assert!(check_state(&back, Depth::Verify).unwrap().problems.is_empty());

    // The copy that is looked at has its own file: links share theirs.
    let file = |state: &Path| state.join("blobs").join(&digest.to_hex()[..2]).join(&digest.to_hex()[2..]);
    std::fs::remove_file(file(&back)).unwrap();
    std::fs::write(file(&back), "paylord").unwrap();
    assert!(check_state(&back, Depth::Exists).unwrap().problems.is_empty());
    let problems = check_state(&back, Depth::Verify).unwrap().problems;
    assert!(problems.len() == 1 && problems[0].contains(&digest.to_string()), "{problems:?}");
    std::fs::remove_file(file(&back)).unwrap();
    let problems = check_state(&back, Depth::Exists).unwrap().problems;
    assert!(problems.len() == 1 && problems[0].contains("not there"), "{problems:?}");
}

#[tokio::test]
async fn a_damaged_row_is_named_and_the_others_go_on() {
    let place = tempfile::tempdir().unwrap();
    let store = filled(place.path()).await;
    add(&store, spec(5), vec![]).await;
    let connection = rusqlite::Connection::open(place.path().join("conveyor.db")).unwrap();
    connection.execute("UPDATE jobs SET progress = '{' WHERE seq = 2", []).unwrap();
    connection.execute("UPDATE jobs SET state = 'succeeded' WHERE seq = 4", []).unwrap();
    let checked = check_state(place.path(), Depth::Exists).unwrap();
    assert_eq!((checked.jobs, checked.problems.len()), (5, 2), "{:?}", checked.problems);
    assert!(checked.problems[0].contains("job number 2"), "{:?}", checked.problems);
    assert!(checked.problems[1].contains(&job_id(4).to_string()), "{:?}", checked.problems);
    let repository = "a.example.org".parse().unwrap();
    let ready = store.read::<_, StoreError, _>(move |db| db.ready(&repository, 1, |_| false)).await.unwrap();
    assert_eq!(ready.iter().map(|job| job.id).collect::<Vec<_>>(), [job_id(5)]);
}

#[tokio::test]
async fn space_that_is_free_returns_to_the_file_system() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    for number in 0..400 {
        let mut spec = spec(number);
        spec.name = "x".repeat(1000);
        add(&store, spec, vec![JobEvent::CancelRequested]).await;
    }
    let pages = async || {
        let connection = rusqlite::Connection::open(place.path().join("conveyor.db")).unwrap();
        connection.query_row("PRAGMA page_count", [], |row| row.get::<_, u64>(0)).unwrap()
    };
    let before = pages().await;
    store
        .write::<_, StoreError, _>(|tx| {
            for number in 0..400 {
                assert!(tx.prune_job(job_id(number), jiff::Timestamp::MAX)?);
            }
            Ok(())
        })
        .await
        .unwrap();
    while store.write::<_, StoreError, _>(|tx| tx.give_back(16)).await.unwrap() > 0 {}
    let after = pages().await;
    assert!(after * 4 < before, "{before} pages, then {after}");
}
