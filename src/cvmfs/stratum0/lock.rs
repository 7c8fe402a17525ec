//! The lock of a repository, which is also the fence: while it is held nobody publishes, and when a process dies the
//! system releases it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::super::Error;
use super::spool::{Spool, SpoolLock, Transaction};

/// The lock, held until it is dropped. Names of repositories begin with no dot, so its file `.NAME.lock` beside the
/// repository's directory is in nobody's way. Where `cvmfs_server` knows the repository, its lock is held as well.
#[derive(Debug)]
pub struct RepositoryLock {
    // Dropped in this order.
    server: Option<ServerLock>,
    _file: Flock<File>,
}

#[derive(Debug)]
struct ServerLock {
    // Dropped in this order: the transaction ends while the lock still keeps others from it.
    transaction: Transaction,
    locks: Vec<SpoolLock>,
    spool: Spool,
}

/// Somebody else holds the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The lock's file.
    pub path: PathBuf,
    /// Who holds it, as far as is known.
    pub holder: String,
}

impl Held {
    /// As an error, for who cannot wait.
    pub fn into_error(self) -> Error {
        let source = std::io::Error::new(std::io::ErrorKind::WouldBlock, format!("held by {}", self.holder));
        Error::Io { what: format!("lock {}", self.path.display()), source }
    }
}

impl RepositoryLock {
    pub(super) fn acquire(directory: &Path, name: &str, spool: Option<Spool>) -> Result<Result<Self, Held>, Error> {
        let path = directory.with_file_name(format!(".{name}.lock"));
        let failed = || Error::io(format!("lock {}", path.display()));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = match Flock::lock(file.map_err(failed())?, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                // For people and messages only; the lock is the kernel's.
                let note = format!("process {}\n", std::process::id());
                let noted = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(note.as_bytes()));
                noted.map_err(failed())?;
                file
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                let _ = (&mut file).take(100).read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "another process".into() } else { holder.trim().to_owned() };
                return Ok(Err(Held { path, holder }));
            }
            Err((_, error)) => return Err(failed()(error.into())),
        };
        let mut lock = Self { server: None, _file: file };
        if let Some(spool) = spool {
            lock.server = match ServerLock::acquire(spool)? {
                Ok(server) => Some(server),
                Err(held) => return Ok(Err(held)),
            };
        }
        Ok(Ok(lock))
    }

    /// Where `cvmfs_server` keeps its own state of the repository.
    pub(super) fn spool(&self) -> Option<&Spool> {
        self.server.as_ref().map(|server| &server.spool)
    }

    /// Tells whether it still keeps `cvmfs_server` out.
    pub(super) fn check(&self) -> Result<(), Held> {
        self.server.as_ref().map_or(Ok(()), |server| server.transaction.check())
    }

    /// Takes the lock of garbage collections and checks as well.
    pub(super) fn extend_to_collecting(&mut self) -> Result<Result<(), Held>, Error> {
        let Some(server) = &mut self.server else { return Ok(Ok(())) };
        Ok(server.spool.lock("is_collecting")?.map(|lock| server.locks.push(lock)))
    }
}

impl ServerLock {
    fn acquire(spool: Spool) -> Result<Result<Self, Held>, Error> {
        let lock = match spool.lock("is_publishing")? {
            Ok(lock) => lock,
            Err(held) => return Ok(Err(held)),
        };
        // A collection looks for transactions first and holds this lock then: none may be between the two.
        let collecting = match spool.lock("is_collecting")? {
            Ok(lock) => lock,
            Err(held) => return Ok(Err(held)),
        };
        // A transaction of theirs was begun on the present revision and would be published over ours.
        let transaction = match spool.open_transaction()? {
            Ok(transaction) => transaction,
            Err(held) => return Ok(Err(held)),
        };
        drop(collecting);
        spool.check_writable()?;
        Ok(Ok(Self { transaction, locks: vec![lock], spool }))
    }
}
