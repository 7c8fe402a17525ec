//! Checking a repository: does everything in it fit together?
//!
//! It finds what `cvmfs_swissknife check` finds (`cvmfs/swissknife_check.cc`), and more: entries stored under a wrong
//! key, attributes that cannot be unpacked, references to the same object that disagree, objects whose bytes are wrong.
//! It never stops at a problem. Catalogs are checked side by side, each by two scans over its rows; what it holds in
//! memory are the directories of the catalogs in work and the names of all objects.

mod base;
mod catalog;
mod directory;
mod entry;
mod hardlinks;
mod objects;
mod report;
mod work;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Error;
use super::catalog::{Counters, Entry, Flags};
use super::hash::ContentHash;
use super::reader::Reader;
use objects::{Met, ObjectRef, Seen};
use work::{Task, Work, lock};

pub use report::{Code, Place, Problem, Report, Severity, Summary};

/// Objects in a batch.
const BATCH: usize = 256;

/// What to do about the objects of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Data {
    /// Nothing, except to compare what the entries say of them.
    None,
    /// See that they are there.
    #[default]
    Exists,
    /// Read, unpack and hash them, and let SQLite check the catalogs' files.
    Verify,
}

/// What to check.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The objects of files.
    pub data: Data,
    /// Another root catalog than the manifest's, such as a tag's.
    pub root: Option<ContentHash>,
    /// Where to start: the mount point of a nested catalog, without leading slash. Empty for the whole tree.
    pub subtree: Vec<u8>,
    /// Whether to open each tag's root catalog.
    pub tags: bool,
    /// Whether the reflog is not to be looked at: a replica's is not the one that the manifest vouches for.
    pub ignore_reflog: bool,
    /// The hash that the reflog has by what is noted beside the repository (`Stratum0::noted_reflog`). It goes before
    /// the manifest's, which the garbage collection of `cvmfs_server` does not renew.
    pub noted_reflog: Option<ContentHash>,
    /// The time that whitelists are judged by, seconds since 1970. `None` leaves them alone.
    pub now: Option<i64>,
    /// Threads; 0 for as many as there are processors.
    pub threads: usize,
    /// Problems to report in full, 0 for 10 000. Further ones are counted.
    pub most_problems: usize,
}

/// Checks a repository that was opened, which is to say that its signatures hold. An error means that the options make
/// no sense here; whatever is wrong with the repository is in the report.
pub fn check(reader: &Reader, options: &Options) -> Result<Report, Error> {
    let check = Check {
        reader,
        options,
        most_problems: if options.most_problems == 0 { 10_000 } else { options.most_problems },
        found: Mutex::default(),
        seen: Seen::default(),
        nodes: Mutex::default(),
        entries: AtomicU64::new(0),
        objects: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    };
    let start = check.start()?;
    check.base();
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        given => given,
    };
    let work = Work::new(start);
    work.finish(threads, &|task| match task {
        Task::Catalog(task) => check.catalog(task, &work),
        Task::Objects(batch) => batch.iter().for_each(|object| check.object(object)),
    });
    check.subtree_counters();
    Ok(check.into_report())
}

/// A catalog to be checked.
struct CatalogTask {
    path: Vec<u8>,
    hash: ContentHash,
    /// Bytes that its file must have; 0 where that is not known.
    size: u64,
    /// The catalog that refers to it, as its number among the nodes.
    parent: Option<usize>,
    /// The directory in that one.
    mountpoint: Option<Box<Entry>>,
}

/// A catalog that was checked, as far as the counters of those above need it.
struct Node {
    path: Vec<u8>,
    hash: ContentHash,
    parent: Option<usize>,
    own: Counters,
    below: Counters,
    /// What it says of those below; `None` if it could not be read.
    stated_below: Option<Counters>,
    /// Whether all below could be counted.
    complete: bool,
}

/// A check in progress.
struct Check<'r> {
    reader: &'r Reader,
    options: &'r Options,
    most_problems: usize,
    found: Mutex<(Vec<Problem>, u64)>,
    seen: Seen,
    nodes: Mutex<Vec<Node>>,
    entries: AtomicU64,
    objects: AtomicU64,
    bytes: AtomicU64,
}

type Tasks = Work<CatalogTask, ObjectRef>;

impl Check<'_> {
    fn note(&self, place: Place, code: Code, message: String) {
        let mut found = lock(&self.found);
        if found.0.len() < self.most_problems {
            found.0.push(Problem { place, code, message });
        } else {
            found.1 += 1;
        }
    }

    /// The catalog to start with.
    fn start(&self) -> Result<CatalogTask, Error> {
        let manifest = self.reader.manifest();
        let hash = self.options.root.unwrap_or(manifest.root_hash);
        let size = if hash == manifest.root_hash { manifest.root_size } else { 0 };
        let mut task = CatalogTask { path: Vec::new(), hash, size, parent: None, mountpoint: None };
        while task.path != self.options.subtree {
            let outer = self.reader.catalog(&task.hash)?;
            let is_on_the_way = |path: &[u8]| {
                let rest = self.options.subtree.strip_prefix(path);
                path.len() > task.path.len() && rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
            };
            let Some(nested) = outer.nested()?.into_iter().find(|nested| is_on_the_way(&nested.path)) else {
                let path = report::shown(&self.options.subtree);
                return Err(Error::Unsupported(format!("a check from {path} on, where no nested catalog begins,")));
            };
            let mountpoint = outer.lookup(&nested.path)?.filter(|entry| entry.flags.has(Flags::NESTED_MOUNTPOINT));
            let mountpoint = mountpoint.map(Box::new);
            task = CatalogTask { path: nested.path, hash: nested.hash, size: nested.size, parent: None, mountpoint };
        }
        Ok(task)
    }

    /// Takes note of an object, and puts it in the batch if it is to be looked at.
    fn meet(&self, batch: &mut Vec<ObjectRef>, tasks: &Tasks, object: ObjectRef, path: &[u8]) {
        match self.seen.meet(object.hash, object.kind, object.size) {
            Met::Before(size) if size == object.size => {}
            Met::Before(size) => {
                let message = format!("it is said to have {} bytes here and {size} elsewhere", object.size);
                self.note(
                    Place::Object { hash: object.hash, kind: object.kind, path: path.to_vec() },
                    Code::ObjectSize,
                    message,
                );
            }
            Met::New => {
                self.objects.fetch_add(1, Ordering::Relaxed);
                self.bytes.fetch_add(object.size, Ordering::Relaxed);
                if self.options.data != Data::None {
                    batch.push(ObjectRef { path: path.to_vec(), ..object });
                    if batch.len() >= BATCH {
                        self.hand_over(batch, tasks);
                    }
                }
            }
        }
    }

    fn hand_over(&self, batch: &mut Vec<ObjectRef>, tasks: &Tasks) {
        if let Some(batch) = tasks.add_objects(std::mem::take(batch)) {
            batch.iter().for_each(|object| self.object(object));
        }
    }

    /// Compares what the catalogs say of those below them with what was counted there.
    fn subtree_counters(&self) {
        let mut nodes = std::mem::take(&mut *lock(&self.nodes));
        // A catalog gets its number before those that it refers to.
        for number in (0..nodes.len()).rev() {
            let node = &nodes[number];
            let (path, hash) = (node.path.clone(), node.hash);
            if let Some(stated) = node.stated_below.filter(|_| node.complete) {
                self.compare_counters("subtree", &path, hash, &node.below, &stated);
            }
            let mut sum = node.own;
            sum.add(&node.below);
            let complete = node.complete;
            if let Some(outer) = node.parent {
                nodes[outer].below.add(&sum);
                nodes[outer].complete &= complete;
            }
        }
        *lock(&self.nodes) = nodes;
    }

    fn compare_counters(&self, scope: &str, path: &[u8], hash: ContentHash, counted: &Counters, stated: &Counters) {
        for ((name, counted), (_, stated)) in counted.named().into_iter().zip(stated.named()) {
            if counted != stated {
                let message = format!("the counter {scope}_{name} says {stated}, there are {counted}");
                self.note(Place::Catalog { path: path.to_vec(), hash }, Code::Statistics, message);
            }
        }
    }

    fn into_report(self) -> Report {
        let (mut problems, omitted) = self.found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        problems.sort();
        let summary = Summary {
            catalogs: lock(&self.nodes).len() as u64,
            entries: self.entries.into_inner(),
            objects: self.objects.into_inner(),
            bytes: self.bytes.into_inner(),
        };
        Report { problems, omitted, summary }
    }
}
