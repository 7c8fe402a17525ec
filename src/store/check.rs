//! Checks what the state must always be: every job's row is the sum of its events, and what it names is there.

use std::path::Path;

use rusqlite::{Connection, params};

use super::error::StoreError;
use super::jobs::{JOB_COLUMNS, job_from_row};
use super::schema;
use super::tx::{Db, from_json};
use crate::domain::digest::Sha256Digest;
use crate::domain::ids::JobId;
use crate::domain::job::event::JobEvent;
use crate::domain::job::{Job, replay};

/// How far to look at blobs and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// That blobs are there.
    Exists,
    /// Every byte of blobs, every piece of a log.
    Verify,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
    /// Jobs looked at.
    pub jobs: u64,
    /// Blobs looked at.
    pub blobs: u64,
    /// Pieces of logs looked at.
    pub log_pieces: u64,
}

/// Checks a state directory, on which a server may lead. What is damaged is named, and the rest is looked at all the same.
pub fn check_state(state: &Path, depth: Depth) -> Result<Checked, StoreError> {
    let path = state.join("conveyor.db");
    check_database(state, &path, depth).map_err(|error| error.in_database(&path))
}

fn check_database(state: &Path, path: &Path, depth: Depth) -> Result<Checked, StoreError> {
    let connection = schema::open_reader(path)?;
    schema::JOBS.check_version(&connection, path)?;
    // One state for all that follows.
    let snapshot = connection.unchecked_transaction()?;
    let mut checked = Checked::default();
    check_file(&snapshot, "conveyor.db", &mut checked.problems)?;
    let db = Db::new(&snapshot);
    checked.jobs = db.check_jobs(&mut checked.problems)?;
    let mut statement = snapshot.prepare("SELECT id FROM batches")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match row.get(0) {
            Ok(id) => {
                let read = db.batch(crate::domain::ids::BatchId(id));
                checked.problems.extend(read.err().map(|error| error.to_string()));
            }
            Err(error) => checked.problems.push(format!("a batch has an id that is none: {error}")),
        }
    }
    checked.problems.extend(db.damaged_tokens()?);
    checked.problems.extend(db.damaged_notifications()?);
    for name in db.named_blobs()? {
        checked.blobs += 1;
        if let Some(problem) = check_blob(state, &name, depth, db.blob_use(&name)? == super::BlobUse::InUse) {
            checked.problems.push(problem);
        }
    }
    let logs = state.join("logs.db");
    if logs.exists() {
        let logs = schema::open_reader(&logs)?;
        check_file(&logs, "logs.db", &mut checked.problems)?;
        if depth == Depth::Verify {
            checked.log_pieces = check_logs(&logs, &mut checked.problems)?;
        }
    }
    Ok(checked)
}

fn check_file(connection: &Connection, name: &str, problems: &mut Vec<String>) -> Result<(), StoreError> {
    let mut statement = connection.prepare("PRAGMA integrity_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let said: String = row.get(0)?;
        if said != "ok" {
            problems.push(format!("{name}: {said}"));
        }
    }
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (table, of): (String, String) = (row.get(0)?, row.get(2)?);
        problems.push(format!("{name}: a row of {table} names one of {of} that does not exist"));
    }
    Ok(())
}

/// What is wrong with a blob. One that only finished jobs name may have been pruned.
fn check_blob(state: &Path, name: &str, depth: Depth, is_needed: bool) -> Option<String> {
    use std::io::Read;

    use sha2::Digest;
    let Ok(digest) = name.parse::<Sha256Digest>() else { return Some(format!("blob {name}: its name is no digest")) };
    let hex = digest.to_hex();
    let path = state.join("blobs").join(&hex[..2]).join(&hex[2..]);
    let mut file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return is_needed.then(|| format!("blob {name}: a job needs it, and it is not there"));
        }
        Err(error) => return Some(format!("blob {name}: {error}")),
    };
    if depth == Depth::Exists {
        return None;
    }
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer) {
            Err(error) => return Some(format!("blob {name}: {error}")),
            Ok(0) => break,
            Ok(n) => hasher.update(&buffer[..n]),
        }
    }
    let found = Sha256Digest::new(hasher.finalize().into());
    (found != digest).then(|| format!("blob {name}: its bytes hash to {found}"))
}

fn check_logs(connection: &Connection, problems: &mut Vec<String>) -> Result<u64, StoreError> {
    let mut statement = connection.prepare(
        "SELECT job, attempt, start, length, data, 'log' FROM chunks
         UNION ALL SELECT job, attempt, start, length, data, 'list of changed paths' FROM changes",
    )?;
    let mut rows = statement.query([])?;
    let mut pieces = 0;
    while let Some(row) = rows.next()? {
        pieces += 1;
        let (job, attempt, start, length) =
            (JobId(row.get(0)?), row.get::<_, u32>(1)?, row.get::<_, u64>(2)?, row.get(3)?);
        let data = zstd::bulk::decompress(row.get_ref(4)?.as_blob().unwrap_or_default(), length);
        if !data.is_ok_and(|data| data.len() == length) {
            let what: String = row.get(5)?;
            problems.push(format!("{what} of job {job}, attempt {attempt}: the piece at byte {start} is damaged"));
        }
    }
    Ok(pieces)
}

impl Db<'_> {
    /// Hands every job to `visit`, oldest first, with its events in their order. Holds one job at a time.
    pub fn for_each_job<E: From<StoreError>>(
        &self,
        mut visit: impl FnMut(Job, Vec<JobEvent>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut after = 0;
        while let Some(seq) = self.number_after(after)? {
            after = seq;
            visit(self.numbered(seq)?, self.events_of(seq)?)?;
        }
        Ok(())
    }

    /// The jobs whose row is not the sum of their events, each with what is wrong, in words. None is as it must be.
    pub fn damaged_jobs(&self) -> Result<Vec<String>, StoreError> {
        let mut damaged = Vec::new();
        self.check_jobs(&mut damaged)?;
        Ok(damaged)
    }

    /// Adds what is wrong with jobs to `problems`; tells how many there are. One that cannot be read keeps no other from it.
    fn check_jobs(&self, problems: &mut Vec<String>) -> Result<u64, StoreError> {
        let (mut after, mut jobs) = (0, 0);
        while let Some(seq) = self.number_after(after)? {
            (after, jobs) = (seq, jobs + 1);
            if let Err(error) = self.check_job(seq, problems) {
                match error {
                    StoreError::Corrupt { .. } => problems.push(error.to_string()),
                    error => return Err(error),
                }
            }
        }
        Ok(jobs)
    }

    fn check_job(&self, seq: u64, problems: &mut Vec<String>) -> Result<(), StoreError> {
        let job = self.numbered(seq)?;
        let id = job.id();
        match replay(&self.events_of(seq)?) {
            Ok(progress) if progress.as_ref() == Some(&job.progress) => {}
            Ok(_) => problems.push(format!("job {id}: its row is not the sum of its events")),
            Err(error) => problems.push(format!("job {id}: {error}")),
        }
        match self.job_state(id)? {
            Some((number, state)) if number == seq && state == job.progress.state.kind() => {}
            Some((number, _)) if number == seq => problems.push(format!("job {id}: its state column is not its state")),
            _ => problems.push(format!("job {id}: its row has another id")),
        }
        Ok(())
    }

    /// All that happened to a job, in order.
    pub fn story(&self, id: JobId) -> Result<Vec<JobEvent>, StoreError> {
        self.job_state(id)?.map_or(Ok(Vec::new()), |(seq, _)| self.events_of(seq))
    }

    /// The jobs that have not ended, oldest first.
    pub(super) fn unfinished(&self) -> Result<Vec<JobId>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT id FROM jobs WHERE state NOT IN ('succeeded', 'failed', 'cancelled', 'skipped') ORDER BY seq",
        )?;
        let rows = statement.query_map([], |row| Ok(JobId(row.get(0)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn number_after(&self, seq: u64) -> Result<Option<u64>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT min(seq) FROM jobs WHERE seq > ?1")?;
        Ok(statement.query_row([seq], |row| row.get(0))?)
    }

    fn numbered(&self, seq: u64) -> Result<Job, StoreError> {
        let sql = format!("SELECT {JOB_COLUMNS} FROM jobs WHERE seq = ?1");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([seq])?;
        let row = rows.next()?.ok_or_else(|| StoreError::corrupt(format!("job number {seq}"), "it vanished"))?;
        job_from_row(row)
    }

    /// What can be read of what happened to a job, in order.
    pub(super) fn readable_story(&self, seq: u64) -> Result<Vec<JobEvent>, StoreError> {
        let mut statement =
            self.connection.prepare_cached("SELECT event FROM events WHERE job = ?1 ORDER BY number")?;
        let mut rows = statement.query([seq])?;
        let mut events = Vec::new();
        while let Some(row) = rows.next()? {
            let text = row.get_ref(0)?.as_str().unwrap_or_default();
            events.extend(serde_json::from_str::<JobEvent>(text).ok());
        }
        Ok(events)
    }

    fn events_of(&self, seq: u64) -> Result<Vec<JobEvent>, StoreError> {
        let mut statement =
            self.connection.prepare_cached("SELECT number, event FROM events WHERE job = ?1 ORDER BY number")?;
        let mut rows = statement.query(params![seq])?;
        let mut events = Vec::new();
        while let Some(row) = rows.next()? {
            let number: u64 = row.get(0)?;
            let what = || format!("event {number}");
            let text: String = row.get(1).map_err(|error| StoreError::from(error).in_row(what))?;
            events.push(from_json(&what(), &text)?);
        }
        Ok(events)
    }
}
