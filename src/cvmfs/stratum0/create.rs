//! Making a repository (`cvmfs_server mkfs`).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::database::Database;
use super::super::hash::{Algorithm, ObjectKind};
use super::super::history::{History, TRUNK, Tag};
use super::super::ingest::{Ingest, IngestSettings};
use super::super::keys::{self, NewKeys, SigningKeys};
use super::super::manifest::{self, Manifest};
use super::super::reflog::{self, Reflog};
use super::super::settings::{self, Settings};
use super::super::whitelist::{self, Whitelist};
use super::super::{Error, catalog, durable, metainfo};
use super::{Held, Stratum0, add_file, make_public, replace};

/// How a new repository is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateOptions {
    /// Owner of the root directory.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Seconds for which clients believe a manifest.
    pub ttl: u64,
    /// Days that the whitelist is valid for.
    pub whitelist_days: u32,
    /// Clients put its files out of their caches first.
    pub volatile: bool,
    /// How it is to be published. Without an algorithm it is SHA-1.
    pub settings: Settings,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self { uid: 0, gid: 0, ttl: 240, whitelist_days: 30, volatile: false, settings: Settings::default() }
    }
}

impl CreateOptions {
    fn algorithm(&self) -> Algorithm {
        self.settings.algorithm.unwrap_or(Algorithm::Sha1)
    }
}

impl Stratum0 {
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
        let fingerprint = signing.certificate.fingerprint(options.algorithm());
        let whitelist = Whitelist::seal(&stratum0.name, &[fingerprint], now, options.whitelist_days, &master)?;
        replace(&stratum0.directory.join(whitelist::FILE), &whitelist)?;
        let settings = settings::file(&stratum0.directory, &stratum0.name);
        replace(&settings, options.settings.to_text().as_bytes())?;
        stratum0.write_first_revision(&signing, options, now)?;
        Ok(stratum0)
    }

    fn make_directories(&self) -> Result<(), Error> {
        let make = |path: &Path| fs::create_dir_all(path).map_err(Error::io(format!("create {}", path.display())));
        let data = self.directory.join("data");
        durable::create_directories(&data.join("txn"))?;
        (0..=255).try_for_each(|byte| make(&data.join(format!("{byte:02x}"))))?;
        // What a killed attempt made is there and may not be durable.
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
        let ingest = IngestSettings { algorithm: options.algorithm(), threads: 1, ..IngestSettings::default() };
        let mut staging = Ingest::begin(&self.directory, ingest)?;
        let path = staging.directory().join("catalog");
        catalog::create_root(&path, options.uid, options.gid, options.ttl, now)?;
        if options.volatile {
            let database = Database::open_for_editing(&path, "the new root catalog")?;
            database.set_property("volatile", "1")?;
            database.close()?;
        }
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
        let certificate = staging.add_small(ObjectKind::Certificate, signing.certificate.pem().as_bytes())?;
        let metainfo = staging.add_small(ObjectKind::Metainfo, metainfo::initial(&self.name).as_bytes())?;

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
        replace(&self.directory.join(".cvmfs_master_replica"), text)?;
        staging.publish(&[&path])?;
        let manifest = Manifest {
            root_hash: root.hash,
            root_size: root.size,
            ttl: options.ttl,
            revision: 1,
            garbage_collectable: options.settings.garbage_collection == Some(true),
            alternative_paths: false,
            repository: self.name.clone(),
            certificate: certificate.hash,
            history: Some(history.hash),
            published_at: now,
            metainfo: Some(metainfo.hash),
            reflog: reflog::hash_file(&path, options.algorithm())?,
            unknown: Vec::new(),
        };
        replace(&self.directory.join(manifest::FILE), &manifest.seal(options.algorithm(), &signing.key)?)
    }
}
