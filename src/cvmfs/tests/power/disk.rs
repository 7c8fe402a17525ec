//! A disk on which only what was synced is sure to survive a power cut.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cvmfs::durable::barrier;

/// A file or directory, whatever its name: numbers of inodes are used again, their time of birth is not.
type Inode = (u64, SystemTime);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File(Rc<Vec<u8>>),
    Directory(BTreeMap<String, Inode>),
}

/// Everything below a directory at one moment.
#[derive(Debug, Clone)]
struct Image {
    root: Inode,
    nodes: HashMap<Inode, Node>,
}

/// Files with their contents, directories with `None`: what is there after a cut.
pub(super) type Survivors = BTreeMap<PathBuf, Option<Rc<Vec<u8>>>>;

/// A moment at which the power was cut, and one way in which that can end.
pub(super) struct Cut {
    pub(super) when: String,
    pub(super) survivors: Survivors,
}

/// What survives of that which was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Luck {
    /// Nothing. A file whose name was synced and its bytes not has its length, and zeros.
    None,
    /// All names and lengths, no bytes.
    Names,
    /// All bytes of files whose names were synced.
    Bytes,
    /// Everything, as after a kill.
    All,
    /// Any of it.
    Some(u64),
}

/// Says of a path below the root that it is not synced though it should be, or of `everything`.
pub(super) type LeftOut = fn(&str) -> bool;

/// How many random outcomes are tried at each moment.
const RANDOM: u64 = 3;

/// The moment after which a cut must leave the new revision.
pub(super) const END: &str = "the end";

fn inode(metadata: &fs::Metadata) -> Inode {
    (metadata.ino(), metadata.created().unwrap())
}

impl Image {
    fn of(root: &Path) -> Self {
        let mut nodes = HashMap::new();
        for entry in walkdir::WalkDir::new(root) {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            let node = if metadata.is_dir() {
                let children = fs::read_dir(entry.path()).unwrap().map(Result::unwrap);
                let named =
                    |child: fs::DirEntry| (child.file_name().into_string().unwrap(), inode(&child.metadata().unwrap()));
                Node::Directory(children.map(named).collect())
            } else {
                Node::File(Rc::new(fs::read(entry.path()).unwrap()))
            };
            nodes.insert(inode(&metadata), node);
        }
        Self { root: inode(&fs::metadata(root).unwrap()), nodes }
    }

    fn entries(&self, directory: Inode) -> BTreeMap<String, Inode> {
        match self.nodes.get(&directory) {
            Some(Node::Directory(entries)) => entries.clone(),
            _ => BTreeMap::new(),
        }
    }
}

/// The disk: what is on it for sure, and how it looked at each barrier.
pub(super) struct Disk {
    root: PathBuf,
    durable: Image,
    cuts: Vec<Cut>,
    /// A planted bug: the syncs that are left out, by path below the root.
    left_out: LeftOut,
    barriers: usize,
}

impl Disk {
    /// Everything below `root` is on the disk; from now on, only what this thread syncs.
    pub(super) fn watch(root: &Path, left_out: LeftOut) -> Rc<RefCell<Self>> {
        let durable = Image::of(root);
        let disk = Self { root: root.to_owned(), durable, cuts: Vec::new(), left_out, barriers: 0 };
        let disk = Rc::new(RefCell::new(disk));
        let watching = Rc::clone(&disk);
        barrier::observe(Some(Box::new(move |paths| watching.borrow_mut().passed(paths))));
        disk
    }

    /// Ends watching; gives every outcome of a cut, the last of them being those after the end.
    pub(super) fn cuts(disk: &RefCell<Self>) -> Vec<Cut> {
        barrier::observe(None);
        let mut disk = disk.borrow_mut();
        disk.cut(END);
        std::mem::take(&mut disk.cuts)
    }

    fn passed(&mut self, paths: Option<&BTreeSet<PathBuf>>) {
        self.barriers += 1;
        self.cut(&format!("before barrier {}", self.barriers));
        let now = Image::of(&self.root);
        let Some(paths) = paths else {
            if !(self.left_out)("everything") {
                self.durable = now;
            }
            return;
        };
        for path in paths {
            // What lies elsewhere is not this disk's.
            let Ok(shown) = path.strip_prefix(&self.root) else { continue };
            if !(self.left_out)(shown.to_str().unwrap()) {
                let synced = inode(&fs::metadata(path).unwrap());
                self.durable.nodes.insert(synced, now.nodes[&synced].clone());
            }
        }
    }

    /// Cuts the power now, in every way.
    fn cut(&mut self, when: &str) {
        let now = Image::of(&self.root);
        let first = 100 * self.cuts.len() as u64;
        let random = (0..RANDOM).map(|seed| Luck::Some(first + seed));
        for luck in [Luck::None, Luck::Names, Luck::Bytes, Luck::All].into_iter().chain(random) {
            let mut outcome = Outcome::new(&self.durable, &now, luck);
            outcome.directory(self.durable.root, Path::new(""));
            let when = format!("{when}, of what was not synced survives: {luck:?}");
            // The same outcome again says nothing new, but that it must not be there after the end.
            let known = self.cuts.iter().any(|cut| cut.survivors == outcome.survivors);
            if !known || when.starts_with(END) {
                self.cuts.push(Cut { when, survivors: outcome.survivors });
            }
        }
    }
}

/// Works out what is there after a cut.
struct Outcome<'a> {
    durable: &'a Image,
    now: &'a Image,
    luck: Luck,
    random: ChaCha8Rng,
    /// Entries that survive though they were not synced, and removals that do.
    chosen: HashMap<Inode, BTreeMap<String, Inode>>,
    survivors: Survivors,
}

impl<'a> Outcome<'a> {
    fn new(durable: &'a Image, now: &'a Image, luck: Luck) -> Self {
        let seed = if let Luck::Some(seed) = luck { seed } else { 0 };
        let random = ChaCha8Rng::seed_from_u64(seed);
        let mut outcome = Self { durable, now, luck, random, chosen: HashMap::new(), survivors: BTreeMap::new() };
        outcome.choose_entries();
        outcome
    }

    /// Each name by itself is as it was or as it is. Only a rename is one step, as on every journalling file system: the
    /// old name does not go before the new one is there.
    fn choose_entries(&mut self) {
        let mut directories: Vec<_> = self.durable.nodes.keys().chain(self.now.nodes.keys()).copied().collect();
        directories.sort_unstable();
        directories.dedup();
        let mut arrived = BTreeSet::new();
        let mut removals = Vec::new();
        for directory in directories {
            let (before, after) = (self.durable.entries(directory), self.now.entries(directory));
            let names: BTreeSet<_> = before.keys().chain(after.keys()).cloned().collect();
            let mut entries = before.clone();
            for name in names {
                match (before.get(&name), after.get(&name)) {
                    (old, Some(new)) if old != Some(new) && self.name_survives() => {
                        arrived.insert(*new);
                        entries.insert(name, *new);
                    }
                    (Some(old), None) if self.name_survives() => removals.push((directory, name, *old)),
                    _ => {}
                }
            }
            self.chosen.insert(directory, entries);
        }
        let still_named: BTreeSet<_> = self
            .now
            .nodes
            .values()
            .filter_map(|node| if let Node::Directory(entries) = node { Some(entries.values()) } else { None })
            .flatten()
            .copied()
            .collect();
        for (directory, name, inode) in removals {
            if !still_named.contains(&inode) || arrived.contains(&inode) {
                self.chosen.get_mut(&directory).unwrap().remove(&name);
            }
        }
    }

    fn name_survives(&mut self) -> bool {
        match self.luck {
            Luck::None | Luck::Bytes => false,
            Luck::Names | Luck::All => true,
            Luck::Some(_) => self.random.random(),
        }
    }

    fn directory(&mut self, directory: Inode, path: &Path) {
        for (name, inode) in self.chosen.remove(&directory).unwrap_or_default() {
            let path = path.join(name);
            let node = self.now.nodes.get(&inode).or_else(|| self.durable.nodes.get(&inode));
            match node {
                Some(Node::File(_)) => {
                    let content = self.content(inode);
                    self.survivors.insert(path, Some(content));
                }
                _ => {
                    self.survivors.insert(path.clone(), None);
                    self.directory(inode, &path);
                }
            }
        }
    }

    fn content(&mut self, inode: Inode) -> Rc<Vec<u8>> {
        let of = |image: &Image| match image.nodes.get(&inode) {
            Some(Node::File(content)) => Some(Rc::clone(content)),
            _ => None,
        };
        let synced = of(self.durable);
        // Without a name any more, it does not change: what was synced is what a name that came back shows.
        let Some(kept) = of(self.now) else { return synced.unwrap_or_default() };
        if synced.as_ref() == Some(&kept) {
            return kept;
        }
        let zeros = Rc::new(vec![0; kept.len()]);
        let lost = synced.unwrap_or_else(|| Rc::clone(&zeros));
        match self.luck {
            Luck::None | Luck::Names => lost,
            Luck::Bytes | Luck::All => kept,
            Luck::Some(_) => match self.random.random_range(0..4) {
                0 => lost,
                1 => kept,
                2 => zeros,
                _ => Rc::new(kept[..self.random.random_range(0..=kept.len())].to_vec()),
            },
        }
    }
}

/// Makes the files that survived a cut.
pub(super) fn restore(survivors: &Survivors, target: &Path) {
    for (path, content) in survivors {
        match content {
            None => fs::create_dir(target.join(path)).unwrap(),
            Some(content) => fs::write(target.join(path), &**content).unwrap(),
        }
    }
}
