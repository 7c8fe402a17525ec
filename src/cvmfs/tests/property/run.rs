//! Runs a sequence on a repository and on the model side by side.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use super::compare::{Comparison, Seen};
use super::model::{Kind, Model, Node, Refused};
use super::steps::{Edit, Meta, Sequence, Step, What};
use super::{Golden, Tally, auto};
use crate::cvmfs::catalog::Compression;
use crate::cvmfs::edit::{EditError, NewEntry, NewKind, Put};
use crate::cvmfs::hash::{Algorithm, ContentHash};
use crate::cvmfs::ingest::ChunkSizes;
use crate::cvmfs::reader::{Expiry, Reader};
use crate::cvmfs::settings::{self, AutoCatalogs, Settings};
use crate::cvmfs::stratum0::{Draft, GcOptions, Keep, NewTag, RollbackOptions, Stratum0};
use crate::cvmfs::tests::support::{NAME, NOW, Sandbox, age, copy_tree, scratch};
use crate::cvmfs::xattr::Xattrs;

/// How files are stored where nothing else is said.
pub(super) const STORED: (Algorithm, Compression) = (Algorithm::Sha1, Compression::Zlib);

/// So small that small trees are split.
pub(super) const LIMITS: AutoCatalogs = AutoCatalogs { min_weight: 5, max_weight: 16 };

/// Ends the run with what is wrong.
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err(format!($($why)+));
        }
    };
}
pub(super) use ensure;

/// A revision as it must stay.
struct State {
    model: Model,
    root: ContentHash,
}

struct Run<'t> {
    _directory: TempDir,
    stratum0: Stratum0,
    settings: Settings,
    model: Model,
    revision: u64,
    now: i64,
    states: BTreeMap<u64, State>,
    tags: BTreeMap<String, u64>,
    seen: Seen,
    tally: &'t Tally,
}

impl Meta {
    /// The entry with this metadata in the model.
    pub(super) fn node(&self, what: &What, stored: (Algorithm, Compression)) -> Node {
        let file = |bytes: Vec<u8>| Kind::File(bytes.into(), stored.0, stored.1);
        let kind = match what {
            What::Directory => Kind::Directory,
            What::Noise(seed, length) => {
                let mut bytes = vec![0; *length];
                rand_chacha::ChaCha8Rng::seed_from_u64(*seed).fill_bytes(&mut bytes);
                file(bytes)
            }
            What::Lines(seed, length) => file(format!("line of {seed}\n").bytes().cycle().take(*length).collect()),
            What::Text(text) => file(text.0.clone()),
            What::Symlink(target) => Kind::Symlink(target.0.clone()),
            What::Fifo => Kind::Fifo,
            What::Socket => Kind::Socket,
            What::CharacterDevice(device) => Kind::CharacterDevice(*device),
            What::BlockDevice(device) => Kind::BlockDevice(*device),
        };
        let mut xattrs = Xattrs::new();
        for number in 0..self.xattrs.0 {
            let value = vec![self.xattrs.1; usize::from(number) * 100];
            xattrs.set(format!("user.number-{number}").as_bytes(), &value).unwrap();
        }
        Node { kind, permissions: self.permissions, mtime: self.mtime, owner: self.owner, xattrs, group: 0 }
    }
}

/// Runs a sequence; the error says what is wrong. With a directory, the repository is kept there.
pub(super) fn run(
    sequence: &Sequence,
    golden: &Golden,
    tally: &Tally,
    keep: Option<&std::path::Path>,
) -> Result<(), String> {
    let mut run = Run::begin(sequence, golden, tally);
    for step in &sequence.steps {
        run.step(step).map_err(|why| format!("on revision {}: {why}", run.revision))?;
        run.verify()?;
    }
    run.verify_tags()?;
    if let Some(keep) = keep {
        copy_tree(run._directory.path(), keep);
    }
    Ok(())
}

impl<'t> Run<'t> {
    fn begin(sequence: &Sequence, golden: &Golden, tally: &'t Tally) -> Self {
        let (directory, stratum0, model, seen) = if sequence.golden {
            let directory = scratch();
            copy_tree(golden.directory.path(), directory.path());
            let base = directory.path().join(Golden::NAME);
            let stratum0 = Stratum0::at(base.join("storage"), Golden::NAME, base.join("keys"));
            (directory, stratum0, golden.model.clone(), golden.seen.clone())
        } else {
            let Sandbox { directory, stratum0 } = Sandbox::new();
            let model = Model::read(&stratum0.reader(Expiry::Refuse { now: NOW }).unwrap());
            (directory, stratum0, model, Seen::default())
        };
        let auto_catalogs = sequence.auto.then_some(LIMITS);
        let settings = Settings { auto_catalogs, garbage_collection: Some(true), ..Settings::default() };
        let reader = stratum0.reader(Expiry::Refuse { now: NOW }).unwrap();
        let (revision, root) = (reader.manifest().revision, reader.manifest().root_hash);
        let states = BTreeMap::from([(revision, State { model: model.clone(), root })]);
        let tags = BTreeMap::new();
        let run =
            Self { _directory: directory, stratum0, settings, model, revision, now: NOW, states, tags, seen, tally };
        run.store_settings();
        run
    }

    fn store_settings(&self) {
        let path = settings::file(self.stratum0.directory(), self.stratum0.name());
        fs::write(path, self.settings.to_text()).unwrap();
    }

    fn reader(&self) -> Reader {
        self.stratum0.reader(Expiry::Refuse { now: self.now }).unwrap()
    }

    fn stored(&self) -> (Algorithm, Compression) {
        let root = || self.states[&self.revision].root.algorithm();
        (self.settings.algorithm.unwrap_or_else(root), self.settings.compression)
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        self.now += 1;
        match step {
            Step::Publish(edits, tag) => self.publish(edits, *tag),
            Step::Abort(edits) => {
                let (before, mut draft) = (self.model.clone(), self.begin_draft());
                self.edit(&mut draft, edits)?;
                self.model = before;
                self.tally.aborts.add(1);
                Ok(())
            }
            Step::Rollback(to, by_tag) => self.rollback(*to, *by_tag),
            Step::Collect(keep) => self.collect(*keep),
            Step::Settings { algorithm, zlib, chunks } => {
                let algorithms = [None, Some(Algorithm::Sha1), Some(Algorithm::Rmd160), Some(Algorithm::Shake128)];
                self.settings.algorithm = algorithms[usize::from(*algorithm)];
                self.settings.compression = if *zlib { Compression::Zlib } else { Compression::None };
                let sizes = [None, Some((64, 128, 256)), Some((1024, 2048, 4096))][usize::from(*chunks)];
                self.settings.chunking = sizes.map(|(min, average, max)| ChunkSizes { min, average, max });
                self.store_settings();
                Ok(())
            }
        }
    }

    fn begin_draft(&self) -> Draft {
        self.stratum0.begin(self.stratum0.lock().unwrap().unwrap(), self.now).unwrap()
    }

    fn publish(&mut self, edits: &[Edit], tag: bool) -> Result<(), String> {
        let (before, mut draft) = (self.model.clone(), self.begin_draft());
        self.edit(&mut draft, edits)?;
        let dirtab = self.model.apply_dirtab(self.now, self.stored());
        let name = format!("v{}", self.revision + 1);
        let published = draft.commit(tag.then_some(NewTag { name: &name, description: "" }), self.now, &|_| {});
        let Some(marked) = dirtab else {
            ensure!(published.is_err(), "published with a dirtab that makes no sense");
            self.model = before;
            self.tally.failures.add(1);
            return Ok(());
        };
        let manifest = published.map_err(|error| format!("the publish failed: {error}"))?;
        self.tally.by_dirtab.add(marked);
        if self.settings.auto_catalogs.is_some() {
            let (reader, stored) = (self.reader(), self.stored());
            auto::adopt(&mut self.model, &mut reader.tree().unwrap(), self.now, stored, self.tally)?;
        }
        self.publishes(manifest.root_hash);
        if tag {
            self.tags.insert(name, self.revision);
        }
        Ok(())
    }

    fn publishes(&mut self, root: ContentHash) {
        self.revision += 1;
        self.states.insert(self.revision, State { model: self.model.clone(), root });
    }

    fn edit(&mut self, draft: &mut Draft, edits: &[Edit]) -> Result<(), String> {
        self.model.begin();
        for edit in edits {
            let (found, wanted) = match edit {
                Edit::Put(path, what, meta) => {
                    let node = meta.node(what, self.stored());
                    let entry = entry(draft, &node)?;
                    (draft.tree().put(&path.0, &entry), self.model.put(&path.0, node))
                }
                Edit::Link(path, target) => {
                    (draft.tree().link(&path.0, &target.0), self.model.link(&path.0, &target.0))
                }
                Edit::Remove(path) => {
                    let as_put = |removed| if removed { Put::Replaced } else { Put::Unchanged };
                    let removed = draft.tree().remove(&path.0).map(as_put);
                    (removed, self.model.remove(&path.0).map(as_put))
                }
            };
            match (found, wanted) {
                (Err(EditError::Conflict { .. }), Err(Refused)) => self.tally.conflicts.add(1),
                // Of a file that is stored as it is elsewhere, or left its group, more may be written than must be.
                (Ok(Put::Replaced), Ok(Put::Unchanged)) => {}
                (Ok(found), Ok(wanted)) => ensure!(found == wanted, "{edit:?} was {found:?}, not {wanted:?}"),
                (found, wanted) => return Err(format!("{edit:?} was {found:?}, not {wanted:?}")),
            }
            let (Edit::Put(path, ..) | Edit::Link(path, _) | Edit::Remove(path)) = edit;
            let found = draft.tree().lookup(&path.0).map_err(|error| format!("after {edit:?}: {error}"))?;
            let wanted = self.model.nodes.get(&path.0);
            let is_directory = (found.map(|entry| entry.is_directory()), wanted.map(Node::is_directory));
            ensure!(is_directory.0 == is_directory.1, "after {edit:?}: a directory {is_directory:?}");
        }
        Ok(())
    }

    fn rollback(&mut self, to: u64, by_tag: bool) -> Result<(), String> {
        let name = format!("v{}", self.revision + 1);
        let Some(target) = self.states.get(&to) else { return Ok(()) };
        // A sequence that was shortened may lead elsewhere.
        let old = format!("v{to}");
        let by_tag = by_tag && self.tags.get(&old) == Some(&to);
        let to_text = if by_tag { old.clone() } else { to.to_string() };
        if to == self.revision {
            return Ok(());
        }
        let options =
            RollbackOptions { to: &to_text, tag: NewTag { name: &name, description: "back" }, keep_tags: false };
        let lock = self.stratum0.lock().unwrap().unwrap();
        let done = self.stratum0.rollback(lock, options, self.now, &|_| {});
        let done = done.map_err(|error| format!("the rollback failed: {error}"))?;
        self.model = target.model.clone();
        self.publishes(done.manifest.root_hash);
        self.tags.retain(|_, revision| *revision <= to);
        self.tags.insert(name, self.revision);
        if by_tag {
            self.tags.insert(old, self.revision);
            if !self.tags.values().any(|revision| *revision == to) {
                self.states.remove(&to);
            }
        }
        self.tally.rollbacks.add(1);
        Ok(())
    }

    fn collect(&mut self, keep: u64) -> Result<(), String> {
        age(self.stratum0.directory());
        let options = GcOptions { keep: Keep::Revisions(keep), dry_run: false, force: false };
        let lock = self.stratum0.lock().unwrap().unwrap();
        let report = self.stratum0.collect_garbage(lock, options, self.now, &mut |_, _| {}, &|_| {});
        let report = report.map_err(|error| format!("collecting failed: {error}"))?;
        self.tally.collected.add(usize::try_from(report.removed_objects()).unwrap());
        let tagged: Vec<_> = self.tags.values().copied().collect();
        let now = self.revision;
        self.states.retain(|revision, _| tagged.contains(revision) || revision + keep >= now);
        self.verify_tags()
    }

    /// The present revision, and how it hangs on the one before.
    fn verify(&mut self) -> Result<(), String> {
        let reader = self.reader();
        let state = &self.states[&self.revision];
        let at = |why| format!("revision {}: {why}", self.revision);
        let manifest = reader.manifest();
        ensure!(
            (manifest.revision, manifest.root_hash) == (self.revision, state.root),
            "it is at revision {}, not {}",
            manifest.revision,
            self.revision
        );
        let previous = reader.revisions().next().unwrap().map_err(|error| error.to_string())?.previous;
        if let Some(before) = self.states.get(&(self.revision - 1)) {
            ensure!(previous == Some(before.root), "the revision before is {previous:?}");
        }
        let comparison = Comparison { reader: &reader, now: self.now, tally: self.tally };
        comparison.run(&state.model, &state.root, &mut self.seen).map_err(at)
    }

    /// All revisions that tags name, their content read anew.
    fn verify_tags(&mut self) -> Result<(), String> {
        let reader = self.reader();
        let comparison = Comparison { reader: &reader, now: self.now, tally: self.tally };
        let names: Vec<_> = reader.tags().unwrap().into_iter().map(|tag| (tag.name, tag.root_hash)).collect();
        let mut seen = if self.stratum0.name() == NAME { Seen::default() } else { self.seen.clone() };
        for (name, revision) in &self.tags {
            let state = &self.states[revision];
            ensure!(names.contains(&(name.clone(), state.root)), "tag {name} is not at revision {revision}");
            comparison.run(&state.model, &state.root, &mut seen).map_err(|why| format!("tag {name}: {why}"))?;
        }
        let ours = names.iter().filter(|(name, _)| name.starts_with('v')).count();
        ensure!(ours == self.tags.len(), "there are {names:?}, not {:?}", self.tags);
        Ok(())
    }
}

/// Stores the content of an entry, and gives what is put.
fn entry(draft: &mut Draft, node: &Node) -> Result<NewEntry, String> {
    let kind = match &node.kind {
        Kind::Directory => NewKind::Directory,
        Kind::File(bytes, ..) if bytes.len() % 2 == 0 => draft.store(&mut &bytes[..]).unwrap(),
        Kind::File(bytes, ..) => {
            let ticket = draft.send(&mut &Arc::clone(bytes)[..]).unwrap();
            let (done, kind) = draft.next_stored(true).unwrap().ok_or("nothing was stored")?;
            ensure!(done == ticket, "another file was stored");
            kind
        }
        Kind::Symlink(target) => NewKind::Symlink { target: target.clone() },
        Kind::Fifo => NewKind::Fifo,
        Kind::Socket => NewKind::Socket,
        Kind::CharacterDevice(device) => NewKind::CharacterDevice { device: *device },
        Kind::BlockDevice(device) => NewKind::BlockDevice { device: *device },
    };
    Ok(NewEntry {
        kind,
        permissions: node.permissions,
        mtime: node.mtime.0,
        mtime_ns: node.mtime.1,
        uid: node.owner.0,
        gid: node.owner.1,
        xattrs: node.xattrs.clone(),
    })
}
