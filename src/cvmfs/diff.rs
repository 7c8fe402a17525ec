//! What changed between two revisions (`cvmfs/catalog_diff_tool_impl.h`).

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use super::Error;
use super::catalog::{Catalog, Entry, Flags, NestedCatalog, join};
use super::hash::ContentHash;
use super::reader::Reader;
use super::tree::Tree;

/// In what an entry differs from its former self.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aspect {
    /// A file became a directory, or the like. Further aspects are not compared then.
    Type,
    /// The objects that hold a file's content. The same bytes, stored in other pieces or under another algorithm, are
    /// other objects. Of a bind mount point it is the catalog mounted, of a device its number.
    Content,
    /// Bytes of content; that of links and directories is no aspect of its own.
    Size,
    /// The target of a symbolic link.
    Target,
    /// The permission bits.
    Mode,
    /// User or group.
    Owner,
    /// The time, with its nanoseconds.
    Mtime,
    /// The extended attributes.
    Xattrs,
    /// The number of hard links; for a directory, that of the directories in it.
    Links,
}

impl Aspect {
    /// Its name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Content => "content",
            Self::Size => "size",
            Self::Target => "target",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Mtime => "mtime",
            Self::Xattrs => "xattrs",
            Self::Links => "links",
        }
    }
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One path that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The path, without leading slash.
    pub path: Vec<u8>,
    /// What became of it.
    pub kind: ChangeKind,
}

/// What became of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added(Box<Entry>),
    /// It is gone.
    Removed(Box<Entry>),
    /// It is another.
    Modified {
        /// What it was.
        from: Box<Entry>,
        /// What it is.
        to: Box<Entry>,
        /// In what they differ; never empty.
        aspects: Vec<Aspect>,
    },
}

/// Lists what changed from one revision to another, given their root catalogs. Directories come before what is in them,
/// entries of a directory sorted by name. Hidden entries are left out.
///
/// Nested catalogs that are the same on both sides are not opened, so that the cost grows with the catalogs that changed.
/// Where catalogs begin and end is not a change. An error of `sink` ends it.
pub fn diff(
    reader: &Reader,
    from: &ContentHash,
    to: &ContentHash,
    sink: &mut dyn FnMut(Change) -> Result<(), Error>,
) -> Result<(), Error> {
    if from == to {
        return Ok(());
    }
    let mut diff = Diff { trees: [reader.tree_at(from)?, reader.tree_at(to)?], sink, pending: Vec::new() };
    let root = |tree: &Tree<'_>| -> Result<Option<Item>, Error> {
        let catalog = tree.root();
        let entry = catalog.lookup(b"")?;
        let entry = entry.ok_or_else(|| Error::malformed("a root catalog", "it has no root directory"))?;
        Ok(Some(Item { entry, catalog }))
    };
    let (old, new) = (root(&diff.trees[0])?, root(&diff.trees[1])?);
    diff.compare(Vec::new(), [old, new])?;
    while let Some((path, items)) = diff.next() {
        diff.compare(path, items)?;
    }
    Ok(())
}

/// An entry, and the catalog that it stands in.
struct Item {
    entry: Entry,
    catalog: Rc<Catalog>,
}

/// What is left of a directory on one side.
struct Side {
    entries: VecDeque<Entry>,
    catalog: Rc<Catalog>,
}

/// A directory in work.
struct Listing {
    path: Vec<u8>,
    sides: [Option<Side>; 2],
}

struct Diff<'r, 's> {
    trees: [Tree<'r>; 2],
    sink: &'s mut dyn FnMut(Change) -> Result<(), Error>,
    /// The directory in work, behind those that led to it.
    pending: Vec<Listing>,
}

impl Diff<'_, '_> {
    /// The next path in order, with what is there on both sides.
    fn next(&mut self) -> Option<(Vec<u8>, [Option<Item>; 2])> {
        loop {
            let listing = self.pending.last_mut()?;
            let name = |side: &Option<Side>| Some(side.as_ref()?.entries.front()?.name.clone());
            let [old, new] = [name(&listing.sides[0]), name(&listing.sides[1])];
            let Some(first) = [&old, &new].into_iter().flatten().min().cloned() else {
                self.pending.pop();
                continue;
            };
            let path = join(&listing.path, &first);
            let items = listing.sides.each_mut().map(|side| {
                let side = side.as_mut()?;
                side.entries.front().filter(|entry| entry.name == first)?;
                let entry = side.entries.pop_front()?;
                Some(Item { entry, catalog: Rc::clone(&side.catalog) })
            });
            return Some((path, items));
        }
    }

    /// Tells of a path, and goes into it where that may tell more.
    fn compare(&mut self, path: Vec<u8>, items: [Option<Item>; 2]) -> Result<(), Error> {
        let kind = match &items {
            [None, None] => None,
            [Some(old), None] => Some(ChangeKind::Removed(Box::new(old.entry.clone()))),
            [None, Some(new)] => Some(ChangeKind::Added(Box::new(new.entry.clone()))),
            [Some(old), Some(new)] => {
                let aspects = aspects(&path, old, new)?;
                let (from, to) = (Box::new(old.entry.clone()), Box::new(new.entry.clone()));
                (!aspects.is_empty()).then_some(ChangeKind::Modified { from, to, aspects })
            }
        };
        if let Some(kind) = kind {
            (self.sink)(Change { path: path.clone(), kind })?;
        }
        if let [Some(old), Some(new)] = &items
            && let (Some(a), Some(b)) = (nested(&path, old)?, nested(&path, new)?)
            && a.hash == b.hash
        {
            return Ok(());
        }
        let [old, new] = items;
        let sides = [self.enter(0, &path, old)?, self.enter(1, &path, new)?];
        if sides.iter().any(Option::is_some) {
            self.pending.push(Listing { path, sides });
        }
        Ok(())
    }

    /// Lists a directory; `None` for what is none, or leads to another revision.
    fn enter(&mut self, side: usize, path: &[u8], item: Option<Item>) -> Result<Option<Side>, Error> {
        let Some(Item { entry, catalog }) = item else { return Ok(None) };
        if !entry.is_directory() || entry.flags.has(Flags::BIND_MOUNTPOINT) {
            return Ok(None);
        }
        let catalog = self.trees[side].catalog_below(path, &entry, catalog)?;
        let mut entries = catalog.list(path)?;
        entries.retain(|entry| !entry.flags.has(Flags::HIDDEN));
        Ok(Some(Side { entries: entries.into(), catalog }))
    }
}

/// The nested catalog that begins at an entry.
fn nested(path: &[u8], item: &Item) -> Result<Option<NestedCatalog>, Error> {
    if !item.entry.flags.has(Flags::NESTED_MOUNTPOINT) {
        return Ok(None);
    }
    item.catalog.nested_at(path)
}

fn aspects(path: &[u8], old: &Item, new: &Item) -> Result<Vec<Aspect>, Error> {
    let (a, b) = (&old.entry, &new.entry);
    const TYPE: u32 = 0o170_000;
    if a.mode & TYPE != b.mode & TYPE {
        return Ok(vec![Aspect::Type]);
    }
    let fields = [
        (Aspect::Content, !same_content(path, old, new)?),
        (Aspect::Size, a.is_file() && a.size != b.size),
        (Aspect::Target, a.symlink != b.symlink),
        (Aspect::Mode, a.mode != b.mode),
        (Aspect::Owner, (a.uid, a.gid) != (b.uid, b.gid)),
        (Aspect::Mtime, (a.mtime, a.mtime_ns) != (b.mtime, b.mtime_ns)),
        (Aspect::Xattrs, a.xattr != b.xattr),
        (Aspect::Links, a.link_count() != b.link_count()),
    ];
    Ok(fields.into_iter().filter_map(|(aspect, differs)| differs.then_some(aspect)).collect())
}

fn same_content(path: &[u8], old: &Item, new: &Item) -> Result<bool, Error> {
    let (a, b) = (&old.entry, &new.entry);
    if a.is_directory() {
        let bound = |item: &Item| match item.entry.flags.has(Flags::BIND_MOUNTPOINT) {
            true => item.catalog.bound_at(path),
            false => Ok(None),
        };
        return Ok(bound(old)? == bound(new)?);
    }
    if !a.is_file() {
        // The size of a device is its number.
        return Ok(a.is_symlink() || a.size == b.size);
    }
    if a.size != b.size || a.flags.has(Flags::EXTERNAL) != b.flags.has(Flags::EXTERNAL) {
        return Ok(false);
    }
    match (a.hash, b.hash) {
        (Some(a), Some(b)) => Ok(a == b),
        (None, None) => match (a.algorithm(), b.algorithm()) {
            (Some(a), Some(b)) => Ok(old.catalog.chunks(path, a)? == new.catalog.chunks(path, b)?),
            _ => Ok(false),
        },
        _ => Ok(false),
    }
}
