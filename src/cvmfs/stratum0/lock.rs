//! The lock of a repository, which is also the fence: while it is held nobody publishes, and when a process dies the
//! system releases it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::super::Error;

/// The lock, held until it is dropped. Names of repositories begin with no dot, so its file `.NAME.lock` beside the
/// repository's directory is in nobody's way.
#[derive(Debug)]
pub struct RepositoryLock {
    _file: Flock<File>,
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
        let source = std::io::Error::new(std::io::ErrorKind::WouldBlock, self.holder);
        Error::Io { what: format!("lock {}", self.path.display()), source }
    }
}

impl RepositoryLock {
    pub(super) fn acquire(directory: &Path, name: &str) -> Result<Result<Self, Held>, Error> {
        let path = directory.with_file_name(format!(".{name}.lock"));
        let failed = || Error::io(format!("lock {}", path.display()));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        match Flock::lock(file.map_err(failed())?, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                // For people and messages only; the lock is the kernel's.
                let note = format!("process {}\n", std::process::id());
                let noted = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(note.as_bytes()));
                noted.map_err(failed())?;
                Ok(Ok(Self { _file: file }))
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                let _ = (&mut file).take(100).read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "another process".into() } else { holder.trim().to_owned() };
                Ok(Err(Held { path, holder }))
            }
            Err((_, error)) => Err(failed()(error.into())),
        }
    }
}
