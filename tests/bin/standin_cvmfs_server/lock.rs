//! `is_publishing.lock`: locked by flock, by a descriptor that the publish's children inherit.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, FdFlag, Flock, FlockArg, fcntl};

use crate::lab::Repository;

const FILE: &str = "is_publishing.lock";

/// Held until it is let go: the file is removed then. Who dies leaves the file, unlocked.
pub(crate) struct Publishing(Flock<File>);

impl Publishing {
    /// Takes it without waiting.
    pub(crate) fn take(repository: &Repository) -> Option<Self> {
        let path = repository.spool(FILE);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
        fcntl(lock.as_fd(), FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        Some(Self(lock))
    }

    pub(crate) fn is_held(repository: &Repository) -> bool {
        let Ok(file) = OpenOptions::new().write(true).open(repository.spool(FILE)) else { return false };
        Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err()
    }

    pub(crate) fn let_go(self, repository: &Repository) {
        fs::remove_file(repository.spool(FILE)).unwrap();
        drop(self.0);
    }
}
