//! What can go wrong with the database.

use std::path::PathBuf;

/// A failure of the store. The request that met it changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room for the change.
    #[error("the disk that holds {path} is full; free some space, nothing was lost")]
    Full {
        /// The database.
        path: PathBuf,
    },
    /// The disk can be read and not written, or fails.
    #[error("the disk that holds the database cannot be written; nothing was changed")]
    Unwritable {
        /// What SQLite says, to the first of those who shared the commit.
        #[source]
        source: Option<rusqlite::Error>,
    },
    /// The file is no database any more.
    #[error(
        "the database {path} is damaged; see what is left with `conveyor check-db`, then put the state aside and restore a backup (`conveyor restore`)"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// Another server leads on this state directory.
    #[error(
        "this server is not the leader: another one holds {path}; stop that one first, or use another state directory"
    )]
    NotLeader {
        /// The lock.
        path: PathBuf,
    },
    /// A restore was begun here and did not end.
    #[error("a restore into {path} did not end; empty that directory and restore once more")]
    HalfRestored {
        /// The state directory.
        path: PathBuf,
    },
    /// Written by a newer program.
    #[error("{path} has schema version {found}, this program knows {known}; use the newer program that wrote it")]
    TooNew {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A row that does not say what it must.
    #[error("{what} is damaged: {why}")]
    Corrupt {
        /// Which row.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// An event that the state does not allow reached the store: a defect of ours, caught before it could do harm.
    #[error("refused to record an event")]
    Illegal(#[from] crate::domain::job::state::IllegalTransition),
    /// The writer is gone, since the program ends or a request made it panic.
    #[error("the database writer has stopped")]
    Stopped,
    /// The commit that this request shared with others failed; the first of them has the reason.
    #[error("the commit failed, together with those of other requests; the log has the reason")]
    NotCommitted,
    /// A file beside the database.
    #[error("cannot {what}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Anything else SQLite says.
    #[error("database error")]
    Sqlite(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full { path: PathBuf::from("the database") },
            Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::SystemIoFailure) => {
                Self::Unwritable { source: Some(error) }
            }
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Damaged { path: PathBuf::from("in use"), source: error }
            }
            _ => match error {
                // A value of another type or size than the column's.
                rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..) => Self::corrupt(SOME_ROW, error),
                error => Self::Sqlite(error),
            },
        }
    }
}

/// A row whose number is not at hand where the error is made.
const SOME_ROW: &str = "a row";

impl StoreError {
    /// Names the row that an error is about.
    pub(super) fn in_row(self, name: impl FnOnce() -> String) -> Self {
        match self {
            Self::Corrupt { what, why } if what == SOME_ROW => Self::Corrupt { what: name(), why },
            error => error,
        }
    }

    /// Names the database that an error is about.
    pub(super) fn in_database(self, path: &std::path::Path) -> Self {
        match self {
            Self::Damaged { source, .. } => Self::Damaged { path: path.to_owned(), source },
            error => error,
        }
    }

    /// Wraps an I/O error with what was tried.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| match source.raw_os_error() {
            Some(code) if code == nix::errno::Errno::ENOSPC as i32 || code == nix::errno::Errno::EDQUOT as i32 => {
                Self::Full { path: PathBuf::from(what) }
            }
            _ => Self::Io { what, source },
        }
    }

    pub(crate) fn corrupt(what: impl Into<String>, why: impl ToString) -> Self {
        Self::Corrupt { what: what.into(), why: why.to_string() }
    }
}
