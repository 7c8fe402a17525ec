//! The spool directory of `cvmfs_server`: its locks, which bind us, and the reflog's hash, which it must find right
//! after a change of ours (`cvmfs/server/cvmfs_server_util.sh`, `cvmfs/publish/repository_util.cc`).

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::super::hash::ContentHash;
use super::super::owner::Owner;
use super::super::whitelist::rfc3339;
use super::super::{Error, durable};
use super::Held;

/// How often a lock's file may vanish between opening and locking it.
const TRIES: usize = 100;

/// How the note in a transaction's file of ours begins; nobody else reads or writes it.
const OURS: &str = "conveyor ";

/// A spool directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spool(pub(super) PathBuf);

/// One of its locks, held until it is dropped.
#[derive(Debug)]
pub(super) struct SpoolLock {
    path: PathBuf,
    _file: Flock<File>,
}

impl Drop for SpoolLock {
    fn drop(&mut self) {
        // As the real tools do, while it is still locked: a file that root made would be in its owner's way. One that
        // stays means nothing.
        let _ = fs::remove_file(&self.path);
    }
}

/// A transaction as `cvmfs_server` sees it, open until it is dropped.
#[derive(Debug)]
pub(super) struct Transaction {
    path: PathBuf,
    note: String,
}

impl Transaction {
    /// Refuses to go on when it is no longer ours: somebody cleared it by hand, and may have opened one of theirs.
    pub(super) fn check(&self) -> Result<(), Held> {
        match fs::read_to_string(&self.path) {
            Ok(note) if note == self.note => Ok(()),
            _ => Err(Held { path: self.path.clone(), holder: "somebody who ended our transaction".into() }),
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.check().is_ok() {
            // One that stays is removed by whoever opens the next.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whose transaction is open; `None` if it is one that we left.
fn holder(path: &Path) -> std::io::Result<Option<String>> {
    let flag = match fs::symlink_metadata(path) {
        Ok(flag) => flag,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Theirs are empty. What cannot be read is not ours.
    if fs::read_to_string(path).is_ok_and(|note| note.starts_with(OURS)) {
        return Ok(None);
    }
    Ok(Some(format!("a transaction of user {} since {}", flag.uid(), rfc3339(flag.mtime()))))
}

impl Spool {
    /// Takes one of the locks, `is_publishing` or `is_collecting`, without waiting.
    pub(super) fn lock(&self, name: &str) -> Result<Result<SpoolLock, Held>, Error> {
        let path = self.0.join(format!("{name}.lock"));
        let failed = || Error::io(format!("lock {} (is this user allowed to publish there?)", path.display()));
        for _ in 0..TRIES {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o644).open(&path);
            let file = match Flock::lock(file.map_err(failed())?, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, Errno::EWOULDBLOCK)) => {
                    return Ok(Err(Held { path, holder: "a process of cvmfs_server".into() }));
                }
                Err((_, error)) => return Err(failed()(error.into())),
            };
            // Who lets go of it removes the file, and who only looks whether it is held does so too: what we locked may
            // have no name by now.
            let locked = file.metadata().map_err(failed())?;
            if fs::metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (locked.dev(), locked.ino())) {
                Owner::of(&self.0)?.give(&path)?;
                return Ok(Ok(SpoolLock { path, _file: file }));
            }
        }
        Err(failed()(std::io::Error::other("its file vanishes again and again")))
    }

    /// Opens a transaction: while this file is there, `cvmfs_server` neither opens one of its own nor collects garbage,
    /// which `is_publishing` alone does not keep it from. Who calls holds that lock, so a file of ours is a dead process's.
    pub(super) fn open_transaction(&self) -> Result<Result<Transaction, Held>, Error> {
        let path = self.0.join("in_transaction.lock");
        let failed = || Error::io(format!("open a transaction with {}", path.display()));
        let note = format!("{OURS}process {}\n", std::process::id());
        // Written first and named then: an empty file would be one of theirs.
        let next = self.0.join("in_transaction.conveyor");
        durable::remove_if_there(&next)?;
        fs::write(&next, &note).map_err(failed())?;
        Owner::of(&self.0)?.give(&next)?;
        let opened = self.name_transaction(&next, &path, note);
        durable::remove_if_there(&next)?;
        opened
    }

    fn name_transaction(&self, next: &Path, path: &Path, note: String) -> Result<Result<Transaction, Held>, Error> {
        let failed = || Error::io(format!("open a transaction with {}", path.display()));
        for _ in 0..TRIES {
            match fs::hard_link(next, path) {
                Ok(()) => return Ok(Ok(Transaction { path: path.to_owned(), note })),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed()(error)),
            }
            match holder(path).map_err(failed())? {
                Some(holder) => return Ok(Err(Held { path: path.to_owned(), holder })),
                None => durable::remove_if_there(path)?,
            }
        }
        Err(failed()(std::io::Error::other("it comes again and again")))
    }

    fn checksum_file(&self) -> PathBuf {
        self.0.join("reflog.chksum")
    }

    /// The hash that the reflog has by what is noted here; `None` where nothing is that makes sense.
    pub(super) fn checksum(&self) -> Option<ContentHash> {
        ContentHash::parse(fs::read_to_string(self.checksum_file()).ok()?.trim()).ok()
    }

    /// Refuses a directory in which the hash could not be noted later.
    pub(super) fn check_writable(&self) -> Result<(), Error> {
        let path = self.checksum_file();
        let failed = || Error::io(format!("write {} (is this user allowed to publish there?)", path.display()));
        match OpenOptions::new().write(true).open(&path) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                nix::unistd::access(&self.0, nix::unistd::AccessFlags::W_OK).map_err(|error| failed()(error.into()))
            }
            Err(error) => Err(failed()(error)),
        }
    }

    /// Notes the reflog's hash, in the file that is there, so that this keeps its owner and mode.
    pub(super) fn write_checksum(&self, hash: &ContentHash) -> Result<(), Error> {
        if self.checksum().as_ref() == Some(hash) {
            return Ok(());
        }
        let path = self.checksum_file();
        let write = |path: &Path| {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(false).mode(0o644).open(path)?;
            let text = hash.to_string();
            // Not cut first: after a kill in between it would be empty.
            file.write_all(text.as_bytes())?;
            file.set_len(text.len() as u64)?;
            file.sync_all()
        };
        let new = !path.exists();
        write(&path).map_err(Error::io(format!("write {}", path.display())))?;
        if new { Owner::of(&self.0)?.give(&path) } else { Ok(()) }
    }
}
