//! Garbage collection: removes the objects that no kept revision leads to (`cvmfs/swissknife_gc.cc`,
//! `cvmfs/garbage_collection/`).
//!
//! Kept are the chain of revisions as far back as one asks, and what a tag names. First the reflog forgets what goes,
//! and the manifest is signed for it; then the files go. A kill in between leaves files that nothing refers to, and
//! these the next collection finds: unlike the real tools, which remove what revisions that go had referred to, this one
//! looks at every file in `data`. So it finds the objects of publishes that were killed as well.

mod mark;
mod sweep;

use std::collections::{HashMap, HashSet};

use super::super::Error;
use super::super::hash::{ContentHash, ObjectKind};
use super::super::manifest::Manifest;
use super::super::reflog::{self, Reflog};
use super::change::{Change, Next};
use super::{Held, RepositoryLock, Stratum0};

use mark::Marked;
pub(super) use mark::check_complete;

/// How far back the chain of revisions is kept. The present revision stays in any case, and so does, as with the real
/// tools, the newest one that is out of bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// So many revisions before the present one.
    Revisions(u64),
    /// What was published since then, seconds since 1970.
    Since(i64),
    /// What was published within the time that the repository's settings name, three days by default.
    Default,
}

/// What to collect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GcOptions {
    /// How far back revisions are kept.
    pub keep: Keep,
    /// Changes nothing, and tells what would go.
    pub dry_run: bool,
    /// Collects in a repository that is not marked as collectable, too.
    pub force: bool,
}

/// What was collected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GcReport {
    /// Revisions that are kept.
    pub kept_revisions: u64,
    /// Catalogs that are kept, nested ones among them.
    pub kept_catalogs: u64,
    /// Objects that are kept, of all kinds.
    pub kept_objects: u64,
    /// Objects that went, by kind.
    pub removed: HashMap<ObjectKind, u64>,
    /// Bytes that they had.
    pub removed_bytes: u64,
    /// Files that have no object's name, or are younger than this collection. They stay.
    pub left_alone: u64,
    /// Catalogs of tags that are gone already; nothing of these revisions could be kept but what others have.
    pub missing: Vec<String>,
}

impl GcReport {
    /// Objects that went.
    pub fn removed_objects(&self) -> u64 {
        self.removed.values().sum()
    }
}

impl Stratum0 {
    /// Removes what no kept revision leads to. `removed` hears of each object that went, or would go: its path below the
    /// repository's base and its bytes.
    pub fn collect_garbage(
        &self,
        mut lock: RepositoryLock,
        options: GcOptions,
        now: i64,
        removed: &mut dyn FnMut(&str, u64),
        passing: &dyn Fn(&str),
    ) -> Result<GcReport, Error> {
        lock.extend_to_collecting()?.map_err(Held::into_error)?;
        let mut change = Change::begin(self, lock, now)?;
        let is_collectable = change.settings.garbage_collection.unwrap_or(change.reader.manifest().garbage_collectable);
        if !is_collectable && !options.force {
            let why = "collecting garbage where the settings do not allow it (CVMFS_GARBAGE_COLLECTION)";
            return Err(Error::Unsupported(why.into()));
        }
        if !change.reflog_is_current {
            if options.dry_run {
                let why = "a dry run with a reflog that must be rebuilt first";
                return Err(Error::Unsupported(why.into()));
            }
            let (_, lock) = change.commit_and_hold(Next::default(), now, &|_| {})?;
            change = Change::begin(self, lock, now)?;
        }
        let since = |span: u64| now.saturating_sub_unsigned(span);
        let (depth, since) = match options.keep {
            Keep::Revisions(count) => (count, i64::MIN),
            Keep::Since(time) => (u64::MAX, time),
            Keep::Default => (u64::MAX, since(change.settings.garbage_collection_span)),
        };

        let reflog = Reflog::open(&self.directory.join(reflog::FILE))?;
        let times: HashMap<_, _> = reflog.objects(ObjectKind::Catalog)?.into_iter().collect();
        let mut marked = Marked::default();
        marked.chain(&change.reader, depth, since, &times)?;
        for tag in change.reader.tags()? {
            marked.tag(&change.reader, &tag)?;
        }
        let forgotten = self.forgotten(&reflog, &mut marked, change.reader.manifest(), &times)?;
        drop(reflog);
        passing("gc-marked");

        let mut report = marked.report();
        let lock = if options.dry_run {
            None
        } else if forgotten.is_empty() {
            Some(change.release())
        } else {
            let mut edit = |reflog: &Reflog| reflog.remove(&forgotten);
            Some(change.commit_and_hold(Next { reflog: Some(&mut edit), ..Next::default() }, now, passing)?.1)
        };
        passing("gc-committed");
        sweep::sweep(&self.directory, &marked, now, lock.is_some(), removed, &mut report, passing)?;
        Ok(report)
    }

    /// What the reflog is to forget. Histories, certificates and metainfo that were published since the oldest kept
    /// revision of the chain are kept, and marked.
    fn forgotten(
        &self,
        reflog: &Reflog,
        marked: &mut Marked,
        manifest: &Manifest,
        times: &HashMap<ContentHash, i64>,
    ) -> Result<Vec<ContentHash>, Error> {
        let mut forgotten: Vec<_> = times.keys().filter(|hash| !marked.catalogs.contains(hash)).copied().collect();
        let in_use: HashSet<_> =
            [Some(manifest.certificate), manifest.history, manifest.metainfo].into_iter().flatten().collect();
        marked.objects.extend(in_use.iter().map(|hash| *hash.digest()));
        for kind in [ObjectKind::Certificate, ObjectKind::History, ObjectKind::Metainfo] {
            for (hash, time) in reflog.objects(kind)? {
                if in_use.contains(&hash) || time >= marked.oldest {
                    marked.objects.insert(*hash.digest());
                } else {
                    forgotten.push(hash);
                }
            }
        }
        Ok(forgotten)
    }
}
