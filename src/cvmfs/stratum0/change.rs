//! Changing a stratum 0: what every change has in common, from the lock to the manifest that makes it true.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::super::catalog::{Chunk, Compression, Entry};
use super::super::edit::{NewKind, Objects};
use super::super::fetch::fetch_small;
use super::super::hash::{ContentHash, ObjectKind};
use super::super::history::History;
use super::super::ingest::{Ingest, IngestSettings, StageError, Staged, StoredFile};
use super::super::keys::SigningKeys;
use super::super::manifest::{self, Manifest};
use super::super::object::{self, ObjectReader};
use super::super::owner::Owner;
use super::super::reader::{Expiry, Reader, check_listed};
use super::super::reflog::{self, Reflog};
use super::super::settings::Settings;
use super::super::signature::Letter;
use super::super::{Error, durable};
use super::repair::{self, NEXT};
use super::{Held, RepositoryLock, Stratum0, add_file, make_public, write_public};

/// Bytes of an object that are read of files which CernVM-FS itself looks at.
const SMALL_FILE: u64 = 16 << 20;

/// A stratum 0 that is being changed: locked, verified, and in order. Dropping it leaves the repository as it was.
pub(super) struct Change {
    // Fields are dropped in this order: the lock goes last.
    pub(super) staging: Ingest,
    pub(super) reader: Reader,
    pub(super) settings: Settings,
    keys: SigningKeys,
    directory: PathBuf,
    pub(super) reflog_is_current: bool,
    lock: RepositoryLock,
}

/// What a change does to the files that every revision has.
#[derive(Default)]
pub(super) struct Next<'a> {
    /// The new root catalog; `None` for a change that makes no revision.
    pub root: Option<Staged>,
    /// Changes the tags; `None` leaves the history as it is.
    pub tags: Option<EditTags<'a>>,
    /// Changes the reflog beyond adding what is new.
    pub reflog: Option<EditReflog<'a>>,
    /// Changes further fields of the manifest.
    pub manifest: Option<EditManifest<'a>>,
}

type EditTags<'a> = &'a mut dyn FnMut(&History, &Manifest) -> Result<(), Error>;
type EditReflog<'a> = &'a mut dyn FnMut(&Reflog) -> Result<(), Error>;
type EditManifest<'a> = &'a mut dyn FnMut(&mut Manifest);

impl Change {
    /// Verifies the repository as its clients do, and finishes or undoes what a killed change left.
    pub(super) fn begin(stratum0: &Stratum0, lock: RepositoryLock, now: i64) -> Result<Self, Error> {
        let directory = stratum0.directory.clone();
        let settings = stratum0.settings()?;
        let reader = stratum0.reader(Expiry::Refuse { now })?;
        let keys = SigningKeys::load(&stratum0.keys, &stratum0.name)?;
        check_listed(&keys.certificate, reader.whitelist())?;
        check_publishable(reader.manifest())?;
        let reflog_is_current = repair::settle(&directory, reader.manifest(), lock.spool())?;
        let algorithm = settings.algorithm.unwrap_or(reader.manifest().root_hash.algorithm());
        let (compression, chunking) = (settings.compression, settings.chunking);
        let ingest =
            IngestSettings { algorithm, compression, chunking, threads: 0, verify_known: settings.server.is_some() };
        let staging = Ingest::begin(&directory, ingest)?;
        let reader = reader.with_temporary(staging.directory().to_owned());
        Ok(Self { staging, reader, settings, keys, directory, reflog_is_current, lock })
    }

    /// The time of a change: clients keep what they have when a manifest is older, so time never goes back here even if
    /// the clock did.
    pub(super) fn time(&self, now: i64) -> i64 {
        now.max(self.reader.manifest().published_at)
    }

    /// Makes the change true: the manifest that is there when this returns is the new one, and durable.
    ///
    /// `passing` hears the name of each step as it is passed; it is for tests that kill the process there.
    pub(super) fn commit(self, next: Next<'_>, now: i64, passing: &dyn Fn(&str)) -> Result<Manifest, Error> {
        self.commit_and_hold(next, now, passing).map(|(manifest, _)| manifest)
    }

    /// The same for who is not done then: gives the lock back.
    pub(super) fn commit_and_hold(
        mut self,
        next: Next<'_>,
        now: i64,
        passing: &dyn Fn(&str),
    ) -> Result<(Manifest, RepositoryLock), Error> {
        let now = self.time(now);
        let mut manifest = self.reader.manifest().clone();
        manifest.published_at = now;
        // As `sign_manifest` does: what the settings say now counts.
        manifest.garbage_collectable = self.settings.garbage_collection.unwrap_or(manifest.garbage_collectable);
        let mut objects = Vec::new();
        if let Some(root) = next.root {
            (manifest.root_hash, manifest.root_size) = (root.hash, root.size);
            manifest.revision += 1;
            objects.push((ObjectKind::Catalog, root.hash));
        }
        // The object that is there stays: packed anew the same text may get another name, and replicas pack it themselves.
        if self.keys.certificate.pem() != self.reader.certificate().pem() {
            let pem = self.keys.certificate.pem().as_bytes();
            manifest.certificate = self.staging.add_small(ObjectKind::Certificate, pem)?.hash;
        }
        objects.push((ObjectKind::Certificate, manifest.certificate));
        if let Some(edit) = next.tags {
            let history = self.write_history(&manifest, edit)?;
            objects.push((ObjectKind::History, history.hash));
            manifest.history = Some(history.hash);
        }
        objects.extend(manifest.metainfo.map(|hash| (ObjectKind::Metainfo, hash)));
        if let Some(edit) = next.manifest {
            edit(&mut manifest);
        }

        let reflog = self.directory.join(reflog::FILE);
        let next_reflog = self.directory.join(format!("{}{NEXT}", reflog::FILE));
        let target = self.directory.join(manifest::FILE);
        let next_manifest = self.directory.join(format!("{}{NEXT}", manifest::FILE));
        let mut waiting = Waiting(vec![next_reflog.clone(), next_manifest.clone()]);
        self.write_reflog(&next_reflog, &objects, next.reflog, now)?;
        passing("reflog-written");

        let algorithm = manifest.root_hash.algorithm();
        manifest.reflog = reflog::hash_file(&next_reflog, algorithm)?;
        write_public(&next_manifest, &manifest.seal(algorithm, &self.keys.key)?)?;

        let owner = Owner::of(&self.directory)?;
        owner.give_contents(self.staging.directory())?;
        owner.give(&next_reflog)?;
        owner.give(&next_manifest)?;
        passing("before-objects-sync");
        self.staging.publish(&[&next_reflog, &next_manifest])?;
        owner.give_folders(&self.directory.join("data"))?;
        passing("objects-synced");
        self.check_not_overtaken()?;
        passing("before-flip");
        fs::rename(&next_manifest, &target).map_err(Error::io(format!("replace {}", target.display())))?;
        waiting.0.clear();
        passing("flipped");
        durable::sync(&self.directory)?;
        passing("flip-synced");
        // The change is made whatever comes of this: `repair::settle` makes up for it.
        let renamed = fs::rename(&next_reflog, &reflog).is_ok();
        if let (true, Some(spool), Some(hash)) = (renamed, self.lock.spool(), &manifest.reflog) {
            let _ = spool.write_checksum(hash);
        }
        Ok((manifest, self.lock))
    }

    /// Changes nothing, and gives the lock back.
    pub(super) fn release(self) -> RepositoryLock {
        self.lock
    }

    /// Stores a file's content; gives what an entry needs of it.
    pub(super) fn store(&mut self, content: &mut dyn Read) -> Result<NewKind, StageError> {
        let stored = self.staging.store(content)?;
        Ok(self.file(stored))
    }

    /// What an entry needs of a stored file.
    pub(super) fn file(&self, stored: StoredFile) -> NewKind {
        NewKind::File { content: stored.content, size: stored.size, compression: self.settings.compression }
    }

    /// The content of an object, of this revision or of those before.
    pub(super) fn object(
        &self,
        hash: &ContentHash,
        kind: ObjectKind,
        compression: Compression,
    ) -> Result<ObjectReader, Error> {
        match self.staging.staged(hash, kind) {
            Some(path) => {
                let file = File::open(&path).map_err(Error::io(format!("read {}", path.display())))?;
                Ok(ObjectReader::new(Box::new(file), *hash, compression))
            }
            None => self.reader.object(hash, kind, compression),
        }
    }

    fn write_history(&mut self, manifest: &Manifest, edit: EditTags<'_>) -> Result<Staged, Error> {
        let path = self.staging.directory().join("history");
        let history = match &self.reader.manifest().history {
            Some(hash) => {
                object::unpack(self.reader.fetch(), hash, ObjectKind::History, &path)?;
                let history = History::open_for_editing(&path, hash)?;
                history.set_previous(hash)?;
                history
            }
            None => History::create(&path, &manifest.repository)?,
        };
        edit(&history, manifest)?;
        history.close()?;
        add_file(&mut self.staging, ObjectKind::History, &path)
    }

    fn write_reflog(
        &self,
        path: &Path,
        objects: &[(ObjectKind, ContentHash)],
        edit: Option<EditReflog<'_>>,
        now: i64,
    ) -> Result<(), Error> {
        if self.reflog_is_current {
            let reflog = self.directory.join(reflog::FILE);
            fs::copy(&reflog, path).map_err(Error::io(format!("copy {}", reflog.display())))?;
        } else {
            durable::remove_if_there(path)?;
            repair::rebuild(path, &self.reader)?;
        }
        let reflog = Reflog::open_for_editing(path)?;
        reflog.add(objects, now)?;
        edit.map_or(Ok(()), |edit| edit(&reflog))?;
        reflog.close()?;
        make_public(path)
    }

    /// Our lock does not bind all other tools: see that none of them published meanwhile, or is about to.
    fn check_not_overtaken(&self) -> Result<(), Error> {
        self.lock.check().map_err(Held::into_error)?;
        let bytes = fetch_small(self.reader.fetch(), manifest::FILE, 1 << 20)?;
        if bytes == self.reader.manifest_bytes() {
            return Ok(());
        }
        let found = Manifest::parse(&Letter::parse(&bytes, "manifest")?)?;
        Err(Error::Overtaken { base: self.reader.manifest().revision, found: found.revision })
    }
}

impl Objects for Change {
    fn store_catalog(&mut self, file: &Path) -> Result<Staged, Error> {
        add_file(&mut self.staging, ObjectKind::Catalog, file)
    }

    fn empty_file(&mut self) -> Result<NewKind, Error> {
        self.store(&mut io::empty()).map_err(|error| match error {
            StageError::Content(source) => Error::Io { what: "read from memory".into(), source },
            StageError::Store(error) => error,
        })
    }

    fn read_small(&mut self, entry: &Entry, chunks: &[Chunk]) -> Result<Vec<u8>, Error> {
        let whole = entry.hash.map(|hash| (hash, ObjectKind::File));
        let pieces = whole.into_iter().chain(chunks.iter().map(|chunk| (chunk.hash, ObjectKind::Chunk)));
        let compression = entry.compression().ok_or_else(|| Error::Unsupported("the compression of a file".into()))?;
        let mut bytes = Vec::new();
        for (hash, kind) in pieces {
            let mut reader = self.object(&hash, kind, compression)?.take(SMALL_FILE);
            reader.read_to_end(&mut bytes).map_err(Error::io(format!("read object {hash}")))?;
        }
        Ok(bytes)
    }
}

/// Files that wait for their rename; removed when it does not come to that, so that a full disk gets its space back.
struct Waiting(Vec<PathBuf>);

impl Drop for Waiting {
    fn drop(&mut self) {
        for path in &self.0 {
            // Whoever begins the next change removes what stays.
            let _ = durable::remove_if_there(path);
        }
    }
}

/// Refuses what the manifest promises and this code would not keep.
pub(super) fn check_publishable(manifest: &Manifest) -> Result<(), Error> {
    if manifest.alternative_paths {
        return Err(Error::Unsupported("publishing with alternative paths (`A` in the manifest)".into()));
    }
    if let Some(line) = manifest.unknown.first() {
        return Err(Error::Unsupported(format!("publishing on a manifest with the line {line:?}")));
    }
    Ok(())
}
