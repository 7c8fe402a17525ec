//! Undoes what one publish did below a path, by edits of a new transaction: never by rolling the repository back.
//!
//! Three comparisons decide: what the publish did (the revision before its tag, and its tag), what came later (its tag, and
//! now), and what is left to be undone (the revision before, and now).

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cvmfs;
use crate::cvmfs::catalog::{Entry, Flags};
use crate::cvmfs::diff::{Aspect, ChangeKind, diff};
use crate::cvmfs::hash::ContentHash;
use crate::cvmfs::reader::Reader;
use crate::cvmfs::tree::Tree;
use crate::domain::names::RepositoryName;
use crate::domain::tree::{EntryKind, EntryMeta, EntryPath};
use crate::publisher::{PublisherError, Transaction};

/// Paths that a refusal names.
const NAMED: usize = 10;

/// What to undo.
#[derive(Debug, Clone)]
pub struct Undo {
    /// The tag of the publish.
    pub tag: String,
    /// Nothing outside of it is touched.
    pub below: EntryPath,
    /// Also what later revisions changed again.
    pub force: bool,
}

/// What was undone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Undone {
    /// Paths that were put back as they were before the publish.
    pub restored: u64,
    /// Paths that were removed, each with all below it.
    pub removed: u64,
}

/// Why nothing was undone.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// It cannot be, or only by force: the text says why.
    #[error("{0}")]
    Refused(String),
    /// It was stopped.
    #[error("it was stopped")]
    Stopped,
    /// The publisher could not.
    #[error(transparent)]
    Publisher(#[from] PublisherError),
}

/// What happened to paths, in their order.
type Changes = BTreeMap<EntryPath, ChangeKind>;

/// Undoes a publish in an open transaction. `reader`: the repository as the transaction found it. Blocks; `over` ends it.
pub fn undo(
    repository: &RepositoryName,
    reader: &Reader,
    transaction: &mut dyn Transaction,
    undo: &Undo,
    over: &AtomicBool,
) -> Result<Undone, UndoError> {
    let work = Work { repository, reader, undo, over };
    let now = reader.manifest().root_hash;
    let (before, after) = work.revisions()?;
    let left = work.changes(&before, &now)?;
    let todo: Changes =
        work.changes(&before, &after)?.into_iter().filter(|(path, _)| left.contains_key(path)).collect();
    if !undo.force {
        refuse_changed_since(&todo, &left, &work.changes(&after, &now)?)?;
    }
    work.apply(&todo, &before, transaction)
}

struct Work<'a> {
    repository: &'a RepositoryName,
    reader: &'a Reader,
    undo: &'a Undo,
    over: &'a AtomicBool,
}

impl Work<'_> {
    /// The root catalogs before the publish and after it.
    fn revisions(&self) -> Result<(ContentHash, ContentHash), UndoError> {
        let tag = &self.undo.tag;
        // Where repositories cannot have so many named tags, the key is the description of an automatic one.
        let look = || match self.reader.tag(tag)? {
            Some(found) => Ok(Some(found)),
            None => Ok(self.reader.tags()?.into_iter().find(|found| found.description.trim() == tag)),
        };
        let found = look().map_err(|error| self.failed("look the tag up", error))?;
        let Some(found) = found else {
            return Err(UndoError::Refused(format!(
                "tag {tag} is no longer in the history of {}: nobody can tell what the job's revision was",
                self.repository
            )));
        };
        let catalog = self.reader.catalog(&found.root_hash).map_err(|error| self.gone(found.revision, error))?;
        let before = catalog.previous_revision().map_err(|error| self.failed("read the tagged catalog", error))?;
        let before = before.ok_or_else(|| {
            UndoError::Refused(format!(
                "revision {} is the first of {}: nothing was before it",
                found.revision, self.repository
            ))
        })?;
        self.reader.catalog(&before).map_err(|error| self.gone(found.revision.saturating_sub(1), error))?;
        Ok((before, found.root_hash))
    }

    /// What differs between two revisions below the path, where it matters.
    fn changes(&self, from: &ContentHash, to: &ContentHash) -> Result<Changes, UndoError> {
        let mut changes = Changes::new();
        let mut damaged = None;
        let compared = diff(self.reader, from, to, &mut |change| {
            if self.over.load(Ordering::Relaxed) {
                return Err(cvmfs::Error::Missing("time".into()));
            }
            match EntryPath::new(&change.path) {
                Ok(path) if path.is_within(&self.undo.below) && matters(&change.kind) => {
                    changes.insert(path, change.kind);
                }
                Ok(_) => {}
                Err(error) => damaged = Some(error),
            }
            Ok(())
        });
        if self.over.load(Ordering::Relaxed) {
            return Err(UndoError::Stopped);
        }
        compared.map_err(|error| match error {
            cvmfs::Error::Missing(what) => UndoError::Refused(format!(
                "{what} is missing in {}: a revision that must be looked at was garbage-collected",
                self.repository
            )),
            error => self.failed("compare its revisions", error),
        })?;
        damaged.map_or(Ok(changes), |error| Err(UndoError::Refused(error.to_string())))
    }

    fn apply(
        &self,
        todo: &Changes,
        before: &ContentHash,
        transaction: &mut dyn Transaction,
    ) -> Result<Undone, UndoError> {
        let mut undone = Undone::default();
        let mut gone: Option<&EntryPath> = None;
        for (path, kind) in todo {
            let is_below = gone.is_some_and(|top| path.is_within(top));
            if let (ChangeKind::Added(_), false) = (kind, is_below) {
                undone.removed += u64::from(transaction.remove(path)?);
                gone = Some(path);
            }
        }
        let mut tree = self.reader.tree_at(before).map_err(|error| self.failed("read the revision before", error))?;
        // Hard links lie in one directory.
        let mut links: HashMap<(Option<EntryPath>, u32), EntryPath> = HashMap::new();
        for (path, kind) in todo {
            if self.over.load(Ordering::Relaxed) {
                return Err(UndoError::Stopped);
            }
            let (ChangeKind::Removed(entry) | ChangeKind::Modified { from: entry, .. }) = kind else { continue };
            if matches!(kind, ChangeKind::Modified { aspects, .. } if aspects.contains(&Aspect::Type)) {
                transaction.remove(path)?;
            }
            let group = (path.parent(), entry.hardlink_group());
            match links.get(&group).filter(|_| group.1 != 0) {
                Some(first) => transaction.link(path, first)?,
                None => {
                    self.put_back(&mut tree, path, entry, transaction)?;
                    links.insert(group, path.clone());
                }
            }
            undone.restored += 1;
        }
        transaction.settle()?;
        Ok(undone)
    }

    fn put_back(
        &self,
        tree: &mut Tree<'_>,
        path: &EntryPath,
        entry: &Entry,
        transaction: &mut dyn Transaction,
    ) -> Result<(), UndoError> {
        let unfit = |what: &str| UndoError::Refused(format!("/{path} was {what}, which cannot be put back"));
        let xattrs = entry.xattrs().map_err(|error| self.failed("read extended attributes", error))?;
        let meta = EntryMeta {
            mode: entry.permissions(),
            mtime: entry.mtime,
            uid: entry.uid,
            gid: entry.gid,
            attributes: xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
        };
        let kind = if entry.flags.has(Flags::BIND_MOUNTPOINT) {
            return Err(unfit("a mount of another revision"));
        } else if entry.is_directory() {
            EntryKind::Directory
        } else if entry.is_symlink() {
            EntryKind::Symlink { target: entry.symlink.clone() }
        } else if entry.is_file() {
            let missing = |error| match error {
                cvmfs::Error::Unsupported(what) => UndoError::Refused(format!("{what} is not supported")),
                error => self.failed("read the revision before", error),
            };
            let mut content = tree.file(path.as_bytes()).map_err(missing)?;
            return Ok(transaction.put(path, &meta, &EntryKind::File { size: entry.size }, &mut content)?);
        } else {
            // The size of a device is its number.
            let (major, minor) = (nix::libc::major(entry.size), nix::libc::minor(entry.size));
            match entry.mode & nix::libc::S_IFMT {
                nix::libc::S_IFIFO => EntryKind::Fifo,
                nix::libc::S_IFCHR => EntryKind::CharacterDevice { major, minor },
                nix::libc::S_IFBLK => EntryKind::BlockDevice { major, minor },
                _ => return Err(unfit("a socket")),
            }
        };
        Ok(transaction.put(path, &meta, &kind, &mut io::empty())?)
    }

    fn gone(&self, revision: u64, error: cvmfs::Error) -> UndoError {
        match error {
            cvmfs::Error::Missing(_) => UndoError::Refused(format!(
                "revision {revision} of {} is no longer there: it was garbage-collected",
                self.repository
            )),
            error => self.failed("read an older revision", error),
        }
    }

    fn failed(&self, what: &str, error: cvmfs::Error) -> UndoError {
        let (repository, what) = (self.repository.clone(), what.to_owned());
        UndoError::Publisher(PublisherError::Format { repository, what, source: Box::new(error) })
    }
}

/// Whether a change is anybody's doing: a directory's times and link counts change with what is in it, those of a file with
/// its other names.
fn matters(kind: &ChangeKind) -> bool {
    let ChangeKind::Modified { from, aspects, .. } = kind else { return true };
    let is_noise = |aspect: &Aspect| *aspect == Aspect::Links || from.is_directory() && *aspect == Aspect::Mtime;
    !aspects.iter().all(is_noise)
}

/// Whether all below a path came or went with it.
fn is_whole(kind: &ChangeKind) -> bool {
    match kind {
        ChangeKind::Added(entry) | ChangeKind::Removed(entry) => entry.is_directory(),
        ChangeKind::Modified { from, to, .. } => from.is_directory() != to.is_directory(),
    }
}

/// Refuses to undo what later revisions changed again, unless they put it back as it was.
fn refuse_changed_since(todo: &Changes, left: &Changes, later: &Changes) -> Result<(), UndoError> {
    let is_in_the_way = |(path, kind): &(&EntryPath, &ChangeKind)| {
        let above_it = || std::iter::successors(path.parent(), EntryPath::parent);
        let is_within_ours = || above_it().any(|top| todo.get(&top).is_some_and(is_whole));
        let takes_ours = || {
            let is_gone = matches!(kind, ChangeKind::Removed(_)) || is_whole(kind);
            is_gone && todo.keys().any(|ours| ours.is_within(path))
        };
        left.contains_key(*path) && (todo.contains_key(*path) || is_within_ours() || takes_ours())
    };
    let changed: Vec<String> = later.iter().filter(is_in_the_way).map(|(path, _)| format!("/{path}")).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let named = changed.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = match changed.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(UndoError::Refused(format!("changed again by a later revision: {named}{more}; --force undoes that as well")))
}
