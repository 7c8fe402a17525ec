//! Directories and what lies in them, by handle and name: no symbolic link is ever followed, whoever made it.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use crate::domain::tree::EntryPath;
use crate::publisher::PublisherError;

/// What a directory's owner needs to change what is in it.
pub(super) const OWNER_BITS: u32 = 0o700;

/// Opens a directory in another one.
pub(super) fn open_directory(at: impl AsFd, name: &[u8]) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// What lies there, the link itself where it is one.
pub(super) fn look(at: impl AsFd, name: &[u8]) -> nix::Result<Option<FileStat>> {
    match fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn is_directory(found: &FileStat) -> bool {
    found.st_mode & libc::S_IFMT == libc::S_IFDIR
}

/// Lets an ordinary user change what is in a directory of its own; gives the permissions that it had, if they were others.
pub(super) fn make_writable(directory: BorrowedFd<'_>) -> nix::Result<Option<u32>> {
    // Nothing keeps root out.
    if geteuid().is_root() {
        return Ok(None);
    }
    let found = fstat(directory)?;
    let permissions = found.st_mode & 0o7777;
    if permissions & OWNER_BITS == OWNER_BITS || found.st_uid != geteuid().as_raw() {
        return Ok(None);
    }
    fchmod(directory, Mode::from_bits_truncate(permissions | OWNER_BITS))?;
    Ok(Some(permissions))
}

/// Removes a directory with all below it. Only a few directories are open at a time, however deep it goes.
pub(super) fn remove_tree(at: BorrowedFd<'_>, name: &[u8]) -> nix::Result<()> {
    let mut pending = vec![(vec![CString::new(name).map_err(|_| Errno::EINVAL)?], false)];
    while let Some((way, is_empty)) = pending.pop() {
        let Some((last, above)) = way.split_last() else { continue };
        let mut parent = at.try_clone_to_owned().map_err(errno)?;
        for part in above {
            parent = open_directory(&parent, part.to_bytes())?;
        }
        if is_empty {
            unlinkat(&parent, last.as_c_str(), UnlinkatFlags::RemoveDir)?;
            continue;
        }
        let directory = open_directory(&parent, last.to_bytes())?;
        make_writable(directory.as_fd())?;
        pending.push((way.clone(), true));
        for name in names(directory.as_fd())? {
            let below = fstatat(&directory, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            if is_directory(&below) {
                pending.push(([&way[..], &[name]].concat(), false));
            } else {
                unlinkat(&directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
            }
        }
    }
    Ok(())
}

/// The names in a directory.
fn names(directory: BorrowedFd<'_>) -> nix::Result<Vec<CString>> {
    let mut listed = Dir::from_fd(directory.try_clone_to_owned().map_err(errno)?)?;
    let mut names = Vec::new();
    for entry in listed.iter() {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Names of extended attributes that a publisher may set; the others are the machine's, and `trusted.overlay.*` the union's own.
pub(super) fn can_be_set(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == b"security.capability"
}

/// A change that cannot be made.
pub(super) fn conflict(path: &EntryPath, why: impl Into<String>) -> PublisherError {
    PublisherError::Conflict { path: path.clone(), why: why.into() }
}

/// Wraps an I/O error; `what` completes "cannot …".
pub(super) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> PublisherError {
    let what = what.into();
    move |source| PublisherError::Io { what, source }
}

/// An error of the file system on a path: what no second try can help is the change's fault, the rest the machine's.
pub(super) fn failed<'a>(path: &'a EntryPath, what: &'a str) -> impl Fn(Errno) -> PublisherError + 'a {
    move |error| match error {
        Errno::ENAMETOOLONG => conflict(path, "its name is too long for the file system of the publisher's spool"),
        Errno::EMLINK => conflict(path, "it has more names than the file system of the publisher's spool can keep"),
        error => PublisherError::Io { what: format!("{what} /{path} in the transaction"), source: error.into() },
    }
}
