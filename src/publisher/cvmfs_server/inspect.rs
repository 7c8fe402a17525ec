//! Before a publish: what `cvmfs_server` would fail on after a long time, and what people rather know beforehand.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use crate::cvmfs::Error;
use crate::cvmfs::catalog::join;
use crate::cvmfs::edit::MARKER;
use crate::cvmfs::tree::Tree;
use crate::domain::tree::EntryPath;
use crate::publisher::PublisherError;

use super::place::{conflict, io_error};
use super::upper::{Change, Kind, State};

/// So many catalogs are named in warnings.
const NAMED: usize = 20;

/// What everybody needs to read a file, and to go into a directory.
const READABLE: u32 = 0o004;
const OPEN: u32 = 0o005;

/// What is done about entries that not everybody can read: clients would refuse them to their users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WorldReadable {
    /// Nothing.
    Off,
    /// The job's log says so.
    #[default]
    Warn,
    /// The first one is refused.
    Refuse,
}

/// What is looked at before a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks {
    /// Bytes that a file may have; `None` where the repository enforces no limit.
    pub max_file_bytes: Option<u64>,
    /// Entries that a catalog should have at most.
    pub max_catalog_entries: u64,
    /// Entries that not everybody can read.
    pub world_readable: WorldReadable,
    /// Bytes that must be free where transactions are spooled.
    pub min_free_bytes: u64,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            max_file_bytes: None,
            max_catalog_entries: 200_000,
            world_readable: WorldReadable::default(),
            min_free_bytes: 1 << 30,
        }
    }
}

impl Checks {
    /// Refuses to go on, for the time being, when the file system of the spool is nearly full.
    pub(super) fn free_space(&self, spool: &Path) -> Result<(), PublisherError> {
        let found = statvfs(spool).map_err(io::Error::from);
        let found = found.map_err(io_error(format!("look at the file system of {}", spool.display())))?;
        let free = found.blocks_available().saturating_mul(found.fragment_size());
        if free >= self.min_free_bytes {
            return Ok(());
        }
        let why = format!("only {free} bytes are free there, and {} are needed: make room", self.min_free_bytes);
        let source = io::Error::new(io::ErrorKind::StorageFull, why);
        Err(PublisherError::Io { what: format!("use the spool {}", spool.display()), source })
    }

    /// Begins to look at changes, of a union that is mounted at `merged`.
    pub(super) fn begin(&self, merged: &Path) -> Inspection<'_> {
        Inspection {
            checks: self,
            merged: merged.to_owned(),
            unreadable: 0,
            first_unreadable: None,
            catalogs: BTreeMap::new(),
            mounts: Vec::new(),
        }
    }
}

/// The looking at one change set.
#[derive(Debug)]
pub(super) struct Inspection<'a> {
    checks: &'a Checks,
    merged: PathBuf,
    unreadable: u64,
    first_unreadable: Option<EntryPath>,
    /// How many entries more each catalog gets, by the directory where it begins.
    catalogs: BTreeMap<EntryPath, i64>,
    /// The directories above the change that was seen last, each with the one where its catalog begins.
    mounts: Vec<(EntryPath, EntryPath)>,
}

impl Inspection<'_> {
    /// Looks at one change, sorted by path; an error is what must not be published.
    pub(super) fn see(&mut self, change: &Change) -> Result<(), PublisherError> {
        let path = &change.path;
        if path.parts().next() == Some(b".cvmfs") {
            return Err(conflict(path, "this directory is CernVM-FS's own"));
        }
        if change.breaks_links {
            let why = "it is one of several hard links in the repository, which cvmfs_server cannot change one by one: \
                       an administrator must run cvmfs_server eliminate-hardlinks";
            return Err(conflict(path, why));
        }
        if let Some(now) = &change.now {
            self.check_size(path, now)?;
            self.check_readable(path, now)?;
        }
        let more = match change.kind {
            Kind::Added => 1,
            Kind::Removed => -1,
            Kind::Modified => return Ok(()),
        };
        if let Some(parent) = path.parent() {
            let mount = self.mount_of(&parent);
            *self.catalogs.entry(mount).or_default() += more;
        }
        Ok(())
    }

    /// What people should know, for the job's log. `base` is what the repository has now.
    pub(super) fn finish(self, base: &mut Tree<'_>) -> Result<Vec<String>, Error> {
        let mut warnings = Vec::new();
        if let Some(first) = &self.first_unreadable {
            let count = self.unreadable;
            warnings
                .push(format!("not everybody can read {count} of the new or changed entries, the first is /{first}"));
        }
        let most = self.checks.max_catalog_entries;
        let mut large = 0;
        for (mount, more) in &self.catalogs {
            // What a new catalog takes from the one above is not counted.
            let (begins, entries) = base.own_entries(mount.as_bytes())?;
            let entries = if begins == mount.as_bytes() { entries } else { 0 };
            let entries = entries.saturating_add_signed(*more);
            if *more <= 0 || entries <= most {
                continue;
            }
            large += 1;
            if large <= NAMED {
                warnings.push(format!(
                    "the catalog at /{mount} will have about {entries} entries, more than {most}, which makes clients slow: \
                     put files named .cvmfscatalog into directories below, or rules into .cvmfsdirtab"
                ));
            }
        }
        if large > NAMED {
            warnings.push(format!("and {} more catalogs with more than {most} entries", large - NAMED));
        }
        Ok(warnings)
    }

    fn check_size(&self, path: &EntryPath, now: &State) -> Result<(), PublisherError> {
        match self.checks.max_file_bytes {
            Some(limit) if now.is_file() && now.size > limit => Err(PublisherError::Limit {
                what: format!("/{path} of {} bytes", now.size),
                limit: format!("{limit} bytes for a file"),
            }),
            _ => Ok(()),
        }
    }

    fn check_readable(&mut self, path: &EntryPath, now: &State) -> Result<(), PublisherError> {
        let needed = if now.is_directory() { OPEN } else { READABLE };
        let is_readable = !(now.is_directory() || now.is_file()) || now.mode & needed == needed;
        match self.checks.world_readable {
            WorldReadable::Warn if !is_readable => {
                self.unreadable += 1;
                self.first_unreadable.get_or_insert_with(|| path.clone());
                Ok(())
            }
            WorldReadable::Refuse if !is_readable => {
                let mode = now.mode & 0o7777;
                Err(conflict(
                    path,
                    format!("not everybody can read it (its mode is {mode:04o}), which is refused here"),
                ))
            }
            _ => Ok(()),
        }
    }

    /// The directory where the catalog begins that will hold what is in a directory: the nearest one with a marker.
    fn mount_of(&mut self, directory: &EntryPath) -> EntryPath {
        while self.mounts.pop_if(|(above, _)| !directory.is_within(above)).is_some() {}
        let known = self.mounts.last().cloned().unwrap_or((EntryPath::base(), EntryPath::base()));
        if known.0 == *directory {
            return known.1;
        }
        let above = directory.parent().map_or_else(EntryPath::base, |parent| self.mount_of(&parent));
        let marker = self.merged.join(OsStr::from_bytes(&join(directory.as_bytes(), MARKER)));
        let mount = if marker.symlink_metadata().is_ok() { directory.clone() } else { above };
        self.mounts.push((directory.clone(), mount.clone()));
        mount
    }
}
