//! The model: a plain tree in memory, and what editing it means.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::rules;
use crate::cvmfs::Error;
use crate::cvmfs::catalog::{Compression, Flags, join, split};
use crate::cvmfs::edit::{AUTO_MARKER, DIRTAB, MARKER, Put};
use crate::cvmfs::hash::Algorithm;
use crate::cvmfs::reader::Reader;
use crate::cvmfs::xattr::Xattrs;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    /// Its content, and how the objects of it are stored.
    File(Arc<[u8]>, Algorithm, Compression),
    Symlink(Vec<u8>),
    Fifo,
    Socket,
    CharacterDevice(u64),
    BlockDevice(u64),
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) permissions: u32,
    pub(super) mtime: (i64, Option<u32>),
    pub(super) owner: (u32, u32),
    pub(super) xattrs: Xattrs,
    /// Which entries of the same directory are hard links of it. Who is alone in a group is no hard link.
    pub(super) group: u64,
}

impl Node {
    pub(super) fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File(..))
    }

    fn is_same(&self, other: &Self) -> bool {
        Self { group: other.group, ..self.clone() } == *other
    }
}

/// An edit that must be refused, and change nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// A tree, by path. Each directory's path begins with that of the one it is in, so a subtree is a range.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) nodes: BTreeMap<Vec<u8>, Node>,
    last_group: u64,
    /// What links of this change set are other names of.
    origins: HashMap<Vec<u8>, Vec<u8>>,
    /// The newest copy that they made in a directory of one file.
    copies: HashMap<(Vec<u8>, Vec<u8>), Vec<u8>>,
}

impl Model {
    /// The tree of a repository that is trusted.
    pub(super) fn read(reader: &Reader) -> Self {
        let (mut model, mut tree, mut found) = (Self::default(), reader.tree().unwrap(), Vec::new());
        let visit = |path: &[u8], entry: &_| -> Result<(), Error> {
            found.push((path.to_vec(), crate::cvmfs::catalog::Entry::clone(entry)));
            Ok(())
        };
        tree.walk(b"", visit).unwrap();
        let mut groups = HashMap::new();
        for (path, entry) in found {
            let kind = match entry.mode & 0o170_000 {
                0o040_000 => Kind::Directory,
                0o120_000 => Kind::Symlink(entry.symlink.clone()),
                0o100_000 => {
                    let mut bytes = Vec::new();
                    std::io::Read::read_to_end(&mut tree.file(&path).unwrap(), &mut bytes).unwrap();
                    Kind::File(bytes.into(), entry.algorithm().unwrap(), entry.compression().unwrap())
                }
                other => panic!("an entry of type {other:o}"),
            };
            let directory = split(&path).map(|(directory, _)| directory.to_vec());
            let group = match entry.hardlink_group() {
                0 => model.new_group(),
                group => *groups.entry((directory, group)).or_insert_with(|| model.new_group()),
            };
            assert!(!entry.flags.has(Flags::HIDDEN | Flags::BIND_MOUNTPOINT));
            let node = Node {
                kind,
                permissions: entry.permissions(),
                mtime: (entry.mtime, entry.mtime_ns),
                owner: (entry.uid, entry.gid),
                xattrs: entry.xattrs().unwrap(),
                group,
            };
            model.nodes.insert(path, node);
        }
        model
    }

    /// Begins a change set.
    pub(super) fn begin(&mut self) {
        self.origins.clear();
        self.copies.clear();
    }

    pub(super) fn is_directory(&self, path: &[u8]) -> bool {
        self.nodes.get(path).is_some_and(Node::is_directory)
    }

    /// The entries below a directory.
    pub(super) fn below(&self, directory: &[u8]) -> impl Iterator<Item = (&Vec<u8>, &Node)> {
        let first = if directory.is_empty() { Vec::new() } else { [directory, b"/"].concat() };
        let nodes = self.nodes.range(first.clone()..).filter(|(path, _)| !path.is_empty());
        nodes.take_while(move |(path, _)| path.starts_with(&first))
    }

    pub(super) fn put(&mut self, path: &[u8], mut new: Node) -> Result<Put, Refused> {
        if matches!(new.kind, Kind::Symlink(_)) {
            new.permissions = 0o777;
        }
        if path.is_empty() && !new.is_directory() {
            return Err(Refused);
        }
        self.check_place(path, &new)?;
        let Some(old) = self.nodes.get(path).cloned() else {
            new.group = self.new_group();
            self.nodes.insert(path.to_vec(), new);
            return Ok(Put::Added);
        };
        if old.is_same(&new) && (old.is_directory() || self.links(path) == 1) {
            return Ok(Put::Unchanged);
        }
        if !(old.is_directory() && new.is_directory()) {
            self.take(path);
        }
        new.group = self.new_group();
        self.nodes.insert(path.to_vec(), new);
        Ok(Put::Replaced)
    }

    pub(super) fn link(&mut self, path: &[u8], target: &[u8]) -> Result<Put, Refused> {
        let file = self.nodes.get(target).filter(|node| !node.is_directory()).cloned().ok_or(Refused)?;
        self.check_place(path, &file)?;
        let Some((directory, _)) = split(path) else { return Err(Refused) };
        if path == target {
            return Ok(Put::Unchanged);
        }
        let is_here = |path: &[u8]| split(path).is_some_and(|(home, _)| home == directory);
        let is_it = |path: &Vec<u8>| self.nodes.get(path).is_some_and(|node| node.is_same(&file));
        let origin = self.origins.get(target).filter(|path| is_it(path)).cloned().unwrap_or_else(|| target.to_vec());
        if origin == path {
            return Ok(Put::Unchanged);
        }
        let key = (origin.clone(), directory.to_vec());
        let first = [target, &origin].into_iter().find(|path| is_here(path)).map(<[u8]>::to_vec);
        let first = first.or_else(|| self.copies.get(&key).cloned()).filter(is_it);
        if first.as_deref() == Some(path) {
            return Ok(Put::Unchanged);
        }
        let old = self.nodes.get(path).cloned();
        let group = match &first {
            Some(first) => self.nodes[first].group,
            None => {
                self.copies.insert(key, path.to_vec());
                self.new_group()
            }
        };
        self.origins.insert(path.to_vec(), origin);
        let is_there = match &old {
            Some(old) if first.is_some() => old.group == group,
            // A copy that is there already.
            Some(old) => old.is_same(&file) && self.links(path) == 1,
            None => false,
        };
        if is_there {
            return Ok(Put::Unchanged);
        }
        self.take(path);
        self.nodes.insert(path.to_vec(), Node { group, ..file });
        Ok(if old.is_some() { Put::Replaced } else { Put::Added })
    }

    pub(super) fn remove(&mut self, path: &[u8]) -> Result<bool, Refused> {
        if path.is_empty() {
            return Err(Refused);
        }
        Ok(self.take(path))
    }

    /// Adds the markers that the rules ask for; `None` if the rules make no sense.
    pub(super) fn apply_dirtab(&mut self, now: i64, stored: (Algorithm, Compression)) -> Option<usize> {
        let Some(Node { kind: Kind::File(text, ..), .. }) = self.nodes.get(DIRTAB) else { return Some(0) };
        let rules = rules::parse(text)?;
        let wanted = |path: &&Vec<u8>| {
            !path.is_empty() && rules::ask_for(&rules, path) && !self.nodes.contains_key(&join(path, MARKER))
        };
        let directories: Vec<_> = self.directories().filter(wanted).cloned().collect();
        directories.iter().for_each(|directory| self.mark(directory, MARKER, now, stored));
        Some(directories.len())
    }

    /// Puts an empty file as CernVM-FS does.
    pub(super) fn mark(&mut self, directory: &[u8], name: &[u8], now: i64, stored: (Algorithm, Compression)) {
        let kind = Kind::File(Arc::from([]), stored.0, stored.1);
        let (owner, xattrs) = (self.nodes[directory].owner, Xattrs::new());
        let group = self.new_group();
        let node = Node { kind, permissions: 0o644, mtime: (now, None), owner, xattrs, group };
        self.nodes.insert(join(directory, name), node);
    }

    /// The directories where nested catalogs begin.
    pub(super) fn mounts(&self) -> BTreeSet<Vec<u8>> {
        let markers = self.nodes.iter().filter(|(_, node)| node.is_file()).filter_map(|(path, _)| split(path));
        markers.filter(|(home, name)| !home.is_empty() && *name == MARKER).map(|(home, _)| home.to_vec()).collect()
    }

    pub(super) fn has_auto_marker(&self, directory: &[u8]) -> bool {
        self.nodes.contains_key(&join(directory, AUTO_MARKER))
    }

    pub(super) fn directories(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.nodes.iter().filter(|(_, node)| node.is_directory()).map(|(path, _)| path)
    }

    /// The entries of a directory that stand in its catalog, with the directory itself and the directories where others
    /// begin.
    pub(super) fn weight(&self, directory: &[u8], mounts: &BTreeSet<Vec<u8>>) -> u64 {
        let is_elsewhere = |path: &[u8]| {
            let mut above = split(path).map(|(home, _)| home);
            while let Some(home) = above.filter(|home| home.len() > directory.len()) {
                if mounts.contains(home) {
                    return true;
                }
                above = split(home).map(|(home, _)| home);
            }
            false
        };
        1 + self.below(directory).filter(|(path, _)| !is_elsewhere(path)).count() as u64
    }

    /// Links to each file and directory.
    pub(super) fn link_counts(&self) -> HashMap<&[u8], u32> {
        let (mut files, mut directories) = (HashMap::<_, u32>::new(), HashMap::<_, u32>::new());
        for (path, node) in &self.nodes {
            if !node.is_directory() {
                *files.entry(node.group).or_default() += 1;
            } else if let Some((home, _)) = split(path) {
                *directories.entry(home).or_default() += 1;
            }
        }
        let links = |path: &[u8], node: &Node| match node.is_directory() {
            true => 2 + directories.get(path).copied().unwrap_or(0),
            false => files[&node.group],
        };
        self.nodes.iter().map(|(path, node)| (&path[..], links(path, node))).collect()
    }

    fn links(&self, path: &[u8]) -> usize {
        let Some((directory, _)) = split(path) else { return 1 };
        let group = self.nodes[path].group;
        self.below(directory).filter(|(_, node)| node.group == group).count()
    }

    fn check_place(&self, path: &[u8], node: &Node) -> Result<(), Refused> {
        let Some((home, name)) = split(path) else { return Ok(()) };
        let is_name = !matches!(name, b"" | b"." | b"..") && !name.contains(&0) && name.len() <= 255;
        let is_name = is_name && !path.starts_with(b"/") && (name != MARKER || node.is_file());
        if is_name && self.is_directory(home) { Ok(()) } else { Err(Refused) }
    }

    /// Removes an entry with all below it; tells whether it was there.
    pub(super) fn take(&mut self, path: &[u8]) -> bool {
        let below: Vec<_> = self.below(path).map(|(path, _)| path.clone()).collect();
        below.iter().for_each(|path| drop(self.nodes.remove(path)));
        self.nodes.remove(path).is_some()
    }

    fn new_group(&mut self) -> u64 {
        self.last_group += 1;
        self.last_group
    }
}
