use std::os::unix::fs::PermissionsExt;

use super::{add, assert_sound, batch_id, job, job_id, new, now, samples, spec};
use crate::domain::job::event::JobEvent;
use crate::store::{Store, StoreError};

async fn everything(store: &Store) -> impl PartialEq + std::fmt::Debug + use<> {
    store
        .read::<_, StoreError, _>(|db| {
            let mut jobs = Vec::new();
            db.for_each_job::<StoreError>(|job, events| {
                jobs.push((job, events));
                Ok(())
            })?;
            Ok((jobs, db.events(None, None, 0, 1000)?, db.live_batches()?))
        })
        .await
        .unwrap()
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    for (number, (_, events)) in (1..).zip(samples::histories().into_iter().filter(|(kind, _)| !kind.is_final())) {
        if samples::first(crate::domain::job::state::StateKind::Queued, &events)
            == (JobEvent::Submitted { waiting: false, needs_approval: false, dry_run: false, distributed: false })
        {
            add(&store, spec(number), events).await;
        }
    }
    store
        .write::<_, StoreError, _>(|tx| samples::batches().iter().try_for_each(|batch| tx.insert_batch(now(), batch)))
        .await
        .unwrap();
    let (before, epoch, last) = (everything(&store).await, store.epoch(), *store.committed().borrow());
    drop(store);

    let store = Store::open(directory.path()).unwrap();
    assert_eq!(everything(&store).await, before);
    assert_eq!((store.epoch(), *store.committed().borrow()), (epoch + 1, last));
    assert_sound(&store).await;
    add(&store, spec(100), vec![]).await;
    assert_eq!(*store.committed().borrow(), last + 1, "numbers of events go on");
}

#[tokio::test]
async fn a_second_server_is_not_the_leader_until_the_first_one_ends() {
    let directory = tempfile::tempdir().unwrap();
    let first = Store::open(directory.path()).unwrap();
    assert!(matches!(Store::open(directory.path()), Err(StoreError::NotLeader { .. })));
    add(&first, spec(1), vec![]).await;
    drop(first);
    assert!(job(&Store::open(directory.path()).unwrap(), 1).await.is_some());
}

/// A request whose caller has gone is committed all the same; the next leader must begin after it.
#[tokio::test]
async fn the_lock_is_given_up_after_the_last_commit() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let store = Store::open(directory.path()).unwrap();
        let epoch = store.epoch();
        let left_behind = store.write::<_, StoreError, _>(move |tx| {
            assert!(tx.is_epoch(epoch)?, "another leader began before this one had ended");
            let spec = spec(round);
            tx.insert_job(
                now(),
                &new(&spec),
                &JobEvent::Submitted { waiting: false, needs_approval: false, dry_run: false, distributed: false },
            )
        });
        let polled = tokio::time::timeout(std::time::Duration::ZERO, left_behind).await;
        drop((polled, store));
        assert!(job(&Store::open(directory.path()).unwrap(), round).await.is_some());
    }
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(Store::open(directory.path()).unwrap());
    let connection = rusqlite::Connection::open(directory.path().join("conveyor.db")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let known = u32::try_from(crate::store::schema::JOBS.migrations.len()).unwrap();
    let error = Store::open(directory.path()).err().unwrap();
    assert!(matches!(error, StoreError::TooNew { found: 99, known: ours, .. } if ours == known), "{error:?}");
}

#[tokio::test]
async fn only_its_owner_can_read_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    add(&store, spec(1), vec![]).await;
    for name in ["conveyor.db", "conveyor.db-wal"] {
        let mode = std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_the_request_keeps_nothing_of_it_and_later_all_works() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    add(&store, spec(1), vec![]).await;
    let limit = |pages: u32| {
        store.write::<_, StoreError, _>(move |tx| Ok(tx.connection.pragma_update(None, "max_page_count", pages)?))
    };
    let pages = store
        .read::<u32, StoreError, _>(|db| Ok(db.connection.query_row("PRAGMA page_count", [], |row| row.get(0))?))
        .await
        .unwrap();
    limit(pages).await.unwrap();
    let full = store
        .write::<_, StoreError, _>(|tx| {
            let mut spec = spec(2);
            spec.name = "x".repeat(100_000);
            tx.insert_job(
                now(),
                &new(&spec),
                &JobEvent::Submitted { waiting: false, needs_approval: false, dry_run: false, distributed: false },
            )
        })
        .await;
    assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
    assert!(job(&store, 2).await.is_none());
    assert!(job(&store, 1).await.is_some(), "reading works on a full disk");

    limit(1_000_000).await.unwrap();
    add(&store, spec(2), vec![]).await;
    assert_sound(&store).await;
}

#[tokio::test]
async fn an_illegal_event_is_refused_and_leaves_no_trace() {
    let store = Store::in_memory().unwrap();
    let before = add(&store, spec(1), vec![]).await;
    let refused = store
        .write::<_, StoreError, _>(|tx| {
            let job = tx.job(job_id(1))?.unwrap();
            let job = tx.apply(now(), job, &JobEvent::Offered { batch: batch_id(1) })?;
            tx.apply(now(), job, &JobEvent::BackoffEnded)
        })
        .await;
    assert!(matches!(refused, Err(StoreError::Illegal(_))), "{refused:?}");
    assert_eq!(job(&store, 1).await.unwrap(), before);
    assert_sound(&store).await;
}

#[tokio::test]
async fn a_row_that_does_not_fit_its_events_is_found() {
    let store = Store::in_memory().unwrap();
    add(&store, spec(1), vec![]).await;
    add(&store, spec(2), vec![]).await;
    store
        .write::<_, StoreError, _>(|tx| {
            Ok(tx
                .connection
                .execute("UPDATE jobs SET progress = replace(progress, 'queued', 'cancelled') WHERE seq = 2", [])?)
        })
        .await
        .unwrap();
    let damaged = store.read::<_, StoreError, _>(|db| db.damaged_jobs()).await.unwrap();
    assert_eq!(damaged.len(), 2, "the sum and the column: {damaged:?}");
    assert!(damaged.iter().all(|line| line.contains(&job_id(2).to_string())));
}

/// What is too long, and what may be written until a checkpoint finds nobody else at it.
const LOG_BYTES: u64 = 256 * 1024 * 1024;

#[tokio::test]
async fn the_log_of_a_writer_that_never_pauses_does_not_grow_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let log = directory.path().join("conveyor.db-wal");
    let longest = std::sync::atomic::AtomicU64::new(0);
    // Four callers, so that there is always a request: 600 MB of log in all.
    let write = |caller: u64| {
        let (store, log, longest) = (&store, &log, &longest);
        async move {
            for number in 0..60 {
                let mut spec = spec(1_000 * caller + number);
                spec.labels = (0..32).map(|n| (format!("{n}"), "x".repeat(25_000))).collect();
                store
                    .write::<_, StoreError, _>(move |tx| {
                        let first = JobEvent::Submitted {
                            waiting: false,
                            needs_approval: false,
                            dry_run: false,
                            distributed: false,
                        };
                        tx.insert_job(now(), &new(&spec), &first)
                    })
                    .await
                    .unwrap();
                let length = std::fs::metadata(log).unwrap().len();
                longest.fetch_max(length, std::sync::atomic::Ordering::Relaxed);
            }
        }
    };
    tokio::join!(write(0), write(1), write(2), write(3));
    let longest = longest.into_inner();
    assert!(longest < LOG_BYTES, "{longest} bytes");
}
