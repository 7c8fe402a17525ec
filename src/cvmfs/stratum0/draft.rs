//! A revision in the making: a private copy of the root catalog that is edited in place, and staged objects.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::super::Error;
use super::super::catalog::{CatalogEditor, Compression};
use super::super::database::Database;
use super::super::hash::{ContentHash, ObjectKind};
use super::super::history::{History, Tag};
use super::super::manifest::Manifest;
use super::super::object::{self, ObjectReader};
use super::super::reader::Reader;
use super::super::settings::Settings;
use super::super::staging::{StageError, Staged};
use super::change::{Change, Next};
use super::{RepositoryLock, Stratum0, add_file, tags};

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
    // Dropped first: the lock, which is in `change`, goes last.
    catalog: CatalogEditor,
    catalog_file: PathBuf,
    change: Change,
}

impl Draft {
    pub(super) fn begin(stratum0: &Stratum0, lock: RepositoryLock, now: i64) -> Result<Self, Error> {
        let change = Change::begin(stratum0, lock, now)?;
        let catalog_file = change.staging.directory().join("catalog");
        let root_hash = change.reader.manifest().root_hash;
        object::unpack(change.reader.fetch(), &root_hash, ObjectKind::Catalog, &catalog_file)?;
        let catalog = CatalogEditor::open(&catalog_file, &root_hash)?;
        Ok(Self { catalog, catalog_file, change })
    }

    /// The repository at the revision that this one is made on top of.
    pub fn base(&self) -> &Reader {
        &self.change.reader
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
        self.change.staging.add(ObjectKind::File, content)
    }

    /// The content of an object, of this revision or of those before.
    pub fn object(
        &self,
        hash: &ContentHash,
        kind: ObjectKind,
        compression: Compression,
    ) -> Result<ObjectReader, Error> {
        match self.change.staging.staged(hash, kind) {
            Some(path) => {
                let file = File::open(path).map_err(Error::io(format!("read {}", path.display())))?;
                ObjectReader::new(Box::new(file), *hash, compression)
            }
            None => self.change.reader.object(hash, kind, compression),
        }
    }

    /// Publishes the revision: the manifest that is there when this returns is the new one, and durable.
    ///
    /// `passing` hears the name of each step as it is passed; it is for tests that kill the process there.
    pub fn commit(self, tag: Option<NewTag<'_>>, now: i64, passing: &dyn Fn(&str)) -> Result<Manifest, Error> {
        let Self { catalog, catalog_file, mut change } = self;
        let (now, base) = (change.time(now), change.reader.manifest());
        catalog.finish(base.revision + 1, &base.root_hash, now)?;
        let ttl = change.settings.ttl;
        if let Some(ttl) = ttl {
            set_ttl(&catalog_file, ttl)?;
        }
        let root = add_file(&mut change.staging, ObjectKind::Catalog, &catalog_file)?;
        let mut edit = |manifest: &mut Manifest| manifest.ttl = ttl.unwrap_or(manifest.ttl);
        let settings = change.settings.clone();
        let mut set_tags = |history: &History, manifest: &Manifest| set_tags(history, manifest, tag, &settings);
        change.commit(
            Next { root: Some(root), tags: Some(&mut set_tags), manifest: Some(&mut edit), ..Next::default() },
            now,
            passing,
        )
    }
}

/// Sets for how many seconds clients believe a manifest: they go by the root catalog.
fn set_ttl(catalog: &Path, seconds: u64) -> Result<(), Error> {
    let database = Database::open_for_editing(catalog, "the new root catalog")?;
    database.set_property("TTL", &seconds.to_string())?;
    database.close()
}

/// Tags the revision of a manifest, and moves `trunk` to it.
fn set_tags(history: &History, manifest: &Manifest, tag: Option<NewTag<'_>>, settings: &Settings) -> Result<(), Error> {
    tags::prune(history, settings, manifest.published_at)?;
    let mut head = Tag {
        name: String::new(),
        root_hash: manifest.root_hash,
        size: manifest.root_size,
        revision: manifest.revision,
        timestamp: manifest.published_at,
        description: String::new(),
    };
    if let Some(tag) = tag {
        head.name = tag.name.to_owned();
        head.description = tag.description.to_owned();
        history.insert(&head)?;
    } else if settings.auto_tag {
        head.name = tags::automatic_name(history, manifest.published_at)?;
        history.insert(&head)?;
    }
    history.advance_trunk(&head)
}
