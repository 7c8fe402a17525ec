//! What is over and may go: found by readers, deleted by the writer a few rows at a time.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::error::StoreError;
use super::tx::{Db, Tx, micros, timestamp};
use crate::domain::ids::JobId;
use crate::domain::job::event::JobEvent;
use crate::domain::job::state::StateKind;

/// The condition of the index `jobs_ended`, word for word. The index is named where it is meant: SQLite would sort all
/// finished jobs by itself for each few that are asked for.
const ENDED: &str = "state IN ('succeeded', 'failed', 'cancelled', 'skipped')";

/// A finished job's place in the order in which jobs ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ended {
    /// When, in microseconds since 1970.
    at: i64,
    /// Its number.
    pub seq: u64,
}

impl Ended {
    /// Before all.
    pub const START: Self = Self { at: i64::MIN, seq: 0 };
}

/// Who names a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobUse {
    /// Nobody.
    Unused,
    /// A job that has not ended.
    InUse,
    /// Only jobs that have ended, the last of them then.
    Ended(Timestamp),
}

impl Db<'_> {
    /// Jobs that ended before a moment, in the order of their ends, behind `after`, at most `limit`.
    pub fn ended(&self, before: Timestamp, after: Ended, limit: usize) -> Result<Vec<(Ended, JobId)>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT updated_at, seq, id FROM jobs INDEXED BY jobs_ended WHERE {ENDED} AND updated_at < ?1 AND (updated_at, seq) > (?2, ?3)
             ORDER BY updated_at, seq LIMIT ?4"
        ))?;
        let rows = statement.query_map(params![micros(before), after.at, after.seq, limit], |row| {
            Ok((Ended { at: row.get(0)?, seq: row.get(1)? }, JobId(row.get(2)?)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The moment before which all but the newest `keep` finished jobs ended; none where there are no more.
    pub fn end_beyond(&self, keep: u64) -> Result<Option<Timestamp>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT updated_at FROM jobs INDEXED BY jobs_ended WHERE {ENDED} ORDER BY updated_at DESC LIMIT 1 OFFSET ?1"
        ))?;
        let offset = i64::try_from(keep).unwrap_or(i64::MAX);
        let at: Option<i64> = statement.query_row([offset], |row| row.get(0)).optional()?;
        at.map(|at| timestamp(at.saturating_add(1))).transpose()
    }

    /// Who names a blob.
    pub fn blob_use(&self, digest: &str) -> Result<BlobUse, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT jobs.state, jobs.updated_at FROM blob_refs JOIN jobs ON jobs.seq = blob_refs.job WHERE blob_refs.digest = ?1",
        )?;
        let mut rows = statement.query([digest])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let state: String = row.get(0)?;
            if !StateKind::parse(&state).is_some_and(StateKind::is_final) {
                return Ok(BlobUse::InUse);
            }
            last = last.max(Some(row.get::<_, i64>(1)?));
        }
        last.map_or(Ok(BlobUse::Unused), |at| Ok(BlobUse::Ended(timestamp(at)?)))
    }

    /// Every blob that a job names.
    pub fn named_blobs(&self) -> Result<Vec<String>, StoreError> {
        let mut statement = self.connection.prepare("SELECT DISTINCT digest FROM blob_refs ORDER BY digest")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The number of the last event that was pruned; 0 where none was.
    pub fn events_pruned_to(&self) -> Result<u64, StoreError> {
        self.meta("events_pruned_to")
    }

    /// Up to which end of a job logs are gone.
    pub fn logs_pruned_to(&self) -> Result<Ended, StoreError> {
        Ok(Ended { at: self.meta("logs_pruned_to")?, seq: self.meta("logs_pruned_seq")? })
    }

    fn meta<T: rusqlite::types::FromSql>(&self, key: &str) -> Result<T, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
        Ok(statement.query_row([key], |row| row.get(0))?)
    }
}

impl Tx<'_> {
    /// Deletes a job that ended before a moment with all that is told of it; tells whether it did. A job stays while another
    /// that depends on it may still run, and while its submission has not ended.
    pub fn prune_job(&mut self, id: JobId, before: Timestamp) -> Result<bool, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT seq FROM jobs WHERE id = ?1 AND {ENDED} AND updated_at < ?2
             AND NOT EXISTS (SELECT 1 FROM jobs AS other INDEXED BY jobs_open WHERE other.submission = jobs.submission
                AND other.state NOT IN ('succeeded', 'failed', 'cancelled', 'skipped'))
             AND NOT EXISTS (SELECT 1 FROM dependencies JOIN jobs AS other ON other.seq = dependencies.job
                WHERE dependencies.depends_on = jobs.seq AND other.state <> 'succeeded')"
        ))?;
        let seq: Option<u64> = statement.query_row(params![id.0, micros(before)], |row| row.get(0)).optional()?;
        drop(statement);
        let Some(seq) = seq else { return Ok(false) };
        for event in self.readable_story(seq)? {
            if let JobEvent::Offered { batch } = event {
                self.connection
                    .prepare_cached("DELETE FROM batches WHERE id = ?1 AND state = 'settled'")?
                    .execute([batch.0])?;
            }
        }
        self.connection
            .prepare_cached(
                "UPDATE meta SET value = max(value, (SELECT max(number) FROM events WHERE job = ?1)) WHERE key = 'events_pruned_to'",
            )?
            .execute([seq])?;
        for delete in [
            "DELETE FROM events WHERE job = ?1",
            "DELETE FROM labels WHERE job = ?1",
            "DELETE FROM blob_refs WHERE job = ?1",
            "DELETE FROM dependencies WHERE job = ?1",
            "DELETE FROM dependencies WHERE depends_on = ?1",
            "DELETE FROM jobs WHERE seq = ?1",
        ] {
            self.connection.prepare_cached(delete)?.execute([seq])?;
        }
        Ok(true)
    }

    /// Notes that the logs of all jobs that ended up to there are gone.
    pub fn note_logs_pruned(&mut self, to: Ended) -> Result<(), StoreError> {
        let sql = "UPDATE meta SET value = iif(key = 'logs_pruned_to', ?1, ?2) WHERE key IN ('logs_pruned_to', 'logs_pruned_seq')";
        self.connection.prepare_cached(sql)?.execute(params![to.at, to.seq])?;
        Ok(())
    }

    /// Gives some free pages of the file back to the file system; tells how many are left.
    pub fn give_back(&mut self, pages: u32) -> Result<u64, StoreError> {
        give_back(self.connection, pages)
    }
}

/// Moves free pages to the end of the file and cuts it, `pages` of them at the most; tells how many are left.
pub(super) fn give_back(connection: &rusqlite::Connection, pages: u32) -> Result<u64, StoreError> {
    let vacuum: u32 = connection.query_row("PRAGMA auto_vacuum", [], |row| row.get(0))?;
    if vacuum != super::schema::INCREMENTAL {
        return Ok(0);
    }
    // Each row is a page: all of them must be taken for the work to be done.
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?)
}
