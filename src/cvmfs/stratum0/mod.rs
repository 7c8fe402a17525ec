//! A stratum 0 on this machine: making it, signing its whitelist, publishing into it.
//!
//! Layout: `.cvmfspublished`, `.cvmfswhitelist`, `.cvmfsreflog`, `.cvmfs_master_replica`, `data/00` to `data/ff` and
//! `data/txn`. Beside the directory lies the lock file `.NAME.lock`, which every change takes exclusively.

mod adopt;
mod change;
mod create;
mod draft;
mod gc;
mod lock;
mod repair;
mod resign;
mod rollback;
mod spool;
mod tags;
mod target;

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::fetch::LocalDir;
use super::hash::{ContentHash, ObjectKind};
use super::ingest::{self, Ingest, StageError, Staged};
use super::keys;
use super::manifest;
use super::owner::Owner;
use super::reader::{Expiry, Reader};
use super::settings::{self, Settings};
use super::{Error, durable};

use spool::Spool;

pub use adopt::Adopted;
pub use create::CreateOptions;
pub use draft::{Draft, NewTag};
pub use gc::{GcOptions, GcReport, Keep};
pub use lock::{Held, RepositoryLock};
pub use rollback::{RollbackOptions, RolledBack};

/// A stratum 0: its directory, its name, and the directory of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stratum0 {
    directory: PathBuf,
    name: String,
    keys: PathBuf,
}

impl Stratum0 {
    /// The repository `name` in `directory` (which holds `.cvmfspublished`). Nothing is read yet.
    pub fn at(directory: impl Into<PathBuf>, name: impl Into<String>, keys: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), name: name.into(), keys: keys.into() }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The fully qualified name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells whether there is a repository.
    pub fn exists(&self) -> bool {
        self.directory.join(manifest::FILE).exists()
    }

    /// Opens it for reading, verified with its own public key.
    pub fn reader(&self, expiry: Expiry) -> Result<Reader, Error> {
        let key = keys::load_public(&self.keys, &self.name)?;
        Reader::open(Box::new(LocalDir::new(&self.directory)), &self.name, &[key], expiry)
    }

    /// The reflog's hash as `cvmfs_server` noted it in `reflog.chksum`; `None` in a repository that it does not know, or
    /// where no note is that makes sense. This, not the manifest's `Y`, is what its tools compare the reflog with.
    pub fn noted_reflog(&self) -> Result<Option<ContentHash>, Error> {
        Ok(self.settings()?.server.and_then(|server| Spool(server.spool).checksum()))
    }

    /// How it is published.
    pub fn settings(&self) -> Result<Settings, Error> {
        let path = settings::file(&self.directory, &self.name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // A link to a `server.conf` that is gone is no leave to publish by other rules.
            Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(&path).is_err() => {
                return Ok(Settings::default());
            }
            Err(error) => return Err(Error::io(format!("read {}", path.display()))(error)),
        };
        let settings = Settings::parse(&path.display().to_string(), &text, &self.name)?;
        if let Some(server) = &settings.server
            && self.directory.exists()
            && !same_directory(&server.storage, &self.directory)
        {
            let why = format!("it names the storage {}", server.storage.display());
            return Err(Error::malformed(format!("{} of {}", path.display(), self.directory.display()), why));
        }
        Ok(settings)
    }

    /// Takes the lock, without waiting.
    pub fn lock(&self) -> Result<Result<RepositoryLock, Held>, Error> {
        let spool = self.settings()?.server.map(|server| Spool(server.spool));
        RepositoryLock::acquire(&self.directory, &self.name, spool)
    }

    /// Starts a revision on top of the present one. Repairs first what an interrupted publish left.
    pub fn begin(&self, lock: RepositoryLock, now: i64) -> Result<Draft, Error> {
        Draft::begin(self, lock, now)
    }

    /// Brings the storage in order after a publish that was killed: the manifest decides. For who only wants to look
    /// (`begin` does it by itself).
    pub fn repair(&self, lock: &RepositoryLock, reader: &Reader) -> Result<(), Error> {
        repair::settle(&self.directory, reader.manifest(), lock.spool())?;
        ingest::remove_leftovers(&self.directory.join("data/txn"))
    }
}

/// Replaces a file at once and durably.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut next = path.as_os_str().to_owned();
    next.push(repair::NEXT);
    let next = PathBuf::from(next);
    write_public(&next, bytes)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    Owner::of(folder)?.give(&next)?;
    durable::sync(&next)?;
    fs::rename(&next, path).map_err(Error::io(format!("replace {}", path.display())))?;
    durable::sync(folder)
}

fn same_directory(one: &Path, other: &Path) -> bool {
    matches!((fs::canonicalize(one), fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}

/// Writes a file that a web server can read.
fn write_public(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || {
        let mut file = File::create(path)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.write_all(bytes)
    };
    write().map_err(Error::io(format!("write {}", path.display())))
}

fn make_public(path: &Path) -> Result<(), Error> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(Error::io(format!("chmod {}", path.display())))
}

fn add_file(staging: &mut Ingest, kind: ObjectKind, path: &Path) -> Result<Staged, Error> {
    let mut file = File::open(path).map_err(Error::io(format!("read {}", path.display())))?;
    staging.add(kind, &mut file).map_err(|error| match error {
        StageError::Content(source) => Error::Io { what: format!("read {}", path.display()), source },
        StageError::Store(error) => error,
    })
}
