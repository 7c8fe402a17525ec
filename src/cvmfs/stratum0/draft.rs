//! A revision in the making: private copies of the catalogs that are edited in place, and staged objects.

use std::io::Read;

use super::super::Error;
use super::super::catalog::Compression;
use super::super::edit::{NewKind, NextTree, TreeEditor};
use super::super::hash::{ContentHash, ObjectKind};
use super::super::history::{History, Tag};
use super::super::ingest::{Progress, StageError, Ticket};
use super::super::manifest::Manifest;
use super::super::object::ObjectReader;
use super::super::reader::Reader;
use super::super::settings::Settings;
use super::change::{Change, Next};
use super::{RepositoryLock, Stratum0, tags};

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
    tree: TreeEditor,
    change: Change,
}

impl Draft {
    pub(super) fn begin(stratum0: &Stratum0, lock: RepositoryLock, now: i64) -> Result<Self, Error> {
        let change = Change::begin(stratum0, lock, now)?;
        let directory = change.staging.directory().to_owned();
        let tree = TreeEditor::open(&change.reader, directory, change.settings.auto_catalogs)?;
        Ok(Self { tree, change })
    }

    /// The repository at the revision that this one is made on top of.
    pub fn base(&self) -> &Reader {
        &self.change.reader
    }

    /// How the repository is published.
    pub fn settings(&self) -> &Settings {
        &self.change.settings
    }

    /// The tree as it is now, to look at it and to change it.
    pub fn tree(&mut self) -> &mut TreeEditor {
        &mut self.tree
    }

    /// Stores a file's content; gives what an entry needs of it.
    pub fn store(&mut self, content: &mut dyn Read) -> Result<NewKind, StageError> {
        self.change.store(content)
    }

    /// Hands a file's content to the worker threads: [`Draft::next_stored`] gives what became of it. Waits only while too
    /// much is on its way.
    pub fn send(&mut self, content: &mut dyn Read) -> Result<Ticket, StageError> {
        self.change.staging.add_file(content)
    }

    /// What an entry needs of the file that was sent first and not taken yet; `None` if there is none, or if it is not ready
    /// and the caller does not want to wait.
    pub fn next_stored(&mut self, wait: bool) -> Result<Option<(Ticket, NewKind)>, Error> {
        let done = self.change.staging.next_done(wait)?;
        Ok(done.map(|(ticket, stored)| (ticket, self.change.file(stored))))
    }

    /// How much was stored so far.
    pub fn progress(&self) -> Progress {
        self.change.staging.progress()
    }

    /// The content of an object, of this revision or of those before.
    pub fn object(
        &self,
        hash: &ContentHash,
        kind: ObjectKind,
        compression: Compression,
    ) -> Result<ObjectReader, Error> {
        self.change.object(hash, kind, compression)
    }

    /// Publishes the revision: the manifest that is there when this returns is the new one, and durable.
    ///
    /// `passing` hears the name of each step as it is passed; it is for tests that kill the process there.
    pub fn commit(self, tag: Option<NewTag<'_>>, now: i64, passing: &dyn Fn(&str)) -> Result<Manifest, Error> {
        let Self { tree, mut change } = self;
        let (now, base) = (change.time(now), change.reader.manifest());
        let settings = change.settings.clone();
        let next = NextTree {
            revision: base.revision + 1,
            previous: base.root_hash,
            now,
            ttl: settings.ttl,
            limits: settings.limits,
        };
        let root = Some(tree.finish(&next, &mut change)?);
        let mut edit = |manifest: &mut Manifest| manifest.ttl = settings.ttl.unwrap_or(manifest.ttl);
        let mut set_tags = |history: &History, manifest: &Manifest| set_tags(history, manifest, tag, &settings);
        let next = Next { root, tags: Some(&mut set_tags), manifest: Some(&mut edit), ..Next::default() };
        change.commit(next, now, passing)
    }
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
