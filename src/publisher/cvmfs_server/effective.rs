//! Which path is leased for a batch: its own, or the nearest ancestor that can be.

use super::words;
use crate::cvmfs::reader::Reader;
use crate::domain::tree::EntryPath;
use crate::publisher::PublisherError;

/// The path to lease. The gateway needs the directory above it to be there; `cvmfs_server` needs a path that can be said on
/// a command line. What is on the way and no directory is a conflict.
pub(super) fn lease(reader: &Reader, path: &EntryPath) -> Result<EntryPath, PublisherError> {
    let missing = first_missing(reader, path)?;
    // That which is missing itself can be leased, as long as what is above it is there.
    let lease = missing.unwrap_or_else(|| path.clone());
    Ok(words::speakable(&lease))
}

/// The uppermost part of a path that is not there.
fn first_missing(reader: &Reader, path: &EntryPath) -> Result<Option<EntryPath>, PublisherError> {
    let unreadable = |source: crate::cvmfs::Error| PublisherError::Io {
        what: format!("look for /{path} in the repository"),
        source: std::io::Error::other(source),
    };
    let mut tree = reader.tree().map_err(unreadable)?;
    let mut above = Vec::new();
    for part in path.parts() {
        if !above.is_empty() {
            above.push(b'/');
        }
        above.extend_from_slice(part);
        let here = EntryPath::new(&above)
            .map_err(|error| PublisherError::Conflict { path: path.clone(), why: error.to_string() })?;
        match tree.lookup(&above).map_err(unreadable)? {
            None => return Ok(Some(here)),
            Some(entry) if entry.is_directory() => {}
            Some(_) => {
                let why = "the lease path leads there, and it is not a directory".into();
                return Err(PublisherError::Conflict { path: here, why });
            }
        }
    }
    Ok(None)
}
