//! The same random change sets for the native publisher and for an overlay: what comes of them must be the same.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::cvmfs::catalog::Entry;
use crate::cvmfs::reader::Expiry;
use crate::cvmfs::tests::support::{NAME, Sandbox};
use crate::domain::names::{LeasePath, RepositoryName};
use crate::publisher::cvmfs_server::verify::{Mismatches, verify};
use crate::publisher::native::NativePublisher;
use crate::publisher::{Publisher, Transaction};

/// What comes after it is the time at which a test runs.
const LATEST: i64 = 1_700_000_000;

#[derive(Debug, Clone)]
enum Edit {
    Put(EntryPath, EntryMeta, EntryKind, Vec<u8>),
    Link(EntryPath, EntryPath),
    Remove(EntryPath),
}

/// What an edit comes to: whether an entry was there to be removed, or what was in the way.
type Outcome = Result<bool, String>;

fn outcome(result: Result<bool, PublisherError>) -> Outcome {
    match result {
        Err(PublisherError::Conflict { path, .. }) => Err(path.to_string()),
        other => Ok(other.unwrap()),
    }
}

impl Edit {
    fn random(random: &mut ChaCha8Rng) -> Self {
        let at = random_path(random);
        match random.random_range(0..10) {
            0..2 => Self::Remove(at),
            2 => Self::Link(at, random_path(random)),
            _ => Self::put(random, at),
        }
    }

    fn put(random: &mut ChaCha8Rng, at: EntryPath) -> Self {
        let content = vec![random.random(); random.random_range(0..3)];
        let kind = match random.random_range(0..10) {
            0..3 => EntryKind::Directory,
            3 => EntryKind::Symlink { target: vec![b'a'; random.random_range(1..3)] },
            4 => EntryKind::Fifo,
            5 => EntryKind::CharacterDevice { major: 1, minor: random.random_range(3..5) },
            _ => EntryKind::File { size: content.len() as u64 },
        };
        let mut meta = EntryMeta {
            mode: [0o755, 0o644, 0o4711, 0o1777, 0][random.random_range(0..5)],
            mtime: random.random_range(0..LATEST),
            uid: random.random_range(0..3),
            gid: random.random_range(0..3),
            attributes: Attributes::new(),
        };
        if matches!(kind, EntryKind::File { .. } | EntryKind::Directory) && random.random_bool(0.2) {
            meta.attributes.insert(b"user.colour".to_vec(), vec![random.random()]);
        }
        Self::Put(at, meta, kind, content)
    }

    /// The same with at most one thing changed.
    fn varied(&self, random: &mut ChaCha8Rng) -> Self {
        let mut edit = self.clone();
        if let Self::Put(_, meta, kind, content) = &mut edit {
            match (random.random_range(0..7), kind) {
                (0, _) => meta.mtime += 1,
                (1, _) => meta.mode ^= 0o1,
                (2, _) => meta.uid += 1,
                (3, _) => meta.gid += 1,
                (4, EntryKind::File { .. } | EntryKind::Directory) => {
                    meta.attributes.insert(b"user.colour".to_vec(), b"another".to_vec());
                }
                (5, EntryKind::File { .. }) => content.iter_mut().for_each(|byte| *byte ^= 1),
                (5, EntryKind::Symlink { target }) => target[0] ^= 1,
                (5, EntryKind::CharacterDevice { minor, .. }) => *minor += 1,
                _ => {}
            }
        }
        edit
    }

    fn paths(&self) -> Vec<&EntryPath> {
        match self {
            Self::Put(path, ..) | Self::Remove(path) => vec![path],
            Self::Link(path, target) => vec![path, target],
        }
    }

    fn native(&self, transaction: &mut dyn Transaction) -> Outcome {
        outcome(match self {
            Self::Put(path, meta, kind, content) => {
                transaction.put(path, meta, kind, &mut &content[..]).and_then(|()| transaction.settle()).map(|()| true)
            }
            Self::Link(path, target) => {
                transaction.link(path, target).and_then(|()| transaction.settle()).map(|()| true)
            }
            Self::Remove(path) => transaction.remove(path),
        })
    }

    fn overlay(&self, union: &mut Union) -> Outcome {
        outcome(match self {
            Self::Put(path, meta, kind, content) => union.put(path, meta, kind, &mut &content[..]).map(|()| true),
            Self::Link(path, target) => union.link(path, target).map(|()| true),
            Self::Remove(path) => union.remove(path),
        })
    }
}

fn random_path(random: &mut ChaCha8Rng) -> EntryPath {
    let names: [&[u8]; 4] = [b"a", b"a-b", b"b", b"\xff\n"];
    let parts: Vec<_> = (0..random.random_range(1..4)).map(|_| names[random.random_range(0..4)]).collect();
    EntryPath::new(&parts.join(&b'/')).unwrap()
}

/// An entry as both sides show it; what was made without a description has the time 0.
type Seen = (u32, i64, u32, u32, u64, Vec<u8>, Vec<u8>);

struct Pair {
    sandbox: Sandbox,
    publisher: NativePublisher,
    scratch: tempfile::TempDir,
}

impl Pair {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let publisher = NativePublisher::new(sandbox.root(), sandbox.keys());
        Self { sandbox, publisher, scratch: tempfile::tempdir().unwrap() }
    }

    fn open(&self, key: &str) -> Box<dyn Transaction> {
        let (name, lease) = (RepositoryName::new(NAME).unwrap(), LeasePath::new("/").unwrap());
        self.publisher.open(&name, &lease, key, self.scratch.path()).unwrap()
    }

    fn published(&self) -> BTreeMap<EntryPath, Seen> {
        let reader = self.sandbox.stratum0.reader(Expiry::Ignore).unwrap();
        let mut tree = reader.tree().unwrap();
        let mut entries: Vec<(Vec<u8>, Entry)> = Vec::new();
        tree.walk(b"", |path, entry| {
            entries.push((path.to_vec(), entry.clone()));
            Ok(())
        })
        .unwrap();
        let see = |(path, entry): (Vec<u8>, Entry)| {
            let mut content = entry.symlink.clone();
            if entry.is_file() {
                tree.file(&path).unwrap().read_to_end(&mut content).unwrap();
            }
            let size = if entry.is_directory() || entry.is_symlink() { 0 } else { entry.size };
            let attribute = entry.xattrs().unwrap().get(b"user.colour").unwrap_or_default().to_vec();
            let mtime = if entry.mtime < LATEST { entry.mtime } else { 0 };
            (EntryPath::new(&path).unwrap(), (entry.mode, mtime, entry.uid, entry.gid, size, content, attribute))
        };
        entries.into_iter().filter(|(path, _)| !path.is_empty()).map(see).collect()
    }
}

fn on_disk(root: &Path) -> BTreeMap<EntryPath, Seen> {
    let mut seen = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry.unwrap();
        let metadata = entry.path().symlink_metadata().unwrap();
        let (kind, place) = (metadata.file_type(), entry.path());
        let (size, content) = match () {
            () if kind.is_file() => (metadata.len(), fs::read(place).unwrap()),
            () if kind.is_symlink() => (0, fs::read_link(place).unwrap().into_os_string().into_encoded_bytes()),
            () if kind.is_dir() => (0, Vec::new()),
            () => (metadata.rdev(), Vec::new()),
        };
        let attribute = xattr::get(place, "user.colour").ok().flatten().unwrap_or_default();
        let mtime = if metadata.mtime() < LATEST { metadata.mtime() } else { 0 };
        let path = EntryPath::new(place.strip_prefix(root).unwrap().as_os_str().as_encoded_bytes()).unwrap();
        seen.insert(path, (metadata.mode(), mtime, metadata.uid(), metadata.gid(), size, content, attribute));
    }
    seen
}

/// The net effect, by looking at everything; a path below one that is gone is not named.
fn net_effect(before: &BTreeMap<EntryPath, Seen>, after: &BTreeMap<EntryPath, Seen>) -> Vec<ChangedPath> {
    let paths: BTreeSet<&EntryPath> = before.keys().chain(after.keys()).collect();
    let is_directory = |seen: &Seen| seen.0 & 0o170_000 == 0o040_000;
    let mut changes = Vec::new();
    for path in paths {
        let above = path.parent().unwrap();
        match (before.get(path), after.get(path)) {
            (None, _) => changes.push(ChangedPath::Added(path.clone())),
            (Some(_), None) if above.is_base() || after.get(&above).is_some_and(is_directory) => {
                changes.push(ChangedPath::Removed(path.clone()));
            }
            (Some(_), None) => {}
            (Some(old), Some(new)) if old != new => changes.push(ChangedPath::Modified(path.clone())),
            _ => {}
        }
    }
    changes
}

/// Runs one change set on both, and says what is not the same.
fn run(seed: u64) -> Option<()> {
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    let pair = Pair::new();
    let base: Vec<Edit> = (0..random.random_range(0..25)).map(|_| Edit::random(random)).collect();
    let mut transaction = pair.open("base");
    let base: Vec<Edit> = base.into_iter().filter(|edit| edit.native(&mut *transaction).is_ok()).collect();
    transaction.publish("").unwrap();
    let overlay = overlay(|lower| {
        let mut union = Union::open(lower, ownership(), owner()).unwrap();
        for edit in &base {
            assert!(edit.overlay(&mut union).is_ok(), "seed {seed}: {edit:?}");
        }
        union.settle().unwrap();
    })?;
    let before = pair.published();
    assert_eq!(on_disk(&overlay.layers.merged), before, "seed {seed}: the base");

    // In every other run no path is touched twice, nor anything above or below one that was.
    let is_plain = seed.is_multiple_of(2);
    let mut touched: Vec<EntryPath> = Vec::new();
    let mut transaction = pair.open("edit");
    let mut union = overlay.union();
    for _ in 0..random.random_range(0..25) {
        let edit = match base.is_empty() || random.random_bool(0.5) {
            true => Edit::random(random),
            false => base[random.random_range(0..base.len())].varied(random),
        };
        let is_related = |path: &&EntryPath| touched.iter().any(|other| path.is_within(other) || other.is_within(path));
        if is_plain && edit.paths().iter().any(is_related) {
            continue;
        }
        touched.extend(edit.paths().into_iter().cloned());
        let native = edit.native(&mut *transaction);
        assert_eq!(edit.overlay(&mut union), native, "seed {seed}: {edit:?}");
        if native.is_err() {
            break;
        }
    }
    union.settle().unwrap();
    let mut native = Vec::new();
    transaction.changes(&mut |change| native.push(change)).unwrap();
    transaction.publish("").unwrap();

    let after = pair.published();
    assert_eq!(on_disk(&overlay.layers.merged), after, "seed {seed}: the outcome");
    let is_net = |change: &&Change| !change.breaks_links || before.get(&change.path) != after.get(&change.path);
    let found = overlay.changes();
    // What was made on the way has the time of its making.
    let described: Vec<Change> =
        found.iter().filter(|change| change.now.as_ref().is_none_or(|now| now.mtime < LATEST)).cloned().collect();
    let reader = pair.sandbox.stratum0.reader(Expiry::Ignore).unwrap();
    let mismatches = verify(&reader, &reader.manifest().root_hash, &described, false).unwrap();
    assert_eq!(mismatches, Mismatches::default(), "seed {seed}");
    let net: Vec<ChangedPath> = found.iter().filter(is_net).map(ChangedPath::from).collect();
    assert_eq!(net, net_effect(&before, &after), "seed {seed}");
    if is_plain {
        let found: Vec<ChangedPath> = found.iter().map(ChangedPath::from).collect();
        assert_eq!(found, native, "seed {seed}");
    }
    Some(())
}

#[test]
fn an_overlay_comes_to_the_same_as_the_native_publisher() {
    for seed in 0..60 {
        if run(seed).is_none() {
            return;
        }
    }
}
