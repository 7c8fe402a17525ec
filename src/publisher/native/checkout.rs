//! Check-out: the lease path's tree as files, for a script to work in.

use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::mkfifo;

use crate::cvmfs::catalog::{Chunk, Entry, Flags, join};
use crate::cvmfs::hash::ObjectKind;
use crate::domain::tree::{Attributes, EntryPath};
use crate::publisher::PublisherError;

use super::errors::{io_error, translate};
use super::transaction::NativeTransaction;

/// The permission bits that files get. Set-id bits stay in the catalog: a scratch directory is no place for them.
pub(super) const KEPT_BITS: u32 = 0o1777;

/// The bits of a mode that tell kinds apart.
const SPECIAL_KINDS: u32 = 0o170_000;

/// Tells a file that nobody wrote to from one that was changed and given its old size and time again: nobody can set
/// the time of an inode's last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(u64, i64, i64);

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self(metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
    }
}

/// A checked-out tree; removed when dropped.
#[derive(Debug)]
pub(super) struct Checkout {
    root: PathBuf,
    files: HashMap<Vec<u8>, Identity>,
    /// What no ordinary user can make: it stays as it is unless the script puts something in its place.
    absent: HashSet<Vec<u8>>,
    /// Extended attributes that no ordinary user can set, or the file system cannot keep: they stay with their files.
    kept_attributes: HashMap<Vec<u8>, Attributes>,
    /// The first name of each hard-link group, by its directory.
    links: HashMap<(Vec<u8>, u32), PathBuf>,
}

impl Checkout {
    /// The directory that stands for the repository's root.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where a path of the repository lies.
    pub(super) fn place(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(path))
    }

    /// Tells whether a file is as it was made.
    pub(super) fn is_untouched(&self, path: &EntryPath, metadata: &Metadata) -> bool {
        self.files.get(path.as_bytes()) == Some(&Identity::of(metadata))
    }

    /// Tells whether something is published there that was not made.
    pub(super) fn is_absent(&self, path: &EntryPath) -> bool {
        self.absent.contains(path.as_bytes())
    }

    /// The extended attributes of a file that was not given all of them.
    pub(super) fn kept_attributes(&self, path: &EntryPath) -> Attributes {
        self.kept_attributes.get(path.as_bytes()).cloned().unwrap_or_default()
    }

    /// Makes the tree of a transaction, with the changes that it has so far.
    pub(super) fn make(transaction: &mut NativeTransaction) -> Result<Self, PublisherError> {
        let entries = plan(transaction)?;
        let root = transaction.scratch.join("checkout");
        remove_tree(&root).map_err(io_error(format!("clean {}", root.display())))?;
        let mut checkout = Self {
            root,
            files: HashMap::new(),
            absent: HashSet::new(),
            kept_attributes: HashMap::new(),
            links: HashMap::new(),
        };
        let lease = checkout.place(transaction.lease.as_bytes());
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&lease)
            .map_err(io_error(format!("create {}", lease.display())))?;
        for (path, entry) in &entries {
            checkout.make_entry(transaction, path, entry)?;
        }
        // Modes and times of directories last, from the bottom: filling them changes the times and needs the modes.
        for (path, entry) in entries.iter().rev().filter(|(_, entry)| entry.is_directory()) {
            let place = checkout.place(path);
            checkout.set_attributes(path, &place, entry)?;
            let finish = || {
                fs::set_permissions(&place, Permissions::from_mode(entry.permissions() & KEPT_BITS))?;
                set_mtime(&place, entry)
            };
            finish().map_err(io_error(format!("check out {}", place.display())))?;
        }
        Ok(checkout)
    }

    fn make_entry(
        &mut self,
        transaction: &mut NativeTransaction,
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), PublisherError> {
        let place = self.place(path);
        let failed = || io_error(format!("check out {}", place.display()));
        if entry.is_directory() {
            match DirBuilder::new().mode(0o700).create(&place) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed()(error)),
                _ => return Ok(()),
            }
        }
        if entry.flags.has(Flags::EXTERNAL) || matches!(entry.mode & SPECIAL_KINDS, 0o020_000 | 0o060_000 | 0o140_000) {
            self.absent.insert(path.to_vec());
            return Ok(());
        }
        if entry.flags.has(Flags::SPECIAL) {
            let make = || {
                mkfifo(&place, Mode::from_bits_truncate(entry.permissions() & KEPT_BITS))?;
                set_mtime(&place, entry)
            };
            make().map_err(failed())?;
            return self.set_attributes(path, &place, entry);
        }
        if entry.is_symlink() {
            let make = || {
                symlink(OsStr::from_bytes(&entry.symlink), &place)?;
                set_mtime(&place, entry)
            };
            make().map_err(failed())?;
            return self.set_attributes(path, &place, entry);
        }
        if let Some(first) = self.first_link(path, entry, &place) {
            fs::hard_link(&first, &place).map_err(failed())?;
            // The new link changed the inode's change time, for its other names as well.
            return self.identify(path, &place, Some(&first)).map_err(failed());
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place).map_err(failed())?;
        write_content(transaction, path, entry, file)?;
        let finish = || {
            fs::set_permissions(&place, Permissions::from_mode(entry.permissions() & KEPT_BITS))?;
            set_mtime(&place, entry)
        };
        self.set_attributes(path, &place, entry)?;
        finish().and_then(|()| self.identify(path, &place, None)).map_err(failed())
    }

    /// The place of the hard link that was made first in the same directory.
    fn first_link(&mut self, path: &[u8], entry: &Entry, place: &Path) -> Option<PathBuf> {
        if entry.hardlink_group() == 0 {
            return None;
        }
        let directory = path.iter().rposition(|b| *b == b'/').map_or(&path[..0], |end| &path[..end]);
        match self.links.entry((directory.to_vec(), entry.hardlink_group())) {
            Occupied(first) => Some(first.get().clone()),
            Vacant(none) => {
                none.insert(place.to_owned());
                None
            }
        }
    }

    fn identify(&mut self, path: &[u8], place: &Path, first: Option<&Path>) -> io::Result<()> {
        let identity = Identity::of(&fs::symlink_metadata(place)?);
        if first.is_some() {
            for other in self.files.values_mut().filter(|other| other.0 == identity.0) {
                *other = identity;
            }
        }
        self.files.insert(path.to_vec(), identity);
        Ok(())
    }

    /// Sets what can be set of an entry's extended attributes, and remembers the rest.
    fn set_attributes(&mut self, path: &[u8], place: &Path, entry: &Entry) -> Result<(), PublisherError> {
        let Ok(xattrs) = entry.xattrs() else { return Ok(()) };
        for (name, value) in xattrs.iter() {
            if !name.starts_with(b"user.") || xattr::set(place, OsStr::from_bytes(name), value).is_err() {
                self.kept_attributes.entry(path.to_vec()).or_default().insert(name.to_vec(), value.to_vec());
            }
        }
        Ok(())
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        // The worker removes its scratch directory anyway; this only gives the space back sooner.
        let _ = remove_tree(&self.root);
    }
}

/// Lists what is to be made, parents first, and refuses what is too much before anything is written.
fn plan(transaction: &mut NativeTransaction) -> Result<Vec<(Vec<u8>, Entry)>, PublisherError> {
    let limits = transaction.limits;
    let lease = transaction.lease.clone();
    let Some(top) = transaction.lookup(&lease)? else { return Ok(Vec::new()) };
    let (mut bytes, mut entries) = (0_u64, vec![(transaction.lease.as_bytes().to_vec(), top)]);
    let mut pending = vec![transaction.lease.as_bytes().to_vec()];
    while let Some(directory) = pending.pop() {
        let children = transaction.draft.tree().list(&directory);
        for entry in children.map_err(translate(&transaction.repository, "read its catalogs"))? {
            let path = join(&directory, &entry.name);
            if entry.is_directory() {
                pending.push(path.clone());
            } else if entry.is_file() && !entry.flags.has(Flags::EXTERNAL) {
                bytes = bytes.saturating_add(entry.size);
            }
            entries.push((path, entry));
        }
        let exceeded = |limit: String| PublisherError::Limit {
            what: format!("checking out /{} for a script", transaction.lease),
            limit,
        };
        if entries.len() as u64 > limits.entries {
            return Err(exceeded(format!("{} entries", limits.entries)));
        }
        if bytes > limits.bytes {
            return Err(exceeded(format!("{} bytes", limits.bytes)));
        }
    }
    Ok(entries)
}

fn write_content(
    transaction: &mut NativeTransaction,
    path: &[u8],
    entry: &Entry,
    mut file: File,
) -> Result<(), PublisherError> {
    let shown = String::from_utf8_lossy(path);
    let repository = transaction.repository.clone();
    let format = |error| translate(&repository, "read a file of it")(error);
    let unknown = || format(crate::cvmfs::Error::Unsupported(format!("the hash or compression algorithm of /{shown}")));
    let compression = entry.compression().ok_or_else(unknown)?;
    let (kind, pieces) = match entry.hash {
        Some(hash) => (ObjectKind::File, vec![Chunk { offset: 0, size: entry.size, hash }]),
        None => (ObjectKind::Chunk, transaction.draft.tree().chunks(path, entry).map_err(format)?),
    };
    for piece in pieces {
        let reader = transaction.draft.object(&piece.hash, kind, compression).map_err(format)?;
        // One byte more than there should be, so that an object which is too long is noticed and not written out.
        let copied = io::copy(&mut reader.take(piece.size.saturating_add(1)), &mut file);
        let copied = copied.map_err(io_error(format!("check out /{shown}")))?;
        if copied != piece.size {
            let why = format!("{copied} bytes instead of {}", piece.size);
            return Err(format(crate::cvmfs::Error::Malformed { what: format!("object {}", piece.hash), why }));
        }
    }
    Ok(())
}

/// Sets the time of last modification, of a link itself and not of what it points to.
fn set_mtime(place: &Path, entry: &Entry) -> io::Result<()> {
    let mtime = TimeSpec::new(entry.mtime, i64::from(entry.mtime_ns.unwrap_or(0)));
    utimensat(AT_FDCWD, place, &mtime, &mtime, UtimensatFlags::NoFollowSymlink).map_err(io::Error::from)
}

/// Removes a tree in which scripts may have left directories that cannot be written to.
pub(super) fn remove_tree(root: &Path) -> io::Result<()> {
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
        Ok(()) => return Ok(()),
        Err(_) => {}
    }
    // Parents come first, so each directory can be read once it is reached. Links are not followed.
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    fs::remove_dir_all(root)
}
