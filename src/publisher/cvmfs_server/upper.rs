//! What changed in an overlay: the net effect against the layer below.
//!
//! An ordinary user cannot read the marks that overlayfs leaves in the upper layer (`trusted.overlay.*`). So the upper layer
//! only tells where to look; what is there now and what was there before is read from the merged and the lower tree.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

use crate::cvmfs::catalog::join;
use crate::domain::tree::{Attributes, ChangedPath, EntryPath};
use crate::publisher::PublisherError;

use super::place::{can_be_set, conflict, io_error};

/// Bytes that are compared at a time.
const BUFFER: usize = 128 * 1024;

/// The trees of an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layers {
    /// Where it is mounted.
    pub(super) merged: PathBuf,
    /// What was there before.
    pub(super) lower: PathBuf,
    /// Where overlayfs keeps what was written.
    pub(super) upper: PathBuf,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is new.
    Added,
    /// It is another entry, or has other metadata.
    Modified,
    /// It is gone, with all below it.
    Removed,
}

/// What an entry is now. Its content is not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// Bytes of a file; the packed number of a device; 0 for the rest.
    pub(super) size: u64,
    /// Seconds since 1970.
    pub(super) mtime: i64,
    /// File type and permissions, as `st_mode`.
    pub(super) mode: u32,
    /// Numeric owner.
    pub(super) uid: u32,
    /// Numeric group.
    pub(super) gid: u32,
    /// Where a symbolic link points.
    pub(super) target: Option<Box<[u8]>>,
}

impl State {
    /// Tells whether it is a directory.
    pub(super) fn is_directory(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }

    /// Tells whether it is a regular file.
    pub(super) fn is_file(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }

    /// Tells whether it is a device, a FIFO or a socket.
    pub(super) fn is_special(&self) -> bool {
        !self.is_directory() && !self.is_file() && self.target.is_none()
    }
}

/// One path that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// Relative to the repository's root.
    pub(super) path: EntryPath,
    /// What happened to it.
    pub(super) kind: Kind,
    /// A directory that differs from before in its time alone, as one does in which a file was made and removed again.
    pub(super) only_mtime: bool,
    /// A file with several names that was written, or linked once more: an overlay takes it out of its group of hard links,
    /// and `cvmfs_server` then refuses to publish.
    pub(super) breaks_links: bool,
    /// What is there now; `None` where it was removed.
    pub(super) now: Option<State>,
}

impl From<&Change> for ChangedPath {
    fn from(change: &Change) -> Self {
        let path = change.path.clone();
        match change.kind {
            Kind::Added => Self::Added(path),
            Kind::Modified => Self::Modified(path),
            Kind::Removed => Self::Removed(path),
        }
    }
}

/// Calls with each change, sorted by path. What was written anew as it was is none, nor is a time that differs by less than
/// a second. The root of an overlay is the upper layer's, so what it is by itself tells nothing. Nothing may write into the
/// overlay meanwhile.
pub(super) fn changes(
    layers: &Layers,
    visit: &mut dyn FnMut(Change) -> Result<(), PublisherError>,
) -> Result<(), PublisherError> {
    let mut pending = vec![Step::Below(EntryPath::base(), Look::Upper)];
    while let Some(step) = pending.pop() {
        match step {
            Step::Change(change) => visit(change)?,
            Step::Below(directory, look) => pending.extend(layers.list(&directory, look)?.into_iter().rev()),
        }
    }
    Ok(())
}

/// How a directory's entries are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Those that the upper layer has or hides.
    Upper,
    /// All, since another directory of the lower layer was moved here.
    All,
    /// All, and there were none before.
    New,
}

#[derive(Debug)]
enum Step {
    Change(Change),
    Below(EntryPath, Look),
}

impl Layers {
    /// What is to be said of a directory's entries and what to be looked at below them, sorted by path: what lies below `a`
    /// comes after `a-b`.
    fn list(&self, directory: &EntryPath, look: Look) -> Result<Vec<Step>, PublisherError> {
        let in_layer = |layer: &Path| names(&place(layer, directory));
        let mut names = in_layer(&self.merged)?;
        if look != Look::New {
            let lower = in_layer(&self.lower)?;
            if look == Look::Upper {
                // What both have and the upper layer has not is as it was.
                let upper = in_layer(&self.upper)?;
                let hidden: Vec<_> = lower.difference(&names).cloned().collect();
                names.retain(|name| upper.contains(name) || !lower.contains(name));
                names.extend(hidden);
            } else {
                names.extend(lower);
            }
        }
        let mut steps = Vec::new();
        for name in names {
            let path = entry_path(&join(directory.as_bytes(), name.as_bytes()))?;
            let (change, below) = self.examine(&path, look)?;
            if let Some(look) = below {
                steps.push(([path.as_bytes(), b"/"].concat(), Step::Below(path.clone(), look)));
            }
            if let Some(change) = change {
                steps.push((path.as_bytes().to_vec(), Step::Change(change)));
            }
        }
        steps.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(steps.into_iter().map(|(_, step)| step).collect())
    }

    /// Compares an entry with what was there before; tells how to look at what is below it, if anything can be.
    fn examine(&self, path: &EntryPath, look: Look) -> Result<(Option<Change>, Option<Look>), PublisherError> {
        let merged = place(&self.merged, path);
        let now = lstat(&merged)?;
        let old = if look == Look::New { None } else { lstat(&place(&self.lower, path))? };
        let below = now.as_ref().filter(|now| now.is_dir()).map(|_| match &old {
            Some(old) if old.is_dir() && look == Look::Upper && !self.is_moved(path) => Look::Upper,
            Some(old) if old.is_dir() => Look::All,
            _ => Look::New,
        });
        let breaks_links = match (&old, &now) {
            (Some(old), Some(now)) if !old.is_dir() && old.nlink() > 1 => {
                !now.is_dir() && lstat(&place(&self.upper, path))?.is_some()
            }
            _ => false,
        };
        let (kind, only_mtime) = match (&old, &now) {
            (None, None) => return Ok((None, None)),
            (None, Some(_)) => (Kind::Added, false),
            (Some(_), None) => (Kind::Removed, false),
            (Some(old), Some(now)) => match self.difference(path, old, now)? {
                Difference::None if !breaks_links => return Ok((None, below)),
                Difference::Mtime => (Kind::Modified, now.is_dir()),
                _ => (Kind::Modified, false),
            },
        };
        let now = now.map(|now| state(&merged, &now)).transpose()?;
        Ok((Some(Change { path: path.clone(), kind, only_mtime, breaks_links, now }), below))
    }

    /// Tells whether a directory of the lower layer was moved here (mount option `redirect_dir`). Only root can see that;
    /// for others the changes are incomplete where a directory of the same name was there before.
    fn is_moved(&self, path: &EntryPath) -> bool {
        matches!(xattr::get(place(&self.upper, path), "trusted.overlay.redirect"), Ok(Some(_)))
    }

    fn difference(&self, path: &EntryPath, old: &Metadata, now: &Metadata) -> Result<Difference, PublisherError> {
        if (old.mode(), old.uid(), old.gid()) != (now.mode(), now.uid(), now.gid()) {
            return Ok(Difference::Other);
        }
        let (before, after) = (place(&self.lower, path), place(&self.merged, path));
        let is_other = if now.is_file() {
            old.len() != now.len() || attributes(&before) != attributes(&after)
        } else if now.is_dir() {
            attributes(&before) != attributes(&after)
        } else if now.is_symlink() {
            target(&before)? != target(&after)?
        } else {
            old.rdev() != now.rdev()
        };
        Ok(match old.mtime() == now.mtime() {
            _ if is_other => Difference::Other,
            false => Difference::Mtime,
            // A content may be another one with the old size and time.
            true if now.is_file() && !same_content(&before, &after) => Difference::Other,
            true => Difference::None,
        })
    }
}

enum Difference {
    None,
    Mtime,
    Other,
}

fn place(layer: &Path, path: &EntryPath) -> PathBuf {
    layer.join(OsStr::from_bytes(path.as_bytes()))
}

fn entry_path(path: &[u8]) -> Result<EntryPath, PublisherError> {
    EntryPath::new(path).map_err(|error| conflict(&EntryPath::base(), error.to_string()))
}

/// The names in a directory; none where there is no directory.
fn names(directory: &Path) -> Result<HashSet<OsString>, PublisherError> {
    let list = || fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.file_name())).collect();
    match list() {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(HashSet::new())
        }
        listed => listed.map_err(io_error(format!("list {}", directory.display()))),
    }
}

fn lstat(place: &Path) -> Result<Option<Metadata>, PublisherError> {
    match fs::symlink_metadata(place) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(io_error(format!("look at {}", place.display()))(error)),
    }
}

fn state(place: &Path, metadata: &Metadata) -> Result<State, PublisherError> {
    let kind = metadata.file_type();
    Ok(State {
        size: match () {
            () if kind.is_file() => metadata.len(),
            () if kind.is_char_device() || kind.is_block_device() => metadata.rdev(),
            () => 0,
        },
        mtime: metadata.mtime(),
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        target: if kind.is_symlink() { Some(target(place)?) } else { None },
    })
}

fn target(place: &Path) -> Result<Box<[u8]>, PublisherError> {
    let target = fs::read_link(place).map_err(io_error(format!("read {}", place.display())))?;
    Ok(target.into_os_string().into_vec().into())
}

/// The extended attributes that are published; a file system without them has none.
fn attributes(place: &Path) -> Attributes {
    let names = xattr::list(place).into_iter().flatten().filter(|name| can_be_set(name.as_bytes()));
    names.filter_map(|name| Some((name.as_bytes().to_vec(), xattr::get(place, &name).ok()??))).collect()
}

/// Compares two files byte by byte; what cannot be read counts as another one.
fn same_content(one: &Path, other: &Path) -> bool {
    let open = |place: &Path| OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(place);
    let compare = || -> io::Result<bool> {
        let (one, other) = (open(one)?, open(other)?);
        let (mut one, mut other) = (BufReader::with_capacity(BUFFER, one), BufReader::with_capacity(BUFFER, other));
        loop {
            let (a, b) = (one.fill_buf()?, other.fill_buf()?);
            let count = a.len().min(b.len());
            if a[..count] != b[..count] || (count == 0 && a.len() != b.len()) {
                return Ok(false);
            }
            if count == 0 {
                return Ok(true);
            }
            one.consume(count);
            other.consume(count);
        }
    };
    compare().unwrap_or(false)
}
