//! Opening a database file and bringing its schema up to date.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::error::StoreError;

/// `PRAGMA auto_vacuum` where free pages can be given back.
pub(super) const INCREMENTAL: u32 = 2;
/// A database of an older version is made over for that at its opening, up to this size in bytes: larger ones take too long.
const MADE_OVER: u64 = 64 << 20;

/// One database's migrations: `user_version` counts those that were applied.
pub(super) struct Schema {
    pub(super) migrations: &'static [&'static str],
    /// `FULL` or `NORMAL`.
    pub(super) synchronous: &'static str,
}

pub(super) const JOBS: Schema = Schema {
    migrations: &[
        include_str!("migrations/0001_jobs.sql"),
        include_str!("migrations/0002_tokens.sql"),
        include_str!("migrations/0003_retention.sql"),
        include_str!("migrations/0004_scheduling.sql"),
        include_str!("migrations/0005_holds.sql"),
        include_str!("migrations/0006_notifications.sql"),
        include_str!("migrations/0007_announcements.sql"),
    ],
    synchronous: "FULL",
};
pub(super) const LOGS: Schema = Schema {
    migrations: &[include_str!("migrations/0001_logs.sql"), include_str!("migrations/0002_changes.sql")],
    synchronous: "NORMAL",
};

impl Schema {
    /// Opens (and makes, where absent) a database in a file that only its owner can read.
    pub(super) fn open(&self, path: &Path) -> Result<Connection, StoreError> {
        self.open_file(path).map_err(|error| error.in_database(path))
    }

    fn open_file(&self, path: &Path) -> Result<Connection, StoreError> {
        use std::os::unix::fs::OpenOptionsExt;
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(StoreError::io(format!("open database {}", path.display())))?;
        let mut connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        // Of an empty file this holds from the first table on.
        connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        self.prepare(&mut connection, path)?;
        let vacuum: u32 = connection.query_row("PRAGMA auto_vacuum", [], |row| row.get(0))?;
        if vacuum != INCREMENTAL && std::fs::metadata(path).is_ok_and(|meta| meta.len() <= MADE_OVER) {
            connection.execute_batch("VACUUM")?;
        }
        Ok(connection)
    }

    /// A database in memory, for simulations.
    pub(super) fn open_in_memory(&self) -> Result<Connection, StoreError> {
        let mut connection = Connection::open_in_memory()?;
        self.prepare(&mut connection, Path::new(":memory:"))?;
        Ok(connection)
    }

    fn prepare(&self, connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
        connection.pragma_update(None, "synchronous", self.synchronous)?;
        plan_once(connection)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "cache_size", -32_768)?;
        // Checkpoints run beside the writer (see `writer`), never inside a commit.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.busy_timeout(std::time::Duration::from_secs(10))?;

        let found = self.version(connection, path)?;
        for (version, sql) in (1u32..).zip(self.migrations).skip(found as usize) {
            let transaction = connection.transaction()?;
            transaction.execute_batch(sql)?;
            transaction.pragma_update(None, "user_version", version)?;
            transaction.commit()?;
        }
        Ok(())
    }

    /// The version of a database; refuses one that is newer than this program.
    fn version(&self, connection: &Connection, path: &Path) -> Result<u32, StoreError> {
        let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let known = u32::try_from(self.migrations.len()).unwrap_or(u32::MAX);
        if found > known { Err(StoreError::TooNew { path: path.to_owned(), found, known }) } else { Ok(found) }
    }

    /// Refuses a database of any other version than this program's: whoever only looks cannot bring it up to date.
    pub(super) fn check_version(&self, connection: &Connection, path: &Path) -> Result<(), StoreError> {
        let found = self.version(connection, path).map_err(|error| error.in_database(path))?;
        if found as usize == self.migrations.len() {
            return Ok(());
        }
        let why = format!("it has version {found}; start this program's server on it once, which brings it up to date");
        Err(StoreError::corrupt(path.display().to_string(), why))
    }
}

/// Lets a statement keep its plan whatever it is asked: otherwise SQLite compiles those anew at each call whose values might
/// make another index usable, and ours name the values that their partial indexes are for.
fn plan_once(connection: &Connection) -> Result<(), StoreError> {
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Opens a connection that cannot write.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(64);
    plan_once(&connection)?;
    Ok(connection)
}
