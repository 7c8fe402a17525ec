//! A stratum 0 on this machine: making it, signing its whitelist, publishing into it.
//!
//! Layout: `.cvmfspublished`, `.cvmfswhitelist`, `.cvmfsreflog`, `.cvmfs_master_replica`, `data/00` to `data/ff` and
//! `data/txn`. Beside the directory lies the lock file `.NAME.lock`, which every change takes exclusively.

mod change;
mod draft;
mod lock;
mod repair;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::fetch::LocalDir;
use super::hash::{Algorithm, ObjectKind};
use super::history::{History, TRUNK, Tag};
use super::ingest::{self, Ingest, IngestSettings, StageError, Staged};
use super::keys::{self, NewKeys, SigningKeys};
use super::manifest::{self, Manifest};
use super::reader::{Expiry, Reader};
use super::reflog::{self, Reflog};
use super::settings::Settings;
use super::whitelist::{self, Whitelist};
use super::{Error, catalog, durable, metainfo};

pub use draft::{Draft, NewTag};
pub use lock::{Held, RepositoryLock};

/// How a new repository is to be.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// Owner of the root directory.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Seconds for which clients believe a manifest.
    pub ttl: u64,
    /// Days that the whitelist is valid for.
    pub whitelist_days: u32,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self { uid: 0, gid: 0, ttl: 240, whitelist_days: 30 }
    }
}

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

    /// Makes a repository with one empty directory, as revision 1. Keys of that name which exist already are used.
    pub fn create(
        directory: impl Into<PathBuf>,
        name: impl Into<String>,
        keys: impl Into<PathBuf>,
        options: &CreateOptions,
        now: i64,
    ) -> Result<Self, Error> {
        let stratum0 = Self::at(directory, name, keys);
        stratum0.make_directories()?;
        let _lock = stratum0.lock()?.map_err(Held::into_error)?;
        if stratum0.exists() {
            return Err(Error::Exists(format!("repository {}", stratum0.directory.display())));
        }
        let (master, signing) = stratum0.keys_for_create(now)?;
        let fingerprint = signing.certificate.fingerprint(Algorithm::Sha1);
        let whitelist = Whitelist::seal(&stratum0.name, fingerprint, now, options.whitelist_days, &master)?;
        stratum0.replace(whitelist::FILE, &whitelist)?;
        stratum0.write_first_revision(&signing, options, now)?;
        Ok(stratum0)
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

    /// How it is published.
    pub fn settings(&self) -> Result<Settings, Error> {
        Ok(Settings::default())
    }

    /// Takes the lock, without waiting.
    pub fn lock(&self) -> Result<Result<RepositoryLock, Held>, Error> {
        RepositoryLock::acquire(&self.directory, &self.name)
    }

    /// Signs the whitelist anew with the master key, for so many days from now; gives the new one.
    pub fn resign(&self, valid_days: u32, now: i64) -> Result<Whitelist, Error> {
        let _lock = self.lock()?.map_err(Held::into_error)?;
        let master = keys::load_master(&self.keys, &self.name)?;
        let certificate = SigningKeys::load(&self.keys, &self.name)?.certificate;
        let bytes = Whitelist::seal(&self.name, certificate.fingerprint(Algorithm::Sha1), now, valid_days, &master)?;
        let whitelist = Whitelist::parse(&super::signature::Letter::parse(&bytes, "whitelist")?)?;
        self.replace(whitelist::FILE, &bytes)?;
        Ok(whitelist)
    }

    /// Starts a revision on top of the present one. Repairs first what an interrupted publish left.
    pub fn begin(&self, lock: RepositoryLock, now: i64) -> Result<Draft, Error> {
        Draft::begin(self, lock, now)
    }

    /// Brings the storage in order after a publish that was killed: the manifest decides. For who only wants to look
    /// (`begin` does it by itself).
    pub fn repair(&self, _lock: &RepositoryLock, reader: &Reader) -> Result<(), Error> {
        repair::settle(&self.directory, reader.manifest())?;
        ingest::remove_leftovers(&self.directory.join("data/txn"))
    }

    fn make_directories(&self) -> Result<(), Error> {
        let make = |path: &Path| fs::create_dir_all(path).map_err(Error::io(format!("create {}", path.display())));
        let data = self.directory.join("data");
        make(&data.join("txn"))?;
        (0..=255).try_for_each(|byte| make(&data.join(format!("{byte:02x}"))))?;
        let mut made = BTreeSet::from([self.directory.clone(), data.clone()]);
        made.extend(self.directory.parent().map(Path::to_owned));
        durable::sync_all(&made, &[&self.directory])
    }

    fn keys_for_create(&self, now: i64) -> Result<(rsa::RsaPrivateKey, SigningKeys), Error> {
        if keys::any_exists(&self.keys, &self.name) {
            return Ok((keys::load_master(&self.keys, &self.name)?, SigningKeys::load(&self.keys, &self.name)?));
        }
        let new = NewKeys::generate(&self.name, now)?;
        new.store(&self.keys, &self.name)?;
        Ok((new.master, new.signing))
    }

    fn write_first_revision(&self, signing: &SigningKeys, options: &CreateOptions, now: i64) -> Result<(), Error> {
        let mut staging = Ingest::begin(&self.directory, IngestSettings { threads: 1, ..IngestSettings::default() })?;
        let path = staging.directory().join("catalog");
        catalog::create_root(&path, options.uid, options.gid, options.ttl, now)?;
        let root = add_file(&mut staging, ObjectKind::Catalog, &path)?;
        let path = staging.directory().join("history");
        let history = History::create(&path, &self.name)?;
        history.insert(&Tag {
            name: TRUNK.into(),
            root_hash: root.hash,
            size: root.size,
            revision: 1,
            timestamp: now,
            description: "current HEAD".into(),
        })?;
        history.close()?;
        let history = add_file(&mut staging, ObjectKind::History, &path)?;
        let certificate = add_bytes(&mut staging, ObjectKind::Certificate, signing.certificate.pem().as_bytes())?;
        let metainfo = add_bytes(&mut staging, ObjectKind::Metainfo, metainfo::initial(&self.name).as_bytes())?;

        let path = self.directory.join(reflog::FILE);
        durable::remove_if_there(&path)?;
        let reflog = Reflog::create(&path, &self.name)?;
        let objects = [
            (ObjectKind::Catalog, root.hash),
            (ObjectKind::Certificate, certificate.hash),
            (ObjectKind::History, history.hash),
            (ObjectKind::Metainfo, metainfo.hash),
        ];
        reflog.add(&objects, now)?;
        reflog.close()?;
        make_public(&path)?;

        let text = b"Stratum 1 servers may replicate this repository.\n";
        self.replace(".cvmfs_master_replica", text)?;
        staging.publish(&[&path])?;
        let manifest = Manifest {
            root_hash: root.hash,
            root_size: root.size,
            ttl: options.ttl,
            revision: 1,
            garbage_collectable: false,
            alternative_paths: false,
            repository: self.name.clone(),
            certificate: certificate.hash,
            history: Some(history.hash),
            published_at: now,
            metainfo: Some(metainfo.hash),
            reflog: reflog::hash_file(&path, Algorithm::Sha1)?,
            unknown: Vec::new(),
        };
        self.replace(manifest::FILE, &manifest.seal(Algorithm::Sha1, &signing.key)?)
    }

    /// Replaces one of the files at the base, at once and durably.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let next = self.directory.join(format!("{name}.next"));
        write_public(&next, bytes)?;
        File::open(&next).and_then(|file| file.sync_all()).map_err(Error::io(format!("sync {}", next.display())))?;
        let target = self.directory.join(name);
        fs::rename(&next, &target).map_err(Error::io(format!("replace {}", target.display())))?;
        durable::sync_directory(&self.directory)
    }
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

fn add_bytes(staging: &mut Ingest, kind: ObjectKind, mut bytes: &[u8]) -> Result<Staged, Error> {
    staging.add(kind, &mut bytes).map_err(|error| match error {
        StageError::Content(source) => Error::Io { what: "read from memory".into(), source },
        StageError::Store(error) => error,
    })
}
