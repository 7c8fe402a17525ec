//! Everything that must survive: jobs, events, batches (SQLite), logs (a second SQLite file) and blobs (files).
//!
//! Writes go through [`Store::write`]: a closure on a [`Tx`], committed before the call returns. Reads see committed data
//! only. The operations are those of the use cases; no SQL leaves this module.

pub mod backup;
mod batches;
pub mod blobs;
mod check;
mod damage;
pub mod error;
mod jobs;
mod leader;
mod listing;
pub mod logs;
mod outbox;
pub mod repositories;
mod retention;
mod schema;
mod standing;
#[cfg(test)]
mod tests;
mod tokens;
mod tx;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

pub use check::{Checked, Depth, check_state};
use damage::Damage;
pub use error::StoreError;
pub use jobs::NewJob;
pub use leader::Leadership;
pub use listing::JobFilter;
pub use retention::{BlobUse, Ended};
pub use tx::{Db, Tx};
use writer::{Request, Writer};

/// The job database.
#[derive(Clone)]
pub struct Store {
    backend: Arc<Backend>,
    damage: Arc<Damage>,
    committed: watch::Sender<u64>,
    epoch: u64,
}

enum Backend {
    /// A file, a writer thread, and readers beside it. The lock is given up last, after the writer's last commit.
    File { writer: Writer, readers: Mutex<Vec<Connection>>, path: PathBuf, _leader: Leadership },
    /// In memory, everything on the caller's thread: simulations are deterministic.
    Inline { connection: Mutex<Connection> },
}

/// Idle read connections that are kept.
const IDLE_READERS: usize = 8;

impl Store {
    /// Opens the database below `directory` as the leader, or fails with [`StoreError::NotLeader`].
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::lead(directory, Leadership::take(directory)?)
    }

    /// Opens the database below `directory`, whose leadership was taken.
    pub fn lead(directory: &Path, leader: Leadership) -> Result<Self, StoreError> {
        if directory.join(backup::RESTORING).exists() {
            return Err(StoreError::HalfRestored { path: directory.to_owned() });
        }
        let path = directory.join("conveyor.db");
        let connection = schema::JOBS.open(&path)?;
        let (epoch, last_event) = begin_epoch(&connection)?;
        let committed = watch::Sender::new(last_event);
        let damage = Arc::<Damage>::default();
        let writer = Writer::start(connection, path.clone(), committed.clone(), Arc::clone(&damage))?;
        let backend = Backend::File { writer, readers: Mutex::default(), path, _leader: leader };
        Ok(Self { backend: Arc::new(backend), damage, committed, epoch })
    }

    /// A database that lives as long as this value.
    pub fn in_memory() -> Result<Self, StoreError> {
        let connection = schema::JOBS.open_in_memory()?;
        let (epoch, last_event) = begin_epoch(&connection)?;
        let backend = Backend::Inline { connection: Mutex::new(connection) };
        let (backend, committed) = (Arc::new(backend), watch::Sender::new(last_event));
        Ok(Self { backend, damage: Arc::default(), committed, epoch })
    }

    /// The same database after its server died and started again. Simulations only: a file is simply opened again.
    pub fn restarted(&self) -> Result<Self, StoreError> {
        let Backend::Inline { connection } = &*self.backend else { return Err(StoreError::Stopped) };
        let (epoch, last_event) = begin_epoch(&connection.lock().unwrap_or_else(PoisonError::into_inner))?;
        let (backend, committed) = (Arc::clone(&self.backend), watch::Sender::new(last_event));
        Ok(Self { backend, damage: Arc::default(), committed, epoch })
    }

    /// Number of this leadership; rises with each start.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Rows that could not be read and were passed over since this began; `check-db` names them.
    pub fn damaged_rows(&self) -> usize {
        self.damage.count()
    }

    /// Whether the disk failed the last commit that wrote anything: it was full, or broke.
    pub fn is_unwritable(&self) -> bool {
        self.damage.is_unwritable()
    }

    /// Finds out whether the writer answers and, after a commit that the disk failed, whether it can be written again. It is
    /// not written to otherwise: anybody may ask, as often as they like.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let was_unwritable = self.damage.is_unwritable();
        self.write(move |tx| if was_unwritable { tx.touch() } else { Ok(()) }).await
    }

    /// Tells the number of the last committed event, and whenever it rises.
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    /// Runs `work` and commits what it did; its error undoes it. What is returned is on stable storage.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        let (reply, result) = oneshot::channel();
        let request = Box::new(Call { work: Some(work), result: None, reply });
        match &*self.backend {
            Backend::File { writer, .. } => writer.send(request).await.map_err(E::from)?,
            Backend::Inline { connection } => {
                {
                    let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                    writer::run_group(
                        &mut connection,
                        Path::new(":memory:"),
                        vec![request],
                        &self.committed,
                        &self.damage,
                    );
                }
                // A caller may vanish between the commit and its reply here too, as it may with the thread.
                yield_once().await;
            }
        }
        result.await.unwrap_or_else(|_| Err(E::from(StoreError::Stopped)))
    }

    /// Reads a consistent state.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Db<'_>) -> Result<T, E> + Send + 'static,
    {
        match &*self.backend {
            Backend::Inline { connection } => {
                let result = {
                    let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                    work(&Db::noting(&connection, &self.damage))
                };
                yield_once().await;
                result
            }
            Backend::File { .. } => {
                let (backend, damage) = (Arc::clone(&self.backend), Arc::clone(&self.damage));
                tokio::task::spawn_blocking(move || backend.read(&damage, work))
                    .await
                    .unwrap_or_else(|_| Err(E::from(StoreError::Stopped)))
            }
        }
    }
}

impl Backend {
    fn read<T, E: From<StoreError>>(
        &self,
        damage: &Damage,
        work: impl FnOnce(&Db<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let Self::File { readers, path, .. } = self else { return Err(E::from(StoreError::Stopped)) };
        let idle = readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => schema::open_reader(path).map_err(E::from)?,
        };
        let result = (|| {
            let snapshot = connection.unchecked_transaction().map_err(|e| E::from(e.into()))?;
            let result = work(&Db::noting(&snapshot, damage));
            drop(snapshot);
            result
        })();
        let mut readers = readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < IDLE_READERS {
            readers.push(connection);
        }
        result
    }
}

/// Lets whoever drives this future do something else here, or drop it.
async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// A typed request to the writer.
struct Call<T, E, F> {
    work: Option<F>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Request for Call<T, E, F>
where
    T: Send,
    E: From<StoreError> + Send,
    F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        self.result = self.work.take().map(|work| work(tx));
        matches!(self.result, Some(Ok(_)))
    }

    fn reply(self: Box<Self>, commit: Option<StoreError>) {
        let result = match (self.result, commit) {
            (Some(Ok(_)), Some(error)) | (None, Some(error)) => Err(E::from(error)),
            (Some(result), _) => result,
            (None, None) => Err(E::from(StoreError::Stopped)),
        };
        // A caller that no longer waits does not need the reply.
        drop(self.reply.send(result));
    }
}

/// Begins a leadership; returns its number and that of the last event.
fn begin_epoch(connection: &Connection) -> Result<(u64, u64), StoreError> {
    let epoch =
        connection
            .query_row("UPDATE meta SET value = value + 1 WHERE key = 'epoch' RETURNING value", [], |row| row.get(0))?;
    let last = connection.query_row("SELECT coalesce(max(number), 0) FROM events", [], |row| row.get(0))?;
    Ok((epoch, last))
}
