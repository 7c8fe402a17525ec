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
            _ => Self::Sqlite(error),
        }
    }
}

impl StoreError {
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
