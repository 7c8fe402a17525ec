//! What can go wrong with a repository.

use std::io;

/// Why a repository could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine failed us.
    #[error("cannot {what}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// SQLite could not read or write a catalog, a history or a reflog.
    #[error("cannot {what}")]
    Database {
        /// What was tried, on what.
        what: String,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// Something that the repository refers to is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// It is there and makes no sense.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// Which file or object.
        what: String,
        /// Which rule it breaks.
        why: String,
    },
    /// The bytes of an object are not those that its name promises.
    #[error("object {0} is corrupt: its bytes have another hash than its name")]
    Corrupt(String),
    /// A signature, or what it should vouch for, does not hold.
    #[error("{what} cannot be trusted: {why}")]
    Untrusted {
        /// Which document.
        what: &'static str,
        /// Which check failed.
        why: String,
    },
    /// The whitelist's time is over: no client mounts the repository until it is signed anew.
    #[error("the whitelist expired at {at}: sign it anew with the master key")]
    Expired {
        /// End of validity, RFC 3339.
        at: String,
    },
    /// Valid, and more than this code can do.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// Would overwrite something that is already there.
    #[error("{0} already exists")]
    Exists(String),
    /// The manifest changed while a revision was being made on top of it.
    #[error("somebody else published revision {found} on top of revision {base}")]
    Overtaken {
        /// The revision that we started from.
        base: u64,
        /// The one that is there now.
        found: u64,
    },
    /// A key could not be read, made or used.
    #[error("key {what}: {why}")]
    Key {
        /// Which key.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// Wraps an I/O error; `what` completes "cannot …".
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Wraps an SQLite error; `what` completes "cannot …".
    pub(crate) fn database(what: impl Into<String>) -> impl FnOnce(rusqlite::Error) -> Self {
        let what = what.into();
        move |source| Self::Database { what, source }
    }

    /// A document that breaks a rule.
    pub(crate) fn malformed(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Malformed { what: what.into(), why: why.into() }
    }
}
