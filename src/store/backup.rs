//! Copies of a whole state directory: taken while a server runs, put back while none does.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::schema;
use super::tx::{Db, Tx};
use crate::domain::batch::BatchState;
use crate::domain::digest::Sha256Digest;
use crate::domain::job::event::JobEvent;
use crate::domain::job::state::JobState;

/// Written last: a directory without it is no backup.
const DESCRIPTION: &str = "backup.json";
/// There while a restore is under way: no server starts on half of a state.
pub(super) const RESTORING: &str = "restoring";
/// Events after a restore have numbers beyond all that the lost time can have given, so that no client takes one for another.
const EVENTS_LEAP: u64 = 1 << 32;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// Of this description, 1.
    pub format: u32,
    /// When its state was that of the server.
    pub at: Timestamp,
    /// Jobs in it.
    pub jobs: u64,
    /// Those of them that had not ended.
    pub unfinished: u64,
    /// The last event in it.
    pub last_event: u64,
    /// Blobs in it.
    pub blobs: u64,
    /// Blobs that jobs name and that were not there; a job that needs one will fail.
    pub missing_blobs: Vec<String>,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// What was put back.
    pub backup: Backup,
    /// Jobs that were not begun, and are held back as failed: they may have been published after the backup.
    pub held_back: u64,
    /// Jobs that a worker had: their node is asked what became of them.
    pub recovering: u64,
}

/// Copies the state of a server, which may be running, into a new directory.
///
/// The databases are copied one after the other, jobs first: logs are never older than their jobs. Blobs are linked where
/// the file system can, and copied elsewhere. The directory gets its name when all of it is on stable storage.
pub fn back_up(state: &Path, target: &Path, now: Timestamp) -> Result<Backup, StoreError> {
    let exists = || std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it exists already; name a new one");
    if target.symlink_metadata().is_ok() {
        return Err(StoreError::io(format!("back up into {}", target.display()))(exists()));
    }
    let parent = parent(target);
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let partial = parent.join(format!(".{name}.partial"));
    if partial.exists() {
        // What a backup that was killed left.
        std::fs::remove_dir_all(&partial).map_err(StoreError::io(format!("clear {}", partial.display())))?;
    }
    make_private(&partial)?;
    let live = open_to_copy(&state.join("conveyor.db"))?;
    // Blobs that are named now may be pruned once their jobs end; those that are named later are too young for that.
    copy_blobs(state, &partial, &Db::new(&live).named_blobs()?)?;
    crate::crash::point("backup.blobs-copied");
    copy_database(&live, &partial.join("conveyor.db"))?;
    crate::crash::point("backup.jobs-copied");
    let copy = schema::open_reader(&partial.join("conveyor.db"))?;
    let (blobs, missing_blobs) = copy_blobs(state, &partial, &Db::new(&copy).named_blobs()?)?;
    let logs = state.join("logs.db");
    if logs.exists() {
        copy_database(&schema::open_reader(&logs)?, &partial.join("logs.db"))?;
    }
    let number = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, u64>(0));
    let backup = Backup {
        format: 1,
        at: now,
        jobs: number("SELECT count(*) FROM jobs")?,
        unfinished: number(
            "SELECT count(*) FROM jobs WHERE state NOT IN ('succeeded', 'failed', 'cancelled', 'skipped')",
        )?,
        last_event: number("SELECT coalesce(max(number), 0) FROM events")?,
        blobs,
        missing_blobs,
    };
    drop(copy);
    let text = serde_json::to_vec_pretty(&backup).map_err(|e| StoreError::corrupt("the backup's description", e))?;
    let description = partial.join(DESCRIPTION);
    std::fs::write(&description, text).map_err(StoreError::io(format!("write {}", description.display())))?;
    sync_tree(&partial)?;
    crate::crash::point("backup.before-name");
    std::fs::rename(&partial, target).map_err(StoreError::io(format!("name {}", target.display())))?;
    sync(&parent)?;
    Ok(backup)
}

/// Puts a backup back into a directory that holds nothing, and which no server leads on.
///
/// What happened after the backup is not known any more, but the repositories have it. So nothing that might have been published
/// since is published again: jobs that no worker had are held back as failed, until somebody has looked and retries them, and
/// the nodes of the others are asked for the tags of their batches; what is not found there is cancelled. With `go_on` jobs go on
/// as if nothing had been lost: only right where nothing ran after the backup was made.
pub fn restore(source: &Path, state: &Path, now: Timestamp, go_on: bool) -> Result<Restored, StoreError> {
    let description = source.join(DESCRIPTION);
    let text = std::fs::read(&description).map_err(StoreError::io(format!("read {}", description.display())))?;
    let backup: Backup =
        serde_json::from_slice(&text).map_err(|e| StoreError::corrupt(description.display().to_string(), e))?;
    if backup.format != 1 {
        return Err(StoreError::corrupt(description.display().to_string(), "a newer program wrote it"));
    }
    make_private(state)?;
    let _leader = super::Leadership::take(state)?;
    refuse_used(state)?;
    let marker = state.join(RESTORING);
    std::fs::write(&marker, "").map_err(StoreError::io(format!("write {}", marker.display())))?;
    sync(state)?;

    let copy = |name: &str, to: &str| {
        let (from, to) = (source.join(name), state.join(to));
        std::fs::copy(&from, &to).map(drop).map_err(StoreError::io(format!("copy {}", from.display())))
    };
    copy("conveyor.db", "conveyor.db")?;
    if source.join("logs.db").exists() {
        copy("logs.db", "logs.db")?;
    }
    let restored = {
        let mut connection = schema::JOBS.open(&state.join("conveyor.db"))?;
        let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if sound != "ok" {
            return Err(StoreError::corrupt(source.join("conveyor.db").display().to_string(), sound));
        }
        copy_blobs(source, state, &Db::new(&connection).named_blobs()?)?;
        let transaction = connection.transaction()?;
        let (held_back, recovering) = settle(&transaction, &backup, now, go_on)?;
        transaction.commit()?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Restored { backup, held_back, recovering }
    };
    sync_tree(state)?;
    crate::crash::point("restore.before-done");
    std::fs::remove_file(&marker).map_err(StoreError::io(format!("remove {}", marker.display())))?;
    sync(state)?;
    Ok(restored)
}

/// Makes the state of a backup one that can be led on.
fn settle(connection: &Connection, backup: &Backup, now: Timestamp, go_on: bool) -> Result<(u64, u64), StoreError> {
    let mut tx = Tx::new(connection);
    // Tokens carry the epoch: those of the lost time were below this moment's, since each start adds one.
    connection.execute("UPDATE meta SET value = max(value + 1, ?1) WHERE key = 'epoch'", [now.as_second()])?;
    if !go_on {
        let base = backup.last_event.saturating_add(EVENTS_LEAP);
        connection.execute("DELETE FROM sqlite_sequence WHERE name = 'events'", [])?;
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('events', ?1)", [base])?;
        connection.execute("UPDATE meta SET value = ?1 WHERE key = 'events_pruned_to'", [base])?;
    }
    for mut batch in tx.live_batches()? {
        match batch.state {
            BatchState::Unsent | BatchState::Offered { .. } => batch.state = BatchState::Settled,
            BatchState::Claimed { .. } | BatchState::Publishing { .. } => {
                batch.lose(now).map_err(|e| StoreError::corrupt(format!("batch {}", batch.id), e))?;
            }
            BatchState::Recovering { .. } | BatchState::Settled => {}
        }
        tx.update_batch(&batch)?;
    }
    let (mut held_back, mut recovering) = (0, 0);
    for id in tx.unfinished()? {
        let Some(mut job) = tx.job(id)? else { continue };
        // It is published, and its URLs are asked anew.
        if matches!(job.progress.state, JobState::Distributing { .. }) {
            continue;
        }
        if let JobState::Running { node, .. } = &job.progress.state {
            let lost = JobEvent::WorkerLost { node: node.clone() };
            job = tx.apply(now, job, &lost)?;
        }
        let is_away = matches!(job.progress.state, JobState::Recovering { .. } | JobState::NeedsOperator { .. });
        recovering += u64::from(is_away);
        if !go_on {
            held_back += u64::from(!is_away);
            tx.apply(now, job, &JobEvent::Restored { backup_at: backup.at })?;
        } else if matches!(job.progress.state, JobState::Offered { .. }) {
            tx.apply(now, job, &JobEvent::OfferWithdrawn)?;
        }
    }
    Ok((held_back, recovering))
}

fn refuse_used(state: &Path) -> Result<(), StoreError> {
    let what = || format!("restore into {}", state.display());
    for entry in std::fs::read_dir(state).map_err(StoreError::io(what()))? {
        let name = entry.map_err(StoreError::io(what()))?.file_name();
        if name != "leader.lock" {
            let why = format!("it holds {}; empty it, or name another directory", name.to_string_lossy());
            return Err(StoreError::io(what())(std::io::Error::new(std::io::ErrorKind::DirectoryNotEmpty, why)));
        }
    }
    Ok(())
}

/// A connection to a database of this program's version, to copy it.
fn open_to_copy(path: &Path) -> Result<Connection, StoreError> {
    if !path.exists() {
        let why = std::io::Error::new(
            std::io::ErrorKind::NotFound,
            "there is no such file; name the server's state directory",
        );
        return Err(StoreError::io(format!("open {}", path.display()))(why));
    }
    let connection = schema::open_reader(path)?;
    schema::JOBS.check_version(&connection, path)?;
    Ok(connection)
}

/// Copies a database as it is at one moment, without its free pages.
fn copy_database(from: &Connection, to: &Path) -> Result<(), StoreError> {
    from.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
    let copy = schema::open_reader(to)?;
    let sound: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if sound == "ok" { Ok(()) } else { Err(StoreError::corrupt(to.display().to_string(), sound)) }
}

/// Links or copies blobs that are not there yet; tells how many are, and which cannot be found.
fn copy_blobs(from: &Path, to: &Path, names: &[String]) -> Result<(u64, Vec<String>), StoreError> {
    let (mut there, mut missing) = (0, Vec::new());
    for name in names {
        let digest: Sha256Digest = name.parse().map_err(|e| StoreError::corrupt(format!("blob {name}"), e))?;
        let hex = digest.to_hex();
        let (source, target) = (from.join("blobs").join(&hex[..2]).join(&hex[2..]), to.join("blobs").join(&hex[..2]));
        make_private(&to.join("blobs"))?;
        make_private(&target)?;
        let target = target.join(&hex[2..]);
        let copied = std::fs::hard_link(&source, &target).or_else(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Ok(()),
            std::io::ErrorKind::NotFound => Err(error),
            // Another file system, or one without links.
            _ => std::fs::copy(&source, &target).map(drop),
        });
        match copied {
            Ok(()) => there += 1,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => missing.push(name.clone()),
            Err(error) => return Err(StoreError::io(format!("copy blob {name}"))(error)),
        }
    }
    Ok((there, missing))
}

fn make_private(directory: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(StoreError::io(format!("make {}", directory.display())))
}

fn parent(path: &Path) -> PathBuf {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Path::to_owned)
}

fn sync(path: &Path) -> Result<(), StoreError> {
    let synced = std::fs::File::open(path).and_then(|file| file.sync_all());
    synced.map_err(StoreError::io(format!("sync {}", path.display())))
}

/// Brings a directory with all that is in it to stable storage, readable by its owner only.
fn sync_tree(directory: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    let cannot = || StoreError::io(format!("read {}", directory.display()));
    for entry in std::fs::read_dir(directory).map_err(cannot())? {
        let entry = entry.map_err(cannot())?;
        if entry.file_type().map_err(cannot())?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            if entry.path().extension().is_some_and(|extension| extension == "db") {
                std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(0o600)).map_err(cannot())?;
            }
            sync(&entry.path())?;
        }
    }
    sync(directory)
}
