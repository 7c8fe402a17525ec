//! The jobs' logs and the lists of what they changed, in a SQLite file of their own: losing the last second of a log in a power cut is no loss of a job.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, params};
use tokio::sync::watch;

use super::error::StoreError;
use super::schema;
use crate::domain::ids::JobId;

/// Bytes of an attempt's log that are kept: its first half and its last half.
pub const KEPT_BYTES: u64 = 16 * 1024 * 1024;

/// Logs by job and attempt.
#[derive(Clone)]
pub struct LogStore {
    connection: Arc<Mutex<Connection>>,
    appended: watch::Sender<u64>,
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPiece {
    /// Where it begins, in bytes from the log's start. More than was asked for means that the middle was dropped.
    pub start: u64,
    /// Its bytes.
    pub data: Vec<u8>,
}

impl LogStore {
    /// Opens the file, making it where absent.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::new(schema::LOGS.open(path)?))
    }

    /// Logs that live as long as this value.
    pub fn in_memory() -> Result<Self, StoreError> {
        Ok(Self::new(schema::LOGS.open_in_memory()?))
    }

    fn new(connection: Connection) -> Self {
        // Logs are appended from one connection only, so the checkpoint can be SQLite's own.
        drop(connection.pragma_update(None, "wal_autocheckpoint", 1000));
        Self { connection: Arc::new(Mutex::new(connection)), appended: watch::Sender::new(0) }
    }

    /// Tells whenever anything was appended to any log.
    pub fn appended(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }

    /// Appends a piece and returns the log's end. What is there already is skipped, so sending twice is sending once;
    /// a piece that begins after the end is not stored (the sender goes on from the end that it is told).
    pub async fn append(&self, job: JobId, attempt: u32, start: u64, data: Vec<u8>) -> Result<u64, StoreError> {
        let appended = self.run(move |connection| append(connection, Table::Log, job, attempt, start, &data)).await;
        self.appended.send_modify(|count| *count += 1);
        appended
    }

    /// The next piece at or after `from`; `None` at the end.
    pub async fn read(&self, job: JobId, attempt: u32, from: u64) -> Result<Option<LogPiece>, StoreError> {
        self.run(move |connection| read(connection, Table::Log, job, attempt, from)).await
    }

    /// Where the log ends, in bytes.
    pub async fn end(&self, job: JobId, attempt: u32) -> Result<u64, StoreError> {
        self.run(move |connection| end(connection, Table::Log, job, attempt)).await
    }

    /// Appends to the list of the paths that an attempt changes, otherwise as [`LogStore::append`]. All of it is kept.
    pub async fn append_changes(&self, job: JobId, attempt: u32, start: u64, data: Vec<u8>) -> Result<u64, StoreError> {
        self.run(move |connection| append(connection, Table::Changes, job, attempt, start, &data)).await
    }

    /// The next piece of the list of changed paths, as [`LogStore::read`].
    pub async fn read_changes(&self, job: JobId, attempt: u32, from: u64) -> Result<Option<LogPiece>, StoreError> {
        self.run(move |connection| read(connection, Table::Changes, job, attempt, from)).await
    }

    /// Deletes all logs of these jobs, and the lists of what they changed.
    pub async fn remove(&self, jobs: Vec<JobId>) -> Result<(), StoreError> {
        if jobs.is_empty() {
            return Ok(());
        }
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            for job in jobs {
                for table in [Table::Log, Table::Changes] {
                    let sql = format!("DELETE FROM {} WHERE job = ?1", table.name());
                    transaction.prepare_cached(&sql)?.execute([job.0])?;
                }
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Bytes of the file that hold something.
    pub async fn used_bytes(&self) -> Result<u64, StoreError> {
        self.run(|connection| {
            let number = |what: &str| connection.query_row(&format!("PRAGMA {what}"), [], |row| row.get::<_, u64>(0));
            Ok(number("page_count")?.saturating_sub(number("freelist_count")?) * number("page_size")?)
        })
        .await
    }

    /// Gives some free pages of the file back to the file system; tells how many are left.
    pub async fn give_back(&self, pages: u32) -> Result<u64, StoreError> {
        self.run(move |connection| super::retention::give_back(connection, pages)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.connection);
        tokio::task::spawn_blocking(move || work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner)))
            .await
            .unwrap_or(Err(StoreError::Stopped))
    }
}

/// Which text of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Table {
    Log,
    Changes,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Log => "chunks",
            Self::Changes => "changes",
        }
    }
}

fn append(
    connection: &mut Connection,
    table: Table,
    job: JobId,
    attempt: u32,
    start: u64,
    data: &[u8],
) -> Result<u64, StoreError> {
    let end = end(connection, table, job, attempt)?;
    let fresh = data.get(usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX)..).unwrap_or_default();
    if start > end || fresh.is_empty() {
        return Ok(end);
    }
    let packed = zstd::bulk::compress(fresh, 3).map_err(StoreError::io("compress a log"))?;
    let name = table.name();
    let transaction = connection.transaction()?;
    transaction
        .prepare_cached(&format!("INSERT INTO {name} (job, attempt, start, length, data) VALUES (?1, ?2, ?3, ?4, ?5)"))?
        .execute(params![job.0, attempt, end, fresh.len(), packed])?;
    let end = end + fresh.len() as u64;
    if table == Table::Log {
        transaction
            .prepare_cached(
                "DELETE FROM chunks WHERE job = ?1 AND attempt = ?2 AND start >= ?3 AND start + length <= ?4",
            )?
            .execute(params![job.0, attempt, KEPT_BYTES / 2, end.saturating_sub(KEPT_BYTES / 2)])?;
    }
    transaction.commit()?;
    Ok(end)
}

fn read(
    connection: &Connection,
    table: Table,
    job: JobId,
    attempt: u32,
    from: u64,
) -> Result<Option<LogPiece>, StoreError> {
    let name = table.name();
    let mut statement = connection.prepare_cached(&format!(
        "SELECT start, length, data FROM {name} WHERE job = ?1 AND attempt = ?2 AND start + length > ?3 ORDER BY start LIMIT 1",
    ))?;
    let mut rows = statement.query(params![job.0, attempt, from])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (start, length): (u64, usize) = (row.get(0)?, row.get(1)?);
    let packed: Vec<u8> = row.get(2)?;
    let mut data = zstd::bulk::decompress(&packed, length).map_err(StoreError::io("decompress a log"))?;
    let skip = usize::try_from(from.saturating_sub(start)).unwrap_or(usize::MAX).min(data.len());
    data.drain(..skip);
    Ok(Some(LogPiece { start: start.max(from), data }))
}

fn end(connection: &Connection, table: Table, job: JobId, attempt: u32) -> Result<u64, StoreError> {
    let name = table.name();
    let mut statement = connection.prepare_cached(&format!(
        "SELECT coalesce(max(start + length), 0) FROM {name} WHERE job = ?1 AND attempt = ?2"
    ))?;
    Ok(statement.query_row(params![job.0, attempt], |row| row.get(0))?)
}
