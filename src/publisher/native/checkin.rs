//! Check-in: what a script did to a checked-out tree. Everything is looked at with `lstat`; links are never followed.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::libc;

use crate::cvmfs::catalog::{Entry, Flags, join};
use crate::cvmfs::edit::{NewEntry, NewKind};
use crate::cvmfs::xattr::Xattrs;
use crate::domain::tree::EntryPath;
use crate::publisher::PublisherError;

use super::checkout::{Checkout, KEPT_BITS};
use super::errors::{conflict, io_error, translate};
use super::transaction::{NativeTransaction, check_target};

/// Takes the tree's changes into the transaction.
pub(super) fn check_in(transaction: &mut NativeTransaction, checkout: &Checkout) -> Result<(), PublisherError> {
    let lease = transaction.lease.clone();
    check_outside(&lease, checkout)?;
    let Some(metadata) = look(&checkout.place(lease.as_bytes()), &lease)? else {
        if lease.is_base() {
            return Err(conflict(&lease, "the script removed the root of the repository"));
        }
        transaction.erase(&lease)?;
        return Ok(());
    };
    if !metadata.is_dir() {
        return Err(conflict(&lease, "the lease path itself can only be a directory"));
    }
    let old = transaction.lookup(&lease)?;
    let mut links = Links::new();
    check_in_entry(transaction, checkout, &mut links, &lease, &metadata, old.as_ref())?;
    let mut pending = vec![lease];
    while let Some(directory) = pending.pop() {
        check_in_directory(transaction, checkout, &mut links, &directory, &mut pending)?;
    }
    Ok(())
}

/// The first path of each inode that has several.
type Links = HashMap<u64, EntryPath>;

/// Refuses anything that a script put beside the way to the lease path.
fn check_outside(lease: &EntryPath, checkout: &Checkout) -> Result<(), PublisherError> {
    let mut above = EntryPath::base();
    for part in lease.parts() {
        let place = checkout.place(above.as_bytes());
        match look(&place, &above)? {
            Some(metadata) if metadata.is_dir() => {}
            _ => return Err(conflict(&above, "the script replaced a directory outside the lease path")),
        }
        for name in names(&place, &above)? {
            if name.as_bytes() != part {
                let path = entry_path(&above, name.as_bytes())?;
                return Err(conflict(&path, format!("the script wrote outside the lease path /{lease}")));
            }
        }
        above = entry_path(&above, part)?;
    }
    Ok(())
}

/// Compares one directory's entries with the catalog's; directories below are left in `pending`.
fn check_in_directory(
    transaction: &mut NativeTransaction,
    checkout: &Checkout,
    links: &mut Links,
    directory: &EntryPath,
    pending: &mut Vec<EntryPath>,
) -> Result<(), PublisherError> {
    let listed = transaction.draft.tree().list(directory.as_bytes());
    let listed = listed.map_err(translate(&transaction.repository, "read its catalogs"))?;
    let mut before: BTreeMap<Vec<u8>, Entry> = listed.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
    let place = checkout.place(directory.as_bytes());
    for name in names(&place, directory)? {
        let path = entry_path(directory, name.as_bytes())?;
        let old = before.remove(name.as_bytes());
        let Some(metadata) = look(&place.join(&name), &path)? else { continue };
        check_in_entry(transaction, checkout, links, &path, &metadata, old.as_ref())?;
        if metadata.is_dir() {
            pending.push(path);
        }
    }
    for name in before.into_keys() {
        let path = entry_path(directory, &name)?;
        if !checkout.is_absent(&path) {
            transaction.drain(true)?;
            transaction.erase(&path)?;
        }
    }
    Ok(())
}

fn check_in_entry(
    transaction: &mut NativeTransaction,
    checkout: &Checkout,
    links: &mut Links,
    path: &EntryPath,
    metadata: &Metadata,
    old: Option<&Entry>,
) -> Result<(), PublisherError> {
    let place = checkout.place(path.as_bytes());
    let file_type = metadata.file_type();
    let permissions = metadata.mode() & 0o7777;
    // Modes and times that are as they were made mean what the catalog says, set-id bits and all.
    let same_permissions = old.filter(|old| old.permissions() & KEPT_BITS == permissions);
    let same_time = old
        .filter(|old| old.mtime == metadata.mtime() && i64::from(old.mtime_ns.unwrap_or(0)) == metadata.mtime_nsec());
    let mut entry = NewEntry {
        kind: NewKind::Directory,
        permissions: same_permissions.map_or(permissions, Entry::permissions),
        mtime: metadata.mtime(),
        mtime_ns: same_time.map_or_else(|| nanoseconds(transaction, metadata), |old| old.mtime_ns),
        uid: transaction.owner.uid,
        gid: transaction.owner.gid,
        xattrs: attributes(transaction, checkout, path, &place)?,
    };
    let same_xattrs = old.is_some_and(|old| old.xattr == entry.xattrs.pack());
    if file_type.is_dir() {
        // A directory that gets another entry is still its owner's.
        if let Some(old) = old.filter(|old| old.is_directory()) {
            (entry.uid, entry.gid) = (old.uid, old.gid);
        }
    } else if file_type.is_symlink() {
        let target = fs::read_link(&place).map_err(io_error(format!("read {}", place.display())))?;
        let target = target.into_os_string().into_vec();
        if let Some(old) = old.filter(|old| old.is_symlink() && old.symlink == target && same_time.is_some()) {
            (entry.uid, entry.gid, entry.permissions) = (old.uid, old.gid, old.permissions());
        }
        check_target(path, &target)?;
        entry.kind = NewKind::Symlink { target };
    } else if file_type.is_file() {
        let first = (metadata.nlink() > 1).then(|| links.entry(metadata.ino()).or_insert_with(|| path.clone()).clone());
        if let Some(first) = first.filter(|first| first != path) {
            return transaction.push_link(path, &first);
        }
        let unchanged = old.is_some_and(|old| old.is_file() && old.size == metadata.len());
        if unchanged && same_permissions.is_some() && same_time.is_some() && checkout.is_untouched(path, metadata) {
            return Ok(());
        }
        let mut file = open(&place, metadata)?;
        let Some(old) = old.filter(|old| old.is_file()) else {
            return transaction.push_file(path, entry, metadata.len(), &mut file);
        };
        entry.kind = transaction.store(path, metadata.len(), &mut file)?;
        let same_content = transaction.has_content(path, old, &entry.kind)?;
        if same_content && same_permissions.is_some() && same_time.is_some() {
            (entry.uid, entry.gid) = (old.uid, old.gid);
            // Links that came or went changed the inode, not the file.
            if same_xattrs && old.hardlink_group() != 0 && metadata.nlink() > 1 {
                return Ok(());
            }
        }
    } else if file_type.is_fifo() || file_type.is_socket() {
        entry.kind = if file_type.is_fifo() { NewKind::Fifo } else { NewKind::Socket };
        if let Some(old) = old.filter(|old| old.flags.has(Flags::SPECIAL) && same_time.is_some()) {
            (entry.uid, entry.gid) = (old.uid, old.gid);
        }
    } else {
        return Err(conflict(path, "the script made a device there: only root can, and scripts never run as root"));
    }
    transaction.push(path, entry)
}

/// The nanoseconds of a time, if the repository keeps them.
fn nanoseconds(transaction: &NativeTransaction, metadata: &Metadata) -> Option<u32> {
    let kept = transaction.draft.settings().mtime_ns;
    kept.then(|| u32::try_from(metadata.mtime_nsec()).ok()).flatten()
}

/// The extended attributes of what lies there, with those that the script was not given.
fn attributes(
    transaction: &NativeTransaction,
    checkout: &Checkout,
    path: &EntryPath,
    place: &Path,
) -> Result<Xattrs, PublisherError> {
    let mut found = checkout.kept_attributes(path);
    // A file system without them has none.
    for name in xattr::list(place).into_iter().flatten() {
        // The others are the machine's: labels and the like.
        if name.as_bytes().starts_with(b"user.")
            && let Ok(Some(value)) = xattr::get(place, &name)
        {
            found.insert(name.into_vec(), value);
        }
    }
    transaction.xattrs(path, &found)
}

/// Opens a file that the script may have made unreadable for its owner.
fn open(place: &Path, metadata: &Metadata) -> Result<File, PublisherError> {
    let open = || OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(place);
    let opened = match open() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            fs::set_permissions(place, Permissions::from_mode(metadata.mode() & 0o777 | 0o400)).and_then(|()| open())
        }
        opened => opened,
    };
    opened.map_err(io_error(format!("read {}", place.display())))
}

/// The names in a directory, which the script may have closed to its owner.
fn names(place: &Path, path: &EntryPath) -> Result<Vec<OsString>, PublisherError> {
    let list = || fs::read_dir(place)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
    let needs_opening = fs::symlink_metadata(place).is_ok_and(|metadata| metadata.mode() & 0o500 != 0o500);
    if needs_opening {
        // Its mode was looked at before, as an entry of the directory above.
        let opened = fs::set_permissions(place, Permissions::from_mode(0o700));
        opened.map_err(io_error(format!("open the directory {}", place.display())))?;
    }
    let mut names = list().map_err(too_deep_or_io(place, path))?;
    names.sort_unstable();
    Ok(names)
}

fn look(place: &Path, path: &EntryPath) -> Result<Option<Metadata>, PublisherError> {
    match fs::symlink_metadata(place) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(too_deep_or_io(place, path)(error)),
    }
}

/// A tree that is too deep to be named is the script's fault; all else is the machine's.
fn too_deep_or_io<'a>(place: &'a Path, path: &'a EntryPath) -> impl FnOnce(io::Error) -> PublisherError + 'a {
    move |error| match error.raw_os_error() {
        Some(libc::ENAMETOOLONG) => conflict(path, "the path is longer than this system can name"),
        _ => io_error(format!("look at {}", place.display()))(error),
    }
}

fn entry_path(directory: &EntryPath, name: &[u8]) -> Result<EntryPath, PublisherError> {
    EntryPath::new(&join(directory.as_bytes(), name)).map_err(|error| conflict(directory, error.to_string()))
}
