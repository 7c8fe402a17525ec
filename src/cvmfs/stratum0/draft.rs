//! A revision in the making: a private copy of the root catalog that is edited in place, and staged objects.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use super::super::catalog::{CatalogEditor, Compression};
use super::super::fetch::fetch_small;
use super::super::hash::{Algorithm, ContentHash, ObjectKind};
use super::super::history::{History, Tag};
use super::super::keys::SigningKeys;
use super::super::manifest::{self, Manifest};
use super::super::object::{self, ObjectReader};
use super::super::reader::{Expiry, Reader, check_listed};
use super::super::reflog::{self, Reflog};
use super::super::signature::Letter;
use super::super::staging::{StageError, Staged, Staging};
use super::super::{Error, durable};
use super::repair::{self, NEXT};
use super::{RepositoryLock, Stratum0, add_bytes, add_file, make_public, write_public};

/// A tag to be set on the new revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewTag<'a> {
    /// Its name, which must not be in use.
    pub name: &'a str,
    /// Free text.
    pub description: &'a str,
}

/// A revision in the making. It holds the repository's lock; dropping it leaves the repository as it was.
pub struct Draft {
    // Fields are dropped in this order: the lock goes last.
    catalog: CatalogEditor,
    catalog_file: PathBuf,
    staging: Staging,
    reader: Reader,
    keys: SigningKeys,
    directory: PathBuf,
    reflog_is_current: bool,
    _lock: RepositoryLock,
}

impl Draft {
    pub(super) fn begin(stratum0: &Stratum0, lock: RepositoryLock, now: i64) -> Result<Self, Error> {
        let directory = stratum0.directory.clone();
        let reader = stratum0.reader(Expiry::Refuse { now })?;
        let keys = SigningKeys::load(&stratum0.keys, &stratum0.name)?;
        check_listed(&keys.certificate, reader.whitelist())?;
        check_publishable(reader.manifest())?;
        let reflog_is_current = repair::settle(&directory, reader.manifest())?;
        let staging = Staging::begin(&directory)?;
        let reader = reader.with_temporary(staging.directory().to_owned());
        let catalog_file = staging.directory().join("catalog");
        let root_hash = reader.manifest().root_hash;
        object::unpack(reader.fetch(), &root_hash, ObjectKind::Catalog, &catalog_file)?;
        let catalog = CatalogEditor::open(&catalog_file, &root_hash)?;
        Ok(Self { catalog, catalog_file, staging, reader, keys, directory, reflog_is_current, _lock: lock })
    }

    /// The repository at the revision that this one is made on top of.
    pub fn base(&self) -> &Reader {
        &self.reader
    }

    /// The catalog as it is now.
    pub fn catalog(&self) -> &CatalogEditor {
        &self.catalog
    }

    /// The catalog, to change it.
    pub fn catalog_mut(&mut self) -> &mut CatalogEditor {
        &mut self.catalog
    }

    /// Stores a file's content.
    pub fn store(&mut self, content: &mut dyn Read) -> Result<Staged, StageError> {
        self.staging.add(ObjectKind::File, content)
    }

    /// The content of an object, of this revision or of those before.
    pub fn object(
        &self,
        hash: &ContentHash,
        kind: ObjectKind,
        compression: Compression,
    ) -> Result<ObjectReader, Error> {
        match self.staging.staged(hash, kind) {
            Some(path) => {
                let file = File::open(path).map_err(Error::io(format!("read {}", path.display())))?;
                Ok(ObjectReader::new(Box::new(file), *hash, compression))
            }
            None => self.reader.object(hash, kind, compression),
        }
    }

    /// Publishes the revision: the manifest that is there when this returns is the new one, and durable.
    ///
    /// `passing` hears the name of each step as it is passed; it is for tests that kill the process there.
    pub fn commit(self, tag: Option<NewTag<'_>>, now: i64, passing: &dyn Fn(&str)) -> Result<Manifest, Error> {
        // Bindings are dropped from the last to the first: the lock goes when all else is cleaned up.
        let Self { _lock, keys, directory, reflog_is_current, mut staging, reader, catalog, catalog_file } = self;
        let base = reader.manifest();
        // Clients keep what they have when a manifest is older, so time never goes back here even if the clock did.
        let now = now.max(base.published_at);
        let revision = base.revision + 1;
        catalog.finish(revision, &base.root_hash, now)?;
        let root = add_file(&mut staging, ObjectKind::Catalog, &catalog_file)?;
        let certificate = add_bytes(&mut staging, ObjectKind::Certificate, keys.certificate.pem().as_bytes())?;
        let history = write_history(&mut staging, &reader, &root, revision, tag, now)?;
        let mut objects = vec![
            (ObjectKind::Catalog, root.hash),
            (ObjectKind::Certificate, certificate.hash),
            (ObjectKind::History, history.hash),
        ];
        objects.extend(base.metainfo.map(|hash| (ObjectKind::Metainfo, hash)));

        let reflog = directory.join(reflog::FILE);
        let next_reflog = directory.join(format!("{}{NEXT}", reflog::FILE));
        let target = directory.join(manifest::FILE);
        let next_manifest = directory.join(format!("{}{NEXT}", manifest::FILE));
        let mut waiting = Waiting(vec![next_reflog.clone(), next_manifest.clone()]);
        if reflog_is_current {
            fs::copy(&reflog, &next_reflog).map_err(Error::io(format!("copy {}", reflog.display())))?;
        } else {
            durable::remove_if_there(&next_reflog)?;
            repair::rebuild(&next_reflog, &reader)?;
        }
        add_to_reflog(&next_reflog, &objects, now)?;
        make_public(&next_reflog)?;
        passing("reflog-written");

        let manifest = Manifest {
            root_hash: root.hash,
            root_size: root.size,
            revision,
            certificate: certificate.hash,
            history: Some(history.hash),
            published_at: now,
            reflog: reflog::hash_file(&next_reflog, Algorithm::Sha1)?,
            ..base.clone()
        };
        write_public(&next_manifest, &manifest.seal(Algorithm::Sha1, &keys.key)?)?;

        passing("before-objects-sync");
        staging.publish(&[&next_reflog, &next_manifest])?;
        passing("objects-synced");
        check_not_overtaken(&reader)?;
        passing("before-flip");
        fs::rename(&next_manifest, &target).map_err(Error::io(format!("replace {}", target.display())))?;
        waiting.0.clear();
        passing("flipped");
        durable::sync_directory(&directory)?;
        passing("flip-synced");
        // The revision is published whatever comes of this: `repair::settle` makes up for it.
        let _ = fs::rename(&next_reflog, &reflog);
        Ok(manifest)
    }
}

/// Files that wait for their rename; removed when it does not come to that, so that a full disk gets its space back.
struct Waiting(Vec<PathBuf>);

impl Drop for Waiting {
    fn drop(&mut self) {
        for path in &self.0 {
            // Whoever begins the next revision removes what stays.
            let _ = durable::remove_if_there(path);
        }
    }
}

/// Refuses what the manifest promises and this code would not keep.
fn check_publishable(manifest: &Manifest) -> Result<(), Error> {
    if manifest.alternative_paths {
        return Err(Error::Unsupported("publishing with alternative paths (`A` in the manifest)".into()));
    }
    if let Some(line) = manifest.unknown.first() {
        return Err(Error::Unsupported(format!("publishing on a manifest with the line {line:?}")));
    }
    Ok(())
}

fn write_history(
    staging: &mut Staging,
    reader: &Reader,
    root: &Staged,
    revision: u64,
    tag: Option<NewTag<'_>>,
    now: i64,
) -> Result<Staged, Error> {
    let manifest = reader.manifest();
    let path = staging.directory().join("history");
    let history = match &manifest.history {
        Some(hash) => {
            object::unpack(reader.fetch(), hash, ObjectKind::History, &path)?;
            let history = History::open_for_editing(&path, hash)?;
            history.set_previous(hash)?;
            history
        }
        None => History::create(&path, &manifest.repository)?,
    };
    let mut head = Tag {
        name: String::new(),
        root_hash: root.hash,
        size: root.size,
        revision,
        timestamp: now,
        description: String::new(),
    };
    if let Some(tag) = tag {
        head.name = tag.name.to_owned();
        head.description = tag.description.to_owned();
        history.insert(&head)?;
    }
    history.advance_trunk(&head)?;
    history.close()?;
    add_file(staging, ObjectKind::History, &path)
}

fn add_to_reflog(path: &std::path::Path, objects: &[(ObjectKind, ContentHash)], now: i64) -> Result<(), Error> {
    let reflog = Reflog::open_for_editing(path)?;
    reflog.add(objects, now)?;
    reflog.close()
}

/// Our lock does not bind other tools: see that none of them published meanwhile.
fn check_not_overtaken(reader: &Reader) -> Result<(), Error> {
    let bytes = fetch_small(reader.fetch(), manifest::FILE, 1 << 20)?;
    if bytes == reader.manifest_bytes() {
        return Ok(());
    }
    let found = Manifest::parse(&Letter::parse(&bytes, "manifest")?)?;
    Err(Error::Overtaken { base: reader.manifest().revision, found: found.revision })
}
