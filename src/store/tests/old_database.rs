//! A database file of version 1 that must open for ever. It is never written again: `v1.db` is history.

use std::path::{Path, PathBuf};

use super::{assert_sound, job_id, new, now, samples, spec};
use crate::domain::job::spec::{Condition, Dependency};
use crate::domain::job::state::StateKind;
use crate::store::{Store, StoreError};

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1.db")
}

#[tokio::test]
async fn a_database_of_version_1_opens_and_every_row_of_it_decodes() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(file(), directory.path().join("conveyor.db")).unwrap();
    let store = Store::open(directory.path()).unwrap();
    assert_sound(&store).await;
    let counts = store.read::<_, StoreError, _>(|db| db.count_by_state()).await.unwrap();
    let states: Vec<StateKind> = counts.into_iter().map(|(state, _)| state).collect();
    // It is younger than that version.
    for state in StateKind::ALL.into_iter().filter(|state| *state != StateKind::Distributing) {
        assert!(states.contains(&state), "no sample is {state}");
    }
    let events = store.read::<_, StoreError, _>(|db| db.events(None, None, 0, 1000)).await.unwrap();
    let mut words: Vec<_> = events.iter().map(|event| event.event.word()).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), 19, "every event is in it: {words:?}");
    for (number, batch) in (1..).zip(samples::batches()) {
        let found = store.read::<_, StoreError, _>(move |db| db.batch(super::batch_id(number))).await.unwrap();
        assert_eq!(found, Some(batch));
    }
    let dependencies = store.read::<_, StoreError, _>(|db| db.dependencies(4)).await.unwrap();
    assert_eq!(dependencies.len(), 3);
    // What came later is there, and nothing in it.
    let (owner, tokens) =
        store.read::<_, StoreError, _>(|db| Ok((db.job(job_id(1))?.unwrap().owner, db.tokens()?))).await.unwrap();
    assert!(owner.is_none() && tokens.is_empty());
}

/// Made `v1.db`. To be run by hand, for a new version, under a new name.
#[tokio::test]
#[ignore = "writes the sample database; run it by hand"]
async fn write_the_sample_database() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    store
        .write::<_, StoreError, _>(|tx| {
            for (number, (kind, events)) in (1..).zip(samples::histories()) {
                let mut spec = spec(number);
                spec.labels = [("sample".to_owned(), kind.as_str().to_owned())].into();
                if number == 4 {
                    let conditions = [Condition::Success, Condition::Failure, Condition::Always];
                    let of = |(number, condition)| Dependency { job_id: job_id(number), condition };
                    spec.dependencies = (1..).zip(conditions).map(of).collect();
                }
                tx.insert_job(now(), &new(&spec), &samples::first(kind, &events))?;
                let mut job = tx.job(spec.id)?.unwrap();
                for event in &events {
                    job = tx.apply(now(), job, event)?;
                }
                assert_eq!(job.progress.state.kind(), kind);
            }
            samples::batches().iter().try_for_each(|batch| tx.insert_batch(now(), batch))
        })
        .await
        .unwrap();
    assert!(!file().exists(), "what is checked in is never written again");
    std::fs::create_dir_all(file().parent().unwrap()).unwrap();
    drop(store);
    let connection = rusqlite::Connection::open(directory.path().join("conveyor.db")).unwrap();
    connection.execute("VACUUM INTO ?1", [file().to_str().unwrap()]).unwrap();
}
