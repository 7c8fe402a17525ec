//! The one thread that writes: it commits many requests together, each under a savepoint of its own.
//!
//! That is where throughput comes from; durability is never weakened (`synchronous=FULL`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rusqlite::Connection;
use tokio::sync::{mpsc, watch};

use super::damage::Damage;
use super::error::StoreError;
use super::tx::Tx;
use crate::planted::{self, Bug};

/// Requests committed together at the most.
const GROUP: usize = 512;
/// Requests that may wait for the writer; beyond that callers wait.
const QUEUE: usize = 4096;
/// Commits between two checkpoints.
const CHECKPOINT_EVERY: u32 = 64;

/// One request: `run` works inside its savepoint, `reply` tells the caller, after the commit.
pub(super) trait Request: Send {
    /// Does the work; `false` undoes it.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Tells the caller; `commit` is the error that undid the whole group, if there was one.
    fn reply(self: Box<Self>, commit: Option<StoreError>);
}

/// Sends requests to the writer thread. Dropping it commits what is queued and ends the thread before it returns.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Request>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(
        connection: Connection,
        path: PathBuf,
        committed: watch::Sender<u64>,
        damage: Arc<Damage>,
    ) -> Result<Self, StoreError> {
        let (queue, requests) = mpsc::channel(QUEUE);
        let (due, wanted) = sync_channel(1);
        let checkpointed = path.clone();
        std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || checkpoint_beside(&checkpointed, &wanted))
            .map_err(StoreError::io("start the checkpoint thread"))?;
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write(connection, &path, requests, &committed, &damage, &due))
            .map_err(StoreError::io("start the database writer thread"))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Queues a request; waits while the queue is full.
    pub(super) async fn send(&self, request: Box<dyn Request>) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or(StoreError::Stopped)?;
        queue.send(request).await.map_err(|_| StoreError::Stopped)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        // A request that holds the last handle is dropped on the thread itself, which cannot wait for its own end.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            drop(thread.join());
        }
    }
}

fn write(
    mut connection: Connection,
    path: &std::path::Path,
    mut requests: mpsc::Receiver<Box<dyn Request>>,
    committed: &watch::Sender<u64>,
    damage: &Damage,
    checkpoint_due: &SyncSender<()>,
) {
    let (mut commits, mut log) = (0u32, LogLength::of(path));
    while let Some(first) = requests.blocking_recv() {
        let group = std::iter::once(first).chain(std::iter::from_fn(|| requests.try_recv().ok())).take(GROUP).collect();
        run_group(&mut connection, path, group, committed, damage);
        commits += 1;
        if commits.is_multiple_of(CHECKPOINT_EVERY) {
            // A full channel means that a checkpoint is running already.
            let _ = checkpoint_due.try_send(());
        }
        if log.is_too_long() {
            checkpoint(&connection);
        }
    }
}

/// Runs a group of requests in one transaction and replies to each after the commit.
pub(super) fn run_group(
    connection: &mut Connection,
    path: &std::path::Path,
    mut group: Vec<Box<dyn Request>>,
    committed: &watch::Sender<u64>,
    damage: &Damage,
) {
    let before = connection.total_changes();
    let outcome = (|| {
        let mut transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut last_event = 0;
        for request in &mut group {
            let savepoint = transaction.savepoint()?;
            let mut tx = Tx::noting(&savepoint, damage);
            // A panic is the fault of one request and must not take the others' work with it.
            let keep = catch_unwind(AssertUnwindSafe(|| request.run(&mut tx))).unwrap_or(false);
            let event = tx.last_event();
            if keep {
                savepoint.commit()?;
                last_event = event.max(last_event);
            } else {
                drop(savepoint);
                // On a full disk SQLite may have undone the whole transaction by itself. Whatever ran next would be
                // committed alone, and its caller told that it was not.
                if transaction.is_autocommit() {
                    return Err(StoreError::Full { path: path.to_owned() });
                }
            }
        }
        crate::crash::point("store.before-commit");
        if planted::commit_fails() {
            return Err(StoreError::Full { path: path.to_owned() });
        }
        transaction.commit()?;
        crate::crash::point("store.committed");
        Ok(last_event)
    })();
    match outcome {
        Ok(last_event) => {
            if connection.total_changes() > before {
                damage.committed(Ok(()));
            }
            if last_event > 0 {
                committed.send_if_modified(|number| std::mem::replace(number, last_event.max(*number)) < last_event);
            }
            group.into_iter().for_each(|request| request.reply(None));
        }
        Err(_) if planted::is(Bug::RepliesWithoutCommit) => group.into_iter().for_each(|request| request.reply(None)),
        Err(error) => {
            let error: StoreError = error;
            damage.committed(Err(&error));
            tracing::error!(
                error = &error as &dyn std::error::Error,
                requests = group.len(),
                "database commit failed; nothing of it was kept"
            );
            let (full, unwritable) =
                (matches!(error, StoreError::Full { .. }), matches!(error, StoreError::Unwritable { .. }));
            let mut error = Some(error);
            for request in group {
                let each = match error.take() {
                    _ if full => StoreError::Full { path: path.to_owned() },
                    Some(error) => error,
                    None if unwritable => StoreError::Unwritable { source: None },
                    None => StoreError::NotCommitted,
                };
                request.reply(Some(each));
            }
        }
    }
}

/// Watches how long the log becomes.
///
/// SQLite begins it anew when a write finds all of it checkpointed, which never happens beside a writer that never pauses. Then
/// the writer must wait for a checkpoint itself: a server that is killed reads all of the log at its next start.
struct LogLength {
    path: PathBuf,
    /// Bytes at which something is done.
    limit: u64,
}

impl LogLength {
    /// Bytes: above those that SQLite leaves of a log that it began anew (`journal_size_limit`).
    const LONGEST: u64 = 96 << 20;
    /// Bytes after which it is tried again, where readers still needed the log.
    const PATIENCE: u64 = 16 << 20;

    fn of(database: &std::path::Path) -> Self {
        let mut path = database.as_os_str().to_owned();
        path.push("-wal");
        Self { path: path.into(), limit: Self::LONGEST }
    }

    fn is_too_long(&mut self) -> bool {
        let length = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        let is_too_long = length > self.limit;
        self.limit = match length {
            _ if is_too_long => length + Self::PATIENCE,
            ..Self::LONGEST => Self::LONGEST,
            _ => self.limit,
        };
        is_too_long
    }
}

/// Moves committed pages from the log into the database, beside the writer, whenever it is told to.
fn checkpoint_beside(path: &std::path::Path, wanted: &Receiver<()>) {
    let connection = match Connection::open(path) {
        Ok(connection) => connection,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, path = %path.display(), "cannot open the database for checkpoints; its log will grow");
            return;
        }
    };
    while wanted.recv().is_ok() {
        checkpoint(&connection);
    }
}

/// Moves what is committed and not in use.
fn checkpoint(connection: &Connection) {
    if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
        tracing::warn!(error = &error as &dyn std::error::Error, "checkpoint failed; the next one will do its work");
    }
}
