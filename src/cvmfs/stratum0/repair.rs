//! Manifest and reflog are two files, and the manifest holds the reflog's hash: they cannot be replaced at once.
//!
//! A publish writes the new reflog as `.cvmfsreflog.next`, replaces the manifest, and then renames the reflog. Whoever
//! comes next compares hashes: if the manifest names `.next`, the rename is made up for; otherwise `.next` is void. So a
//! kill at any moment loses nothing. A reflog that is stale for another reason (restored from a backup, or lost) is
//! rebuilt from the chain of revisions and goes out with the next revision.

use std::fs;
use std::path::Path;

use super::super::hash::{ContentHash, ObjectKind};
use super::super::manifest::{self, Manifest};
use super::super::reader::Reader;
use super::super::reflog::{self, Reflog};
use super::super::{Error, durable};
use super::spool::Spool;

/// The suffix of a file that waits for its rename.
pub(super) const NEXT: &str = ".next";

/// Finishes or undoes an interrupted publish; tells whether the reflog is the one that the manifest names, or the one
/// that `cvmfs_server` wrote after it: its garbage collection replaces the reflog and leaves the manifest.
pub(super) fn settle(directory: &Path, manifest: &Manifest, spool: Option<&Spool>) -> Result<bool, Error> {
    let reflog = directory.join(reflog::FILE);
    let next = directory.join(format!("{}{NEXT}", reflog::FILE));
    durable::remove_if_there(&directory.join(format!("{}{NEXT}", manifest::FILE)))?;
    // Manifests of older tools do not name it: it cannot be told then, and is taken as it is.
    let Some(named) = manifest.reflog else { return Ok(reflog.exists()) };
    let is_named = |path: &Path| Ok::<_, Error>(reflog::hash_file(path, named.algorithm())? == Some(named));
    let mut current = is_named(&reflog)?;
    if !current && is_named(&next)? {
        fs::rename(&next, &reflog).map_err(Error::io(format!("replace {}", reflog.display())))?;
        durable::sync(directory)?;
        current = true;
    } else {
        durable::remove_if_there(&next)?;
    }
    if let Some(spool) = spool {
        if current {
            spool.write_checksum(&named)?;
        } else if let Some(noted) = spool.checksum() {
            current = reflog::hash_file(&reflog, noted.algorithm())? == Some(noted);
        }
    }
    Ok(current)
}

/// Writes a reflog of everything that can still be found: the chain of catalogs, the chain of histories, all tags,
/// certificate and metainfo of the present revision.
pub(super) fn rebuild(path: &Path, reader: &Reader) -> Result<(), Error> {
    let manifest = reader.manifest();
    let reflog = Reflog::create(path, &manifest.repository)?;
    for revision in reader.revisions() {
        match revision {
            Ok(revision) => reflog.add(&[(ObjectKind::Catalog, revision.root_hash)], revision.last_modified)?,
            // Collected as garbage: what was before it is gone as well.
            Err(Error::Missing(_)) => break,
            Err(error) => return Err(error),
        }
    }
    for tag in reader.tags()? {
        reflog.add(&[(ObjectKind::Catalog, tag.root_hash)], tag.timestamp)?;
    }
    let mut next: Option<ContentHash> = manifest.history;
    while let Some(hash) = next {
        let history = match reader.history_at(&hash) {
            Ok(history) => history,
            Err(Error::Missing(_)) => break,
            Err(error) => return Err(error),
        };
        reflog.add(&[(ObjectKind::History, hash)], manifest.published_at)?;
        next = history.previous()?;
    }
    reflog.add(&[(ObjectKind::Certificate, manifest.certificate)], manifest.published_at)?;
    if let Some(metainfo) = manifest.metainfo {
        reflog.add(&[(ObjectKind::Metainfo, metainfo)], manifest.published_at)?;
    }
    reflog.close()
}
