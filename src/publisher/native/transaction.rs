//! One transaction: edits of the draft, within the lease path.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::libc;

use crate::crash;
use crate::cvmfs::catalog::{Content, Entry};
use crate::cvmfs::edit::{EditError, NewEntry, NewKind, Put};
use crate::cvmfs::stratum0::{Draft, NewTag};
use crate::cvmfs::xattr::Xattrs;
use crate::domain::names::{LeasePath, RepositoryName};
use crate::domain::progress::Counters;
use crate::domain::tree::{Attributes, ChangedPath, EntryKind, EntryMeta, EntryPath};
use crate::publisher::{Owner, Published, PublisherError, Revision, Transaction, Workspace};

use super::changes::Changes;
use super::checkout::Checkout;
use super::errors::{conflict, translate, translate_edit, translate_stage};
use super::queue::{Counted, Queue};
use super::{CheckoutLimits, NativePublisher};

/// Longest target of a symbolic link: `PATH_MAX` less its NUL.
const LONGEST_TARGET: usize = 4095;

/// An open transaction of the native publisher.
pub(super) struct NativeTransaction {
    pub(super) repository: RepositoryName,
    pub(super) lease: EntryPath,
    /// What the lease path may be narrowed down to lies in here.
    reserved: EntryPath,
    pub(super) draft: Draft,
    pub(super) owner: Owner,
    pub(super) limits: CheckoutLimits,
    /// What no script may reach.
    secret: Vec<PathBuf>,
    pub(super) scratch: PathBuf,
    pub(super) checkout: Option<Checkout>,
    key: String,
    base: Revision,
    now: i64,
    changes: Changes,
    pub(super) queue: Queue,
    /// A directory that was seen to be one.
    pub(super) checked_parent: Option<EntryPath>,
    /// A directory that is known to be there.
    made_parent: Option<EntryPath>,
    pub(super) progress: Arc<Counters>,
    /// Set when an edit failed half-way: the copy of the catalog is then worth nothing.
    pub(super) broken: bool,
}

impl NativeTransaction {
    pub(super) fn new(
        repository: &RepositoryName,
        lease_path: &LeasePath,
        key: &str,
        scratch: &Path,
        draft: Draft,
        publisher: &NativePublisher,
        now: i64,
    ) -> Result<Self, PublisherError> {
        let lease = EntryPath::new(lease_path.relative().as_bytes());
        let lease = lease.map_err(|error| conflict(&EntryPath::base(), error.to_string()))?;
        let manifest = draft.base().manifest();
        let base = Revision { number: manifest.revision, root_hash: manifest.root_hash.to_string() };
        let changes = Changes::open(scratch)?;
        let mut transaction = Self {
            repository: repository.clone(),
            reserved: lease.clone(),
            lease,
            draft,
            owner: publisher.owner,
            limits: publisher.limits,
            secret: vec![publisher.root.clone(), publisher.keys.clone()],
            scratch: scratch.to_owned(),
            checkout: None,
            key: key.to_owned(),
            base,
            now,
            changes,
            queue: Queue::default(),
            checked_parent: None,
            made_parent: None,
            progress: Arc::default(),
            broken: false,
        };
        transaction.check_lease()?;
        Ok(transaction)
    }

    /// Refuses a lease path that leads through, or to, something else than a directory.
    fn check_lease(&mut self) -> Result<(), PublisherError> {
        let mut next = Some(self.lease.clone());
        while let Some(path) = next {
            match self.lookup(&path)? {
                Some(entry) if !entry.is_directory() => {
                    return Err(conflict(&path, "the lease path leads there, and it is not a directory"));
                }
                _ => next = path.parent(),
            }
        }
        Ok(())
    }

    pub(super) fn lookup(&mut self, path: &EntryPath) -> Result<Option<Entry>, PublisherError> {
        self.draft.tree().lookup(path.as_bytes()).map_err(translate(&self.repository, "read its catalogs"))
    }

    /// Refuses what must not go on.
    fn check_open(&self, path: &EntryPath) -> Result<(), PublisherError> {
        if self.broken {
            let why = "an earlier change of this transaction failed half-way: abort it".into();
            return Err(PublisherError::Unusable { repository: self.repository.clone(), why });
        }
        if self.checkout.is_some() {
            return Err(conflict(path, "the lease path is checked out: check it in first"));
        }
        if !path.is_within(&self.lease) {
            return Err(conflict(path, format!("it lies outside the lease path /{}", self.lease)));
        }
        Ok(())
    }

    /// Writes an entry and notes the change.
    pub(super) fn write(&mut self, path: &EntryPath, entry: &NewEntry) -> Result<(), PublisherError> {
        self.make_parents(path)?;
        let is_directory = entry.kind == NewKind::Directory;
        let put = self.draft.tree().put(path.as_bytes(), entry);
        if !is_directory && matches!(put, Ok(Put::Replaced)) {
            // It may have been a directory.
            (self.checked_parent, self.made_parent) = (None, None);
        }
        self.note(path, is_directory, put)
    }

    /// Makes a hard link and notes the change.
    pub(super) fn write_link(&mut self, path: &EntryPath, target: &EntryPath) -> Result<(), PublisherError> {
        if !self.lookup(target)?.is_some_and(|entry| entry.is_file()) {
            return Err(conflict(path, format!("it is a hard link to /{target}, which is no regular file here")));
        }
        self.make_parents(path)?;
        let put = self.draft.tree().link(path.as_bytes(), target.as_bytes());
        self.note(path, false, put)
    }

    fn note(
        &mut self,
        path: &EntryPath,
        is_directory: bool,
        put: Result<Put, EditError>,
    ) -> Result<(), PublisherError> {
        let noted = match put {
            Ok(Put::Added) => self.changes.added(path),
            Ok(Put::Replaced) => self.changes.modified(path, is_directory),
            Ok(Put::Unchanged) => Ok(()),
            Err(error) => return Err(self.edit_failed(error)),
        };
        self.noted(noted)
    }

    /// What is changed but not noted must not be published.
    fn noted(&mut self, noted: Result<(), PublisherError>) -> Result<(), PublisherError> {
        self.broken |= noted.is_err();
        noted
    }

    /// Removes an entry and notes the change.
    pub(super) fn erase(&mut self, path: &EntryPath) -> Result<bool, PublisherError> {
        (self.checked_parent, self.made_parent) = (None, None);
        match self.draft.tree().remove(path.as_bytes()) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => return Err(self.edit_failed(error)),
        }
        let noted = self.changes.removed(path);
        self.noted(noted).map(|()| true)
    }

    fn edit_failed(&mut self, error: EditError) -> PublisherError {
        self.broken |= matches!(error, EditError::Store(_));
        translate_edit(&self.repository)(error)
    }

    /// Makes the directories that a path needs, those above the lease path among them.
    fn make_parents(&mut self, path: &EntryPath) -> Result<(), PublisherError> {
        let mut missing = Vec::new();
        let mut next = path.parent();
        if self.made_parent == next {
            return Ok(());
        }
        while let Some(parent) = next {
            // What is there and is no directory is refused by the edit.
            if self.lookup(&parent)?.is_some() {
                break;
            }
            next = parent.parent();
            missing.push(parent);
        }
        for parent in missing.into_iter().rev() {
            let entry = NewEntry {
                kind: NewKind::Directory,
                permissions: 0o755,
                mtime: self.now,
                mtime_ns: None,
                uid: self.owner.uid,
                gid: self.owner.gid,
                xattrs: Xattrs::new(),
            };
            if let Err(error) = self.draft.tree().put(parent.as_bytes(), &entry) {
                return Err(self.edit_failed(error));
            }
            let noted = self.changes.added(&parent);
            self.noted(noted)?;
        }
        self.made_parent = path.parent();
        Ok(())
    }

    /// Tells whether a file has a content that was just stored.
    pub(super) fn has_content(
        &mut self,
        path: &EntryPath,
        entry: &Entry,
        stored: &NewKind,
    ) -> Result<bool, PublisherError> {
        let chunks = self.draft.tree().chunks(path.as_bytes(), entry);
        let chunks = chunks.map_err(translate(&self.repository, "read its catalogs"))?;
        Ok(match stored {
            NewKind::File { content: Content::Whole(hash), .. } => entry.hash == Some(*hash),
            NewKind::File { content: Content::Chunks(stored), .. } => chunks == *stored,
            _ => false,
        })
    }

    /// Packs extended attributes, if the repository keeps them.
    pub(super) fn xattrs(&self, path: &EntryPath, attributes: &Attributes) -> Result<Xattrs, PublisherError> {
        let mut xattrs = Xattrs::new();
        if self.draft.settings().xattrs {
            for (name, value) in attributes {
                xattrs.set(name, value).map_err(|error| conflict(path, error.to_string()))?;
            }
        }
        Ok(xattrs)
    }

    /// Refuses a file that the repository's settings do not want.
    pub(super) fn check_size(&self, path: &EntryPath, size: u64) -> Result<(), PublisherError> {
        let limit = self.draft.settings().limits.map_or(0, |limits| limits.file_bytes);
        if limit == 0 || size <= limit {
            return Ok(());
        }
        Err(PublisherError::Limit {
            what: format!("/{path} of {size} bytes"),
            limit: format!("{limit} bytes for a file"),
        })
    }

    /// Stores a file's content, which must have `size` bytes.
    pub(super) fn store(
        &mut self,
        path: &EntryPath,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<NewKind, PublisherError> {
        self.check_size(path, size)?;
        let content = &mut Counted::new(content, &self.progress);
        let stored = self.draft.store(content).map_err(translate_stage(&self.repository, path))?;
        match stored {
            NewKind::File { size: stored, .. } if stored != size => {
                let why = format!("it has {stored} bytes instead of {size}");
                let source = io::Error::new(io::ErrorKind::InvalidData, why);
                Err(PublisherError::Content { path: path.clone(), source })
            }
            stored => {
                self.progress.add_file();
                Ok(stored)
            }
        }
    }
}

/// Passes the crash point of a step of [`Draft::commit`], which does not know of them.
fn pass(step: &str) {
    match step {
        "before-objects-sync" => crash::point("native.before-objects-sync"),
        "objects-synced" => crash::point("native.objects-synced"),
        "reflog-written" => crash::point("native.reflog-written"),
        "before-flip" => crash::point("native.before-flip"),
        "flipped" => crash::point("native.flipped"),
        _ => crash::point("native.flip-synced"),
    }
}

/// Refuses targets that clients could not read back.
pub(super) fn check_target(path: &EntryPath, target: &[u8]) -> Result<(), PublisherError> {
    if target.is_empty() || target.contains(&0) || target.len() > LONGEST_TARGET {
        return Err(conflict(path, "the target of a symbolic link must have 1 to 4095 bytes, none of them NUL"));
    }
    Ok(())
}

impl Transaction for NativeTransaction {
    fn base(&self) -> &Revision {
        &self.base
    }

    fn progress(&self) -> Arc<Counters> {
        Arc::clone(&self.progress)
    }

    fn enter(&mut self, lease_path: &LeasePath) -> Result<(), PublisherError> {
        let lease = EntryPath::new(lease_path.relative().as_bytes());
        let lease = lease.map_err(|error| conflict(&EntryPath::base(), error.to_string()))?;
        self.lease = self.reserved.clone();
        self.check_open(&lease)?;
        self.lease = lease;
        self.check_lease()
    }

    fn put(
        &mut self,
        path: &EntryPath,
        meta: &EntryMeta,
        kind: &EntryKind,
        content: &mut dyn Read,
    ) -> Result<(), PublisherError> {
        self.check_open(path)?;
        if *path == self.lease && *kind != EntryKind::Directory {
            return Err(conflict(path, "the lease path itself can only be a directory"));
        }
        let mut entry = NewEntry {
            kind: NewKind::Directory,
            permissions: meta.mode,
            mtime: meta.mtime,
            mtime_ns: None,
            uid: meta.uid,
            gid: meta.gid,
            xattrs: self.xattrs(path, &meta.attributes)?,
        };
        let device = |major: u32, minor: u32| libc::makedev(major, minor);
        entry.kind = match kind {
            // The kind comes with the content.
            EntryKind::File { size } => return self.push_file(path, entry, *size, content),
            EntryKind::Directory => NewKind::Directory,
            EntryKind::Symlink { target } => {
                check_target(path, target)?;
                NewKind::Symlink { target: target.clone() }
            }
            EntryKind::Fifo => NewKind::Fifo,
            EntryKind::CharacterDevice { major, minor } => NewKind::CharacterDevice { device: device(*major, *minor) },
            EntryKind::BlockDevice { major, minor } => NewKind::BlockDevice { device: device(*major, *minor) },
        };
        self.push(path, entry)
    }

    fn link(&mut self, path: &EntryPath, target: &EntryPath) -> Result<(), PublisherError> {
        self.check_open(path)?;
        self.check_open(target)?;
        self.push_link(path, target)
    }

    fn remove(&mut self, path: &EntryPath) -> Result<bool, PublisherError> {
        self.check_open(path)?;
        self.settle()?;
        self.erase(path)
    }

    fn check_out(&mut self) -> Result<Workspace, PublisherError> {
        let lease = self.lease.clone();
        self.check_open(&lease)?;
        self.settle()?;
        let checkout = Checkout::make(self)?;
        let (root, writable) = (checkout.root().to_owned(), checkout.place(lease.as_bytes()));
        self.checkout = Some(checkout);
        Ok(Workspace { root, writable, secret: self.secret.clone(), mounts: Vec::new(), live: None })
    }

    fn check_in(&mut self) -> Result<(), PublisherError> {
        let Some(checkout) = self.checkout.take() else {
            return Err(conflict(&self.lease, "it is not checked out"));
        };
        let taken = super::checkin::check_in(self, &checkout).and_then(|()| self.settle());
        // Half of what a script did is nothing that anybody asked for.
        self.broken |= taken.is_err();
        taken
    }

    fn settle(&mut self) -> Result<(), PublisherError> {
        self.drain(true)
    }

    fn changes(&self, visit: &mut dyn FnMut(ChangedPath)) -> Result<(), PublisherError> {
        self.changes.each(visit)
    }

    fn publish(mut self: Box<Self>, message: &str) -> Result<Published, PublisherError> {
        self.settle()?;
        self.check_open(&self.lease)?;
        let Self { repository, draft, key, .. } = *self;
        // One line: the listings of CernVM-FS's tools have one line for each tag.
        let description: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let tag = NewTag { name: &key, description: description.trim() };
        let manifest = draft.commit(Some(tag), super::now(), &pass).map_err(translate(&repository, "publish"))?;
        Ok(Revision { number: manifest.revision, root_hash: manifest.root_hash.to_string() }.into())
    }

    fn abort(self: Box<Self>) -> Result<(), PublisherError> {
        Ok(())
    }
}
