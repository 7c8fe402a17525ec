//! From the format's errors to the seam's.

use std::io;

use crate::cvmfs::Error;
use crate::cvmfs::edit::EditError;
use crate::cvmfs::ingest::StageError;
use crate::domain::names::RepositoryName;
use crate::domain::tree::EntryPath;
use crate::publisher::PublisherError;

/// Translates an error of the format; `what` was tried on the repository.
pub(super) fn translate<'a>(
    repository: &'a RepositoryName,
    what: &'a str,
) -> impl FnOnce(Error) -> PublisherError + 'a {
    let repository = repository.clone();
    move |error| match error {
        Error::Io { what, source } => PublisherError::Io { what, source },
        Error::Database { what, source } => match storage_failure(&source) {
            Some(kind) => PublisherError::Io { what, source: io::Error::new(kind, source) },
            None => {
                let source = Box::new(Error::Database { what: what.clone(), source });
                PublisherError::Format { repository, what, source }
            }
        },
        error @ Error::Overtaken { .. } => PublisherError::Busy { repository, holder: error.to_string() },
        error @ (Error::Untrusted { .. } | Error::Expired { .. } | Error::Unsupported(_) | Error::Key { .. }) => {
            PublisherError::Unusable { repository, why: error.to_string() }
        }
        error @ (Error::Missing(_) | Error::Malformed { .. } | Error::Corrupt(_) | Error::Exists(_)) => {
            PublisherError::Format { repository, what: what.to_owned(), source: Box::new(error) }
        }
    }
}

/// SQLite reports what the disk did in its own words.
fn storage_failure(error: &rusqlite::Error) -> Option<io::ErrorKind> {
    match error.sqlite_error_code()? {
        rusqlite::ErrorCode::DiskFull => Some(io::ErrorKind::StorageFull),
        rusqlite::ErrorCode::SystemIoFailure => Some(io::ErrorKind::Other),
        rusqlite::ErrorCode::OutOfMemory => Some(io::ErrorKind::OutOfMemory),
        _ => None,
    }
}

/// Translates a refused or failed edit.
pub(super) fn translate_edit(repository: &RepositoryName) -> impl FnOnce(EditError) -> PublisherError {
    move |error| match error {
        EditError::Conflict { path, why } => {
            PublisherError::Conflict { path: EntryPath::new(&path).unwrap_or_else(|_| EntryPath::base()), why }
        }
        EditError::Store(error) => translate(repository, "change its catalog")(error),
    }
}

/// Translates a content that could not be stored.
pub(super) fn translate_stage(
    repository: &RepositoryName,
    path: &EntryPath,
) -> impl FnOnce(StageError) -> PublisherError {
    move |error| match error {
        StageError::Content(source) => PublisherError::Content { path: path.clone(), source },
        StageError::Store(error) => translate(repository, "store a file")(error),
    }
}

/// Wraps an I/O error; `what` completes "cannot …".
pub(super) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> PublisherError {
    let what = what.into();
    move |source| PublisherError::Io { what, source }
}

/// A change that cannot be made.
pub(super) fn conflict(path: &EntryPath, why: impl Into<String>) -> PublisherError {
    PublisherError::Conflict { path: path.clone(), why: why.into() }
}
