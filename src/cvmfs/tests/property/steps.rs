//! What a sequence does, made from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::model::Model;
use crate::cvmfs::catalog::{join, split};
use crate::cvmfs::edit::{AUTO_MARKER, DIRTAB, MARKER};

/// A path or a name, shown with what is odd in it escaped.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Path(pub(super) Vec<u8>);

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// What is put.
#[derive(Debug, Clone)]
pub(super) enum What {
    Directory,
    /// Content by seed and length: noise, or a repeated line.
    Noise(u64, usize),
    Lines(u64, usize),
    Text(Path),
    Symlink(Path),
    Fifo,
    Socket,
    CharacterDevice(u64),
    BlockDevice(u64),
}

/// Metadata, as numbers of a few choices.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    pub(super) permissions: u32,
    pub(super) mtime: (i64, Option<u32>),
    pub(super) owner: (u32, u32),
    /// How many extended attributes, and the seed of their values.
    pub(super) xattrs: (u8, u8),
}

#[derive(Debug, Clone)]
pub(super) enum Edit {
    Put(Path, What, Meta),
    Link(Path, Path),
    Remove(Path),
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A change set, with a tag or without.
    Publish(Vec<Edit>, bool),
    /// A change set that is dropped.
    Abort(Vec<Edit>),
    /// Back to a revision, named by one of its tags or by its number.
    Rollback(u64, bool),
    /// Collects all but the newest revisions and those with tags.
    Collect(u64),
    /// Publishes in another way from now on.
    Settings { algorithm: u8, zlib: bool, chunks: u8 },
}

/// A whole sequence. Shown with a line for each edit.
#[derive(Clone)]
pub(super) struct Sequence {
    /// Goes on with what the real tools made.
    pub(super) golden: bool,
    /// Splits and merges catalogs by their size.
    pub(super) auto: bool,
    pub(super) steps: Vec<Step>,
}

impl fmt::Debug for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "golden: {}, auto: {}", self.golden, self.auto)?;
        for step in &self.steps {
            match step {
                Step::Publish(edits, _) | Step::Abort(edits) => {
                    let dropped = if matches!(step, Step::Abort(_)) { ", dropped" } else { "" };
                    writeln!(f, "change set of {}{dropped}", edits.len())?;
                    edits.iter().try_for_each(|edit| writeln!(f, "    {edit:?}"))?;
                }
                step => writeln!(f, "{step:?}")?,
            }
        }
        Ok(())
    }
}

/// Names, few of them, so that edits meet.
const NAMES: [&[u8]; 20] = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"e",
    b"f",
    b"sw",
    b"lib",
    b"a.b",
    b"a b",
    b"new\nline",
    b"\xff\xfe\x80",
    b"'quote\"",
    b"*",
    b"?[x]",
    b"back\\slash",
    b"%41$(HOME)",
    "ünï".as_bytes(),
    b".hidden",
    &[b'x'; 255],
];

const RULES: [&str; 9] = ["/*", "/a", "/sw/*", "/*/a", "/*/*/b", "! */c", "!/a*", "# no rule", "/?/\\*"];

struct Generator {
    rng: ChaCha8Rng,
    model: Model,
    last_link: Option<(Path, Path)>,
}

impl Sequence {
    pub(super) fn of_seed(seed: u64, golden: &Model) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let is_golden = seed % 40 == 7;
        let auto = !is_golden && rng.random_ratio(1, 3);
        let mut model = golden.clone();
        if !is_golden {
            model.nodes.retain(|path, _| path.is_empty());
        }
        let mut generator = Generator { rng, model, last_link: None };
        let steps = generator.steps(if is_golden { 3 } else { 1 });
        Self { golden: is_golden, auto, steps }
    }
}

impl Generator {
    fn steps(&mut self, mut revision: u64) -> Vec<Step> {
        let (mut steps, mut states, mut tagged) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        let publishes = self.rng.random_range(5..=10);
        steps.push(self.settings());
        for _ in 0..publishes {
            let before = self.model.clone();
            let edits = self.edits();
            if self.rng.random_ratio(1, 12) {
                steps.push(Step::Abort(edits));
                self.model = before;
                continue;
            }
            let tag = self.rng.random_ratio(1, 2);
            steps.push(Step::Publish(edits, tag));
            // With rules that make no sense it fails.
            if self.model.apply_dirtab(0, super::run::STORED).is_none() {
                self.model = before;
            } else {
                revision += 1;
                states.insert(revision, self.model.clone());
                if tag {
                    tagged.insert(revision);
                }
            }
            match self.rng.random_range(0..20) {
                0 | 1 if states.len() > 1 => {
                    let old: Vec<_> = states.keys().copied().filter(|old| *old != revision).collect();
                    let target = old[self.rng.random_range(0..old.len())];
                    let by_tag = tagged.contains(&target) && self.rng.random_bool(0.5);
                    steps.push(Step::Rollback(target, by_tag));
                    self.model = states[&target].clone();
                    tagged.retain(|revision| *revision <= target);
                    revision += 1;
                    states.insert(revision, self.model.clone());
                    tagged.insert(revision);
                    if by_tag {
                        // Its tag went on: after a collection nothing leads to it.
                        tagged.remove(&target);
                        states.remove(&target);
                    }
                }
                2 => {
                    let keep = self.rng.random_range(0..3);
                    steps.push(Step::Collect(keep));
                    states.retain(|old, _| tagged.contains(old) || *old + keep >= revision);
                }
                3 | 4 => steps.push(self.settings()),
                _ => {}
            }
        }
        steps
    }

    fn settings(&mut self) -> Step {
        let (algorithm, chunks) = (self.rng.random_range(0..4), self.rng.random_range(0..3));
        Step::Settings { algorithm, zlib: self.rng.random(), chunks }
    }

    fn edits(&mut self) -> Vec<Edit> {
        let count = match self.rng.random_range(0..10) {
            0 => 0,
            1..=7 => self.rng.random_range(1..=12),
            _ => self.rng.random_range(12..=40),
        };
        self.model.begin();
        let mut edits = Vec::new();
        for _ in 0..count {
            let edit = self.edit();
            self.note(&edit);
            edits.push(edit);
        }
        // A directory grows, and one shrinks, so that catalogs are split and merged.
        if self.rng.random_ratio(1, 4) {
            let (directory, meta) = (self.directory(), self.meta());
            let count = self.rng.random_range(5..20);
            edits.extend((0..count).map(|number| {
                let path = join(&directory, format!("file-{number}").as_bytes());
                Edit::Put(Path(path), What::Noise(0, 10), meta)
            }));
        }
        if self.rng.random_ratio(1, 4) {
            let directory = self.directory();
            let files = self.model.below(&directory).filter(|(path, node)| node.is_file() && !path.ends_with(MARKER));
            edits.extend(files.map(|(path, _)| Edit::Remove(Path(path.clone()))));
        }
        let start = usize::min(count, edits.len());
        edits[start..].iter().for_each(|edit| self.note(edit));
        edits
    }

    /// Does to the model what an edit does; some must be refused.
    fn note(&mut self, edit: &Edit) {
        match edit {
            Edit::Put(path, what, meta) => drop(self.model.put(&path.0, meta.node(what, super::run::STORED))),
            Edit::Link(path, target) => drop(self.model.link(&path.0, &target.0)),
            Edit::Remove(path) => drop(self.model.remove(&path.0)),
        }
    }

    fn edit(&mut self) -> Edit {
        let meta = self.meta();
        match self.rng.random_range(0..100) {
            0..26 => Edit::Put(self.new_path(), self.file(), meta),
            26..44 => Edit::Put(self.new_path(), What::Directory, meta),
            44..52 => {
                let path = join(&self.directory(), MARKER);
                Edit::Put(Path(path), What::Text(Path(Vec::new())), meta)
            }
            52..56 => match self.one_of(|path| path.ends_with(MARKER)) {
                Some(path) if self.rng.random_ratio(2, 3) => Edit::Remove(Path(path)),
                Some(path) => Edit::Put(Path(path), self.anything(), meta),
                None => Edit::Put(self.new_path(), What::Directory, meta),
            },
            56..65 => Edit::Remove(Path(self.existing())),
            65..74 => {
                let name = self.name();
                // Several links of one file meet in a directory.
                if let Some((path, target)) = self.last_link.clone().filter(|_| self.rng.random()) {
                    let home = split(&path.0).map_or(&b""[..], |(home, _)| home);
                    return Edit::Link(Path(join(home, &name)), target);
                }
                let target = self.existing();
                let path = match split(&target) {
                    Some((home, _)) if self.rng.random_ratio(2, 3) => Path(join(home, &name)),
                    _ if self.rng.random_ratio(1, 4) => Path(self.existing()),
                    _ => self.new_path(),
                };
                self.last_link = Some((path.clone(), Path(target.clone())));
                Edit::Link(path, Path(target))
            }
            74..79 => Edit::Put(self.new_path(), What::Symlink(Path(self.name())), meta),
            79..82 => Edit::Put(self.new_path(), self.special(), meta),
            82..87 => Edit::Put(Path(self.existing()), self.anything(), meta),
            87..91 => Edit::Put(Path(self.directory()), What::Directory, meta),
            91..94 => Edit::Put(Path(DIRTAB.to_vec()), self.dirtab(), meta),
            94 => Edit::Remove(Path(DIRTAB.to_vec())),
            95 => Edit::Remove(Path(join(&self.directory(), AUTO_MARKER))),
            96 => Edit::Remove(Path(self.directory())),
            97 => Edit::Put(Path(join(&join(&self.existing(), b"none"), b"x")), self.anything(), meta),
            98 => {
                let name: &[u8] = [&b""[..], b".", b"..", &[b'y'; 256], b"n\0l"][self.rng.random_range(0..5)];
                Edit::Put(Path([&self.directory(), &b"/"[..], name].concat()), self.anything(), meta)
            }
            _ => Edit::Link(self.new_path(), Path(b"is/not/there".to_vec())),
        }
    }

    fn dirtab(&mut self) -> What {
        if self.rng.random_ratio(1, 8) {
            return What::Text(Path(b"/a\nnonsense".to_vec()));
        }
        let count = self.rng.random_range(0..4);
        let lines: Vec<_> = (0..count).map(|_| RULES[self.rng.random_range(0..RULES.len())]).collect();
        What::Text(Path(lines.join("\n").into_bytes()))
    }

    fn anything(&mut self) -> What {
        match self.rng.random_range(0..4) {
            0 => What::Directory,
            1 => What::Symlink(Path(self.name())),
            2 => self.special(),
            _ => self.file(),
        }
    }

    fn special(&mut self) -> What {
        match self.rng.random_range(0..4) {
            0 => What::Fifo,
            1 => What::Socket,
            2 => What::CharacterDevice(0x103),
            _ => What::BlockDevice(0x8_0012),
        }
    }

    fn file(&mut self) -> What {
        let seed = self.rng.random_range(0..6);
        let length = match self.rng.random_range(0..10) {
            0 => 0,
            1..=6 => self.rng.random_range(1..100),
            7 => 2048,
            _ => self.rng.random_range(1000..20_000),
        };
        if self.rng.random() { What::Noise(seed, length) } else { What::Lines(seed, length) }
    }

    fn meta(&mut self) -> Meta {
        let permissions = [0o644, 0o755, 0o4755, 0o2775, 0o1777, 0o600, 0][self.rng.random_range(0..7)];
        let mtime = [0, 1, 1_700_000_000, -1, 5_000_000_000][self.rng.random_range(0..5)];
        let nanoseconds = [None, None, Some(0), Some(999_999_999)][self.rng.random_range(0..4)];
        let owner = [(0, 0), (1, 2), (1000, 1000), (u32::MAX - 1, 65_534)][self.rng.random_range(0..4)];
        let xattrs = ([0, 0, 0, 1, 3][self.rng.random_range(0..5)], self.rng.random_range(0..3));
        Meta { permissions, mtime: (mtime, nanoseconds), owner, xattrs }
    }

    fn name(&mut self) -> Vec<u8> {
        // Plain ones mostly.
        let most = if self.rng.random_ratio(3, 4) { 8 } else { NAMES.len() };
        NAMES[self.rng.random_range(0..most)].to_vec()
    }

    fn new_path(&mut self) -> Path {
        let directory = self.directory();
        Path(join(&directory, &self.name()))
    }

    fn directory(&mut self) -> Vec<u8> {
        let directories: Vec<_> = self.model.directories().collect();
        directories[self.rng.random_range(0..directories.len())].clone()
    }

    fn existing(&mut self) -> Vec<u8> {
        self.one_of(|_| true).unwrap()
    }

    fn one_of(&mut self, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let paths: Vec<_> = self.model.nodes.keys().filter(|path| wanted(path)).collect();
        (!paths.is_empty()).then(|| paths[self.rng.random_range(0..paths.len())].clone())
    }
}
