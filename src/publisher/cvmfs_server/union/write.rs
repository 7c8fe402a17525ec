//! Makes single entries, with all that they carry.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, futimens, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};
use xattr::FileExt;

use crate::domain::tree::{Attributes, EntryMeta, EntryPath};
use crate::publisher::{Owner, PublisherError};

use super::super::place::{can_be_set, conflict, failed, io_error};
use super::{Ownership, Union};

impl Union {
    pub(super) fn write_file(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &EntryPath,
        meta: &EntryMeta,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), PublisherError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed(path, "create"))?;
        let mut file = File::from(file);
        let wrong = |source| PublisherError::Content { path: path.clone(), source };
        let mut read = 0_u64;
        loop {
            let count = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(wrong(error)),
            };
            self.progress.add_bytes(count as u64);
            read += count as u64;
            // What is too much is counted only.
            if read <= size {
                file.write_all(&self.buffer[..count])
                    .map_err(io_error(format!("write /{path} in the transaction (is the spool full?)")))?;
            }
        }
        if read != size {
            let why = format!("it has {read} bytes instead of {size}");
            return Err(wrong(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        // A change of owner takes set-id bits and capabilities away; a file that is read-only takes no attributes.
        self.chown(&file, path, meta)?;
        self.set_attributes(&file, path, &meta.attributes)?;
        fchmod(&file, Mode::from_bits_truncate(meta.mode & 0o7777)).map_err(failed(path, "change"))?;
        let mtime = TimeSpec::new(meta.mtime, 0);
        futimens(&file, &TimeSpec::UTIME_OMIT, &mtime).map_err(failed(path, "change"))?;
        self.progress.add_file();
        Ok(())
    }

    pub(super) fn make_special(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &EntryPath,
        meta: &EntryMeta,
        kind: SFlag,
        device: libc::dev_t,
    ) -> Result<(), PublisherError> {
        mknodat(parent, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, device).map_err(|error| match error {
            Errno::EPERM if kind != SFlag::S_IFIFO => conflict(path, "only root can make a device"),
            error => failed(path, "make")(error),
        })?;
        self.finish_special(parent, name, path, meta, Some(meta.mode & 0o7777))
    }

    /// Sets what a link or special file has beside its name; `permissions` for what has any.
    pub(super) fn finish_special(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &EntryPath,
        meta: &EntryMeta,
        permissions: Option<u32>,
    ) -> Result<(), PublisherError> {
        let (uid, gid) = self.owner_of(meta);
        fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed(path, "change"))?;
        if let Some(permissions) = permissions {
            let mode = Mode::from_bits_truncate(permissions);
            fchmodat(parent, name, mode, FchmodatFlags::NoFollowSymlink).map_err(failed(path, "change"))?;
        }
        if self.keeps_attributes {
            self.dropped_attributes += meta.attributes.len() as u64;
        }
        let mtime = TimeSpec::new(meta.mtime, 0);
        utimensat(parent, name, &TimeSpec::UTIME_OMIT, &mtime, UtimensatFlags::NoFollowSymlink)
            .map_err(failed(path, "change"))
    }

    pub(super) fn owner_of(&self, meta: &EntryMeta) -> (Uid, Gid) {
        let Owner { uid, gid } = match self.ownership {
            Ownership::Keep => Owner { uid: meta.uid, gid: meta.gid },
            Ownership::Owner => self.owner,
        };
        (Uid::from_raw(uid), Gid::from_raw(gid))
    }

    pub(super) fn chown(&self, file: &File, path: &EntryPath, meta: &EntryMeta) -> Result<(), PublisherError> {
        let (uid, gid) = self.owner_of(meta);
        fchown(file, Some(uid), Some(gid)).map_err(failed(path, "change the owner of"))
    }

    /// Sets the extended attributes of a file or directory, and removes those that it is not to have.
    pub(super) fn set_attributes(
        &mut self,
        file: &File,
        path: &EntryPath,
        wanted: &Attributes,
    ) -> Result<(), PublisherError> {
        if !self.keeps_attributes {
            return Ok(());
        }
        // A file system without them lists none.
        for name in file.list_xattr().into_iter().flatten() {
            if can_be_set(name.as_bytes()) && !wanted.contains_key(name.as_bytes()) {
                file.remove_xattr(&name).map_err(io_error(format!("remove an extended attribute of /{path}")))?;
            }
        }
        for (name, value) in wanted {
            let set = match can_be_set(name) {
                true => file.set_xattr(OsStr::from_bytes(name), value),
                false => Err(Errno::EPERM.into()),
            };
            match set.map_err(|error| (error.raw_os_error(), error)) {
                Ok(()) => {}
                Err((Some(libc::EPERM | libc::EOPNOTSUPP), _)) => self.dropped_attributes += 1,
                Err((_, error)) => return Err(io_error(format!("set an extended attribute of /{path}"))(error)),
            }
        }
        Ok(())
    }
}
