//! Writes entries into a mounted union directory, as `Transaction::{put, link, remove}` document it.
//!
//! Paths are resolved part by part beneath the root, so that neither a link in the repository nor one that a payload
//! brings can lead anywhere else. Nothing is synced: what is written is scratch until `cvmfs_server` publishes it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, renameat};
use nix::libc;
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, geteuid, linkat, symlinkat, unlinkat};

use crate::cvmfs::catalog::join;
use crate::cvmfs::edit::MARKER;
use crate::cvmfs::xattr::Xattrs;
use crate::domain::progress::Counters;
use crate::domain::tree::{EntryKind, EntryMeta, EntryPath};
use crate::publisher::{Owner, PublisherError};

mod write;

use super::place::{
    OWNER_BITS, conflict, failed, io_error, is_directory, look, make_writable, open_directory, remove_tree,
};

/// Longest target of a symbolic link: `PATH_MAX` less its NUL.
const LONGEST_TARGET: usize = 4095;

/// Bytes that are copied at a time.
const BUFFER: usize = 256 * 1024;

/// Who owns what is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ownership {
    /// Whom the entry names: only root can.
    Keep,
    /// The repository's owner.
    #[default]
    Owner,
}

/// A union directory that is written to. After an error it can only be thrown away, as an entry may be there by half.
#[derive(Debug)]
pub(super) struct Union {
    root: OwnedFd,
    ownership: Ownership,
    owner: Owner,
    keeps_attributes: bool,
    dropped_attributes: u64,
    progress: Arc<Counters>,
    /// The directory that was written in last.
    latest: Option<(EntryPath, OwnedFd)>,
    /// What directories get in the end, by path: each entry that is put into one changes its time.
    directories: BTreeMap<Vec<u8>, Finish>,
    buffer: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Finish {
    mtime: TimeSpec,
    /// The permissions, where its owner could not write in it with them.
    permissions: Option<u32>,
}

impl Union {
    /// The union mounted at `root`. `owner` is the repository's: the calling user, unless that is root.
    pub(super) fn open(root: &Path, ownership: Ownership, owner: Owner) -> Result<Self, PublisherError> {
        let denied = |what: String| {
            let source = io::Error::from(io::ErrorKind::PermissionDenied);
            Err(PublisherError::Io { what, source })
        };
        let user = geteuid();
        if !user.is_root() && ownership == Ownership::Keep {
            return denied(format!("keep the owners of entries below {}, which only root can", root.display()));
        }
        if !user.is_root() && user.as_raw() != owner.uid {
            return denied(format!("write below {} for user {} as user {user}", root.display(), owner.uid));
        }
        let root = nix::fcntl::open(root, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|error| io_error(format!("open {}", root.display()))(error.into()))?;
        Ok(Self {
            root,
            ownership,
            owner,
            keeps_attributes: true,
            dropped_attributes: 0,
            progress: Arc::default(),
            latest: None,
            directories: BTreeMap::new(),
            buffer: vec![0; BUFFER],
        })
    }

    /// Leaves extended attributes out, for a repository that does not keep them.
    pub(super) fn without_attributes(mut self) -> Self {
        self.keeps_attributes = false;
        self
    }

    /// Extended attributes that could not be set: those of links and special files, and all names but `user.*` and
    /// `security.capability`.
    pub(super) fn dropped_attributes(&self) -> u64 {
        self.dropped_attributes
    }

    /// Where the files and bytes are counted that were taken in.
    pub(super) fn progress(&self) -> Arc<Counters> {
        Arc::clone(&self.progress)
    }

    /// Adds or replaces one entry.
    pub(super) fn put(
        &mut self,
        path: &EntryPath,
        meta: &EntryMeta,
        kind: &EntryKind,
        content: &mut dyn Read,
    ) -> Result<(), PublisherError> {
        let name = self.check(path, meta, kind)?;
        if *kind == EntryKind::Directory {
            // `cvmfs_server` publishes nothing of the root itself: that of the union is the upper layer's.
            return if path.is_base() { Ok(()) } else { self.put_directory(path, &name, meta) };
        }
        let parent = self.prepare(path)?;
        self.clear(&parent, &name, path)?;
        match kind {
            EntryKind::File { size } => self.write_file(&parent, &name, path, meta, *size, content),
            EntryKind::Symlink { target } => {
                let target = OsStr::from_bytes(target);
                symlinkat(target, &parent, &name[..]).map_err(failed(path, "make the link"))?;
                self.finish_special(&parent, &name, path, meta, None)
            }
            EntryKind::Directory => Ok(()),
            EntryKind::Fifo => self.make_special(&parent, &name, path, meta, SFlag::S_IFIFO, 0),
            EntryKind::CharacterDevice { major, minor } => {
                self.make_special(&parent, &name, path, meta, SFlag::S_IFCHR, libc::makedev(*major, *minor))
            }
            EntryKind::BlockDevice { major, minor } => {
                self.make_special(&parent, &name, path, meta, SFlag::S_IFBLK, libc::makedev(*major, *minor))
            }
        }
    }

    /// Gives the file at `target` a second name.
    pub(super) fn link(&mut self, path: &EntryPath, target: &EntryPath) -> Result<(), PublisherError> {
        let no_file = || conflict(path, format!("it is a hard link to /{target}, which is no regular file here"));
        let (Some((_, old)), Some(above)) = (split(target), target.parent()) else { return Err(no_file()) };
        let Some(from) = self.descend(&above)? else { return Err(no_file()) };
        let file = look(&from, old).map_err(failed(target, "look at"))?.filter(is_file).ok_or_else(no_file)?;
        let name = self.check_name(path)?;
        let parent = self.prepare(path)?;
        let link = |name: &[u8]| linkat(&from, old, &parent, name, AtFlags::empty()).map_err(failed(path, "link"));
        match look(&parent, &name).map_err(failed(path, "look at"))? {
            None => link(&name),
            Some(there) if (there.st_dev, there.st_ino) == (file.st_dev, file.st_ino) => Ok(()),
            Some(_) => {
                // What stands there may be a directory that holds the target.
                let aside = free_name(&parent, path)?;
                link(&aside)?;
                self.clear(&parent, &name, path)?;
                renameat(&parent, &aside[..], &parent, &name[..]).map_err(failed(path, "link"))
            }
        }
    }

    /// Removes an entry with all below it; tells whether it was there. Below a link or a file nothing is.
    pub(super) fn remove(&mut self, path: &EntryPath) -> Result<bool, PublisherError> {
        let (Some((_, name)), Some(above)) = (split(path), path.parent()) else {
            return Err(conflict(path, "the root of the repository cannot be removed"));
        };
        let Some(parent) = self.descend(&above)? else { return Ok(false) };
        if look(&parent, name).map_err(failed(path, "look at"))?.is_none() {
            return Ok(false);
        }
        self.touch(&above, &parent)?;
        self.clear(&parent, name, path)
    }

    /// Makes the directories that are missing on a way, and the one that it leads to.
    pub(super) fn make_directories(&mut self, path: &EntryPath) -> Result<(), PublisherError> {
        self.reach(path).map(drop)
    }

    /// Gives an entry to an account. Nothing is left in it that would let others act as that.
    pub(super) fn give(&mut self, path: &EntryPath, to: Owner) -> Result<(), PublisherError> {
        const ACT_AS: u32 = 0o6000;
        let (uid, gid) = (Some(Uid::from_raw(to.uid)), Some(Gid::from_raw(to.gid)));
        let (Some((_, name)), Some(above)) = (split(path), path.parent()) else {
            return fchown(&self.root, uid, gid).map_err(failed(path, "change the owner"));
        };
        let Some(parent) = self.descend(&above)? else { return Ok(()) };
        let Some(there) = look(&parent, name).map_err(failed(path, "look at"))? else { return Ok(()) };
        fchownat(&parent, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed(path, "change the owner"))?;
        if there.st_mode & ACT_AS != 0 && (is_file(&there) || is_directory(&there)) {
            let mode = Mode::from_bits_truncate(there.st_mode & 0o7777 & !ACT_AS);
            fchmodat(&parent, name, mode, FchmodatFlags::NoFollowSymlink)
                .or_else(|_| fchmodat(&parent, name, mode, FchmodatFlags::FollowSymlink))
                .map_err(failed(path, "change"))?;
        }
        Ok(())
    }

    /// Gives directories the times and permissions that they are to have, which entries put into them have changed.
    pub(super) fn settle(&mut self) -> Result<(), PublisherError> {
        for (path, finish) in std::mem::take(&mut self.directories).into_iter().rev() {
            let path = entry_path(&path)?;
            let Some(directory) = self.descend(&path)? else { continue };
            if let Some(permissions) = finish.permissions {
                fchmod(&directory, Mode::from_bits_truncate(permissions)).map_err(failed(&path, "change"))?;
            }
            futimens(&directory, &TimeSpec::UTIME_OMIT, &finish.mtime).map_err(failed(&path, "change"))?;
        }
        Ok(())
    }

    /// Refuses what no repository can hold; gives the name.
    fn check(&mut self, path: &EntryPath, meta: &EntryMeta, kind: &EntryKind) -> Result<Vec<u8>, PublisherError> {
        if let EntryKind::Symlink { target } = kind
            && (target.is_empty() || target.contains(&0) || target.len() > LONGEST_TARGET)
        {
            return Err(conflict(path, "the target of a symbolic link must have 1 to 4095 bytes, none of them NUL"));
        }
        if *kind == (EntryKind::CharacterDevice { major: 0, minor: 0 }) {
            // Anybody may make one.
            return Err(conflict(path, "a device of number 0:0 stands for a removed file in an overlay"));
        }
        if self.keeps_attributes {
            let mut packed = Xattrs::new();
            for (name, value) in &meta.attributes {
                packed.set(name, value).map_err(|error| conflict(path, error.to_string()))?;
            }
        }
        if *kind == EntryKind::Directory && path.is_base() {
            return Ok(Vec::new());
        }
        let name = self.check_name(path)?;
        if name == MARKER && !matches!(kind, EntryKind::File { .. }) {
            let why = "only a regular file can have this name, which asks for a nested catalog";
            return Err(conflict(path, why));
        }
        Ok(name)
    }

    fn check_name(&self, path: &EntryPath) -> Result<Vec<u8>, PublisherError> {
        let root = || conflict(path, "the root of the repository can only be a directory");
        split(path).map(|(_, name)| name.to_vec()).ok_or_else(root)
    }

    fn put_directory(&mut self, path: &EntryPath, name: &[u8], meta: &EntryMeta) -> Result<(), PublisherError> {
        let above = path.parent().unwrap_or_else(EntryPath::base);
        let parent = self.reach(&above)?;
        let directory = match look(&parent, name).map_err(failed(path, "look at"))? {
            Some(there) if is_directory(&there) => open_directory(&parent, name).map_err(failed(path, "open"))?,
            _ => {
                self.touch(&above, &parent)?;
                self.clear(&parent, name, path)?;
                new_directory(&parent, name, path)?
            }
        };
        // What is there may keep its owner from setting attributes.
        make_writable(directory.as_fd()).map_err(failed(path, "change"))?;
        let directory = File::from(directory);
        self.chown(&directory, path, meta)?;
        self.set_attributes(&directory, path, &meta.attributes)?;
        let is_writable = geteuid().is_root() || meta.mode & OWNER_BITS == OWNER_BITS;
        let now = if is_writable { meta.mode } else { meta.mode | OWNER_BITS };
        fchmod(&directory, Mode::from_bits_truncate(now & 0o7777)).map_err(failed(path, "change"))?;
        let permissions = (!is_writable).then_some(meta.mode & 0o7777);
        let finish = Finish { mtime: TimeSpec::new(meta.mtime, 0), permissions };
        self.directories.insert(path.as_bytes().to_vec(), finish);
        Ok(())
    }

    /// Removes whatever stands at a name, with all below it; tells whether anything did.
    fn clear(&mut self, parent: &OwnedFd, name: &[u8], path: &EntryPath) -> Result<bool, PublisherError> {
        let Some(there) = look(parent, name).map_err(failed(path, "look at"))? else { return Ok(false) };
        if !is_directory(&there) {
            unlinkat(parent, name, UnlinkatFlags::NoRemoveDir).map_err(failed(path, "remove"))?;
            return Ok(true);
        }
        if self.latest.as_ref().is_some_and(|(latest, _)| latest.is_within(path)) {
            self.latest = None;
        }
        // The byte behind the slash is the zero.
        let (first, end) = ([path.as_bytes(), b"/"].concat(), [path.as_bytes(), b"0"].concat());
        let gone: Vec<_> = self.directories.range(first..end).map(|(path, _)| path.clone()).collect();
        for path in gone {
            self.directories.remove(&path);
        }
        self.directories.remove(path.as_bytes());
        remove_tree(parent.as_fd(), name).map_err(failed(path, "remove"))?;
        Ok(true)
    }

    /// The directory that an entry is about to be put in.
    fn prepare(&mut self, path: &EntryPath) -> Result<OwnedFd, PublisherError> {
        let above = path.parent().unwrap_or_else(EntryPath::base);
        let parent = self.reach(&above)?;
        self.touch(&above, &parent)?;
        Ok(parent)
    }

    /// Notes the time of a directory before entries are put in it.
    fn touch(&mut self, path: &EntryPath, directory: &OwnedFd) -> Result<(), PublisherError> {
        if self.directories.contains_key(path.as_bytes()) {
            return Ok(());
        }
        let found = fstat(directory).map_err(failed(path, "look at"))?;
        let permissions = make_writable(directory.as_fd()).map_err(failed(path, "change"))?;
        let finish = Finish { mtime: TimeSpec::new(found.st_mtime, found.st_mtime_nsec), permissions };
        self.directories.insert(path.as_bytes().to_vec(), finish);
        Ok(())
    }

    /// Opens a directory; what is missing on the way is made.
    fn reach(&mut self, path: &EntryPath) -> Result<OwnedFd, PublisherError> {
        let (mut here, mut directory) = self.start(path)?;
        let done = here.parts().count();
        for part in path.parts().skip(done) {
            let below = child(&here, part)?;
            let next = match open_directory(&directory, part) {
                Err(Errno::ENOENT) => {
                    self.touch(&here, &directory)?;
                    self.make_parent(&directory, part, &below)?
                }
                Err(Errno::ENOTDIR | Errno::ELOOP) => return Err(in_the_way(&directory, part, &below)),
                next => next.map_err(failed(&below, "open"))?,
            };
            (here, directory) = (below, next);
        }
        self.remember(path, &directory)?;
        Ok(directory)
    }

    /// Opens a directory, if it is there and one.
    fn descend(&mut self, path: &EntryPath) -> Result<Option<OwnedFd>, PublisherError> {
        let (here, mut directory) = self.start(path)?;
        for part in path.parts().skip(here.parts().count()) {
            directory = match open_directory(&directory, part) {
                Ok(next) => next,
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
                Err(error) => return Err(failed(path, "open")(error)),
            };
        }
        Ok(Some(directory))
    }

    /// Where a way begins: at the directory that was written in last, or at the root.
    fn start(&self, path: &EntryPath) -> Result<(EntryPath, OwnedFd), PublisherError> {
        let (above, directory) = match &self.latest {
            Some((latest, directory)) if path.is_within(latest) => (latest.clone(), directory),
            _ => (EntryPath::base(), &self.root),
        };
        let directory = directory.try_clone().map_err(io_error(format!("open /{above} in the transaction")))?;
        Ok((above, directory))
    }

    fn remember(&mut self, path: &EntryPath, directory: &OwnedFd) -> Result<(), PublisherError> {
        if self.latest.as_ref().is_none_or(|(latest, _)| latest != path) {
            let directory = directory.try_clone().map_err(io_error(format!("open /{path} in the transaction")))?;
            self.latest = Some((path.clone(), directory));
        }
        Ok(())
    }

    /// Makes a directory that nobody has described.
    fn make_parent(&mut self, at: &OwnedFd, name: &[u8], path: &EntryPath) -> Result<OwnedFd, PublisherError> {
        let directory = new_directory(at, name, path)?;
        let (uid, gid) = (Uid::from_raw(self.owner.uid), Gid::from_raw(self.owner.gid));
        fchown(&directory, Some(uid), Some(gid)).map_err(failed(path, "change the owner of"))?;
        fchmod(&directory, Mode::from_bits_truncate(0o755)).map_err(failed(path, "change"))?;
        self.touch(path, &directory)?;
        Ok(directory)
    }
}

fn new_directory(at: &OwnedFd, name: &[u8], path: &EntryPath) -> Result<OwnedFd, PublisherError> {
    mkdirat(at, name, Mode::from_bits_truncate(OWNER_BITS)).map_err(failed(path, "make the directory"))?;
    open_directory(at, name).map_err(failed(path, "open"))
}

fn is_file(found: &FileStat) -> bool {
    found.st_mode & libc::S_IFMT == libc::S_IFREG
}

/// Says what stands where a directory is needed.
fn in_the_way(at: &OwnedFd, name: &[u8], path: &EntryPath) -> PublisherError {
    match look(at, name) {
        Ok(Some(found)) if found.st_mode & libc::S_IFMT == libc::S_IFLNK => {
            conflict(path, "it is a symbolic link, not a directory")
        }
        _ => conflict(path, "it is a file, not a directory"),
    }
}

/// A name that nothing in a directory has.
fn free_name(at: &OwnedFd, path: &EntryPath) -> Result<Vec<u8>, PublisherError> {
    let mut number = 0_u64;
    loop {
        let name = format!(".conveyor-link-{number}").into_bytes();
        if look(at, &name).map_err(failed(path, "look at"))?.is_none() {
            return Ok(name);
        }
        number += 1;
    }
}

/// The directory that a path lies in, and its name there; `None` for the root.
fn split(path: &EntryPath) -> Option<(&[u8], &[u8])> {
    crate::cvmfs::catalog::split(path.as_bytes())
}

fn child(directory: &EntryPath, name: &[u8]) -> Result<EntryPath, PublisherError> {
    entry_path(&join(directory.as_bytes(), name))
}

fn entry_path(path: &[u8]) -> Result<EntryPath, PublisherError> {
    EntryPath::new(path).map_err(|error| conflict(&EntryPath::base(), error.to_string()))
}
