use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use tokio::sync::watch;

use super::{job_id, new, now, spec};
use crate::domain::job::event::JobEvent;
use crate::store::error::StoreError;
use crate::store::schema;
use crate::store::tx::{Db, Tx};
use crate::store::writer::{Request, run_group};

/// What a request was told: its own verdict, and the group's error.
type Told = Arc<Mutex<Vec<(u64, Result<(), String>)>>>;

type Work = Box<dyn FnMut(&mut Tx<'_>) -> Result<(), StoreError> + Send>;

struct Probe {
    number: u64,
    work: Work,
    result: Result<(), String>,
    told: Told,
}

impl Request for Probe {
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        self.result = Err("panicked".into());
        self.result = (self.work)(tx).map_err(|error| format!("own: {error}"));
        self.result.is_ok()
    }

    fn reply(self: Box<Self>, commit: Option<StoreError>) {
        let result = self.result.and(commit.map_or(Ok(()), |error| Err(format!("group: {error}"))));
        self.told.lock().unwrap().push((self.number, result));
    }
}

fn insert(tx: &mut Tx<'_>, number: u64, name: &str) -> Result<(), StoreError> {
    let mut spec = spec(number);
    spec.name = name.into();
    tx.insert_job(
        now(),
        &new(&spec),
        &JobEvent::Submitted { waiting: false, needs_approval: false, dry_run: false, distributed: false },
    )?;
    Ok(())
}

struct Group {
    connection: Connection,
    told: Told,
    requests: Vec<Box<dyn Request>>,
    committed: watch::Sender<u64>,
}

impl Group {
    fn new() -> Self {
        let connection = schema::JOBS.open_in_memory().unwrap();
        Self { connection, told: Told::default(), requests: Vec::new(), committed: watch::Sender::new(0) }
    }

    fn add(&mut self, number: u64, work: impl FnMut(&mut Tx<'_>) -> Result<(), StoreError> + Send + 'static) {
        let (work, result, told) = (Box::new(work), Ok(()), Arc::clone(&self.told));
        self.requests.push(Box::new(Probe { number, work, result, told }));
    }

    fn run(&mut self) -> Vec<(u64, Result<(), String>)> {
        run_group(
            &mut self.connection,
            Path::new("db"),
            std::mem::take(&mut self.requests),
            &self.committed,
            &Default::default(),
        );
        std::mem::take(&mut self.told.lock().unwrap())
    }

    fn has(&self, number: u64) -> bool {
        Db::new(&self.connection).job(job_id(number)).unwrap().is_some()
    }
}

#[test]
fn a_request_that_fails_or_panics_undoes_only_its_own_work() {
    let mut group = Group::new();
    group.add(1, |tx| insert(tx, 1, "kept"));
    group.add(2, |tx| {
        insert(tx, 2, "undone")?;
        Err(StoreError::Stopped)
    });
    group.add(3, |tx| {
        insert(tx, 3, "undone")?;
        panic!("a defect in one request")
    });
    group.add(4, |tx| insert(tx, 4, "kept"));
    let told = group.run();
    assert_eq!(told.iter().map(|(_, result)| result.is_ok()).collect::<Vec<_>>(), [true, false, false, true]);
    assert_eq!([1, 2, 3, 4].map(|number| group.has(number)), [true, false, false, true]);
    assert_eq!(*group.committed.borrow(), 2, "two events are committed");
}

#[test]
fn a_request_sees_the_work_of_those_before_it() {
    let mut group = Group::new();
    group.add(1, |tx| insert(tx, 1, "first"));
    group.add(2, |tx| {
        assert!(tx.job(job_id(1))?.is_some());
        insert(tx, 1, "again")
    });
    let told = group.run();
    assert!(told[0].1.is_ok() && told[1].1.is_err());
}

/// SQLite undoes the whole transaction by itself when the disk is full: nobody may be told otherwise, and nothing that
/// comes after it in the group may be kept.
#[test]
fn on_a_full_disk_nothing_of_the_group_is_kept_and_everyone_is_told() {
    let mut group = Group::new();
    let pages: u32 = group.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    group.connection.pragma_update(None, "max_page_count", pages + 4).unwrap();
    group.add(1, |tx| insert(tx, 1, "small"));
    group.add(2, |tx| insert(tx, 2, &"large".repeat(20_000)));
    group.add(3, |tx| insert(tx, 3, "small"));
    let told = group.run();
    assert_eq!([1, 2, 3].map(|number| group.has(number)), [false; 3]);
    for (number, result) in told {
        assert!(result.as_ref().is_err_and(|why| why.contains("full")), "{number}: {result:?}");
    }
    assert_eq!(*group.committed.borrow(), 0);

    group.connection.pragma_update(None, "max_page_count", 1_000_000).unwrap();
    group.add(4, |tx| insert(tx, 4, "small"));
    assert_eq!(group.run(), [(4, Ok(()))]);
    assert!(group.has(4));
}
