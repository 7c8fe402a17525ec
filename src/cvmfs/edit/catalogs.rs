//! The catalogs of a tree that is being edited: found by path, fetched when they are first needed, parked when too many
//! are open.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::Error;
use super::super::catalog::{CatalogEditor, Counters, Groups, NestedCatalog};
use super::super::fetch::Fetch;
use super::super::hash::{ContentHash, ObjectKind};
use super::super::object;

/// Catalogs that are open at once: each has a file descriptor and a cache of pages.
const MOST_OPEN: usize = 24;

/// Bytes of pages that all of them may have in memory.
const MOST_CACHED: u64 = 64 << 20;

/// Uses of catalogs after which it is looked at how much that is.
const LOOK_AFTER: u64 = 1024;

/// The root catalog's place.
pub(super) const ROOT: usize = 0;

/// A catalog that was needed.
#[derive(Debug)]
pub(super) struct Node {
    /// The directory where it begins; empty for the root catalog.
    pub(super) mount: Vec<u8>,
    /// The catalog that it continues; its own place for the root catalog.
    pub(super) parent: usize,
    /// The object that it was; `None` for a new one.
    pub(super) hash: Option<ContentHash>,
    /// What the counters `subtree` of its parent say of it and all below it.
    pub(super) contained: Counters,
    /// The catalogs that continue it.
    pub(super) children: BTreeMap<Vec<u8>, Child>,
    /// Whether it was changed.
    pub(super) dirty: bool,
    /// Hard-link groups whose counts are not right yet.
    pub(super) groups: Groups,
    pub(super) file: PathBuf,
    editor: Option<CatalogEditor>,
    used: u64,
}

/// A catalog that continues another one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Child {
    /// Its object; `None` for a new one.
    pub(super) hash: Option<ContentHash>,
    pub(super) size: u64,
    /// Where it is, once it was needed.
    pub(super) node: Option<usize>,
}

/// All of them. Places of catalogs that are gone stay empty.
pub(super) struct Catalogs {
    nodes: Vec<Option<Node>>,
    fetch: Arc<dyn Fetch>,
    directory: PathBuf,
    files: u64,
    clock: u64,
    /// The directory that was asked for last: entries come directory by directory.
    last: Option<(Vec<u8>, usize)>,
}

impl Catalogs {
    /// Fetches the root catalog. Copies are made in `directory`.
    pub(super) fn open(fetch: Arc<dyn Fetch>, directory: PathBuf, root: &ContentHash) -> Result<Self, Error> {
        let mut catalogs = Self { nodes: Vec::new(), fetch, directory, files: 0, clock: 0, last: None };
        catalogs.load(Vec::new(), ROOT, *root)?;
        Ok(catalogs)
    }

    pub(super) fn node(&self, at: usize) -> &Node {
        // Places are handed out here, and whoever empties one forgets it.
        #[allow(clippy::expect_used)]
        self.nodes[at].as_ref().expect("the place of a catalog that is gone")
    }

    pub(super) fn node_mut(&mut self, at: usize) -> &mut Node {
        #[allow(clippy::expect_used)]
        self.nodes[at].as_mut().expect("the place of a catalog that is gone")
    }

    /// Tells whether a catalog is still there.
    pub(super) fn is_there(&self, at: usize) -> bool {
        self.nodes[at].is_some()
    }

    /// The places of all catalogs that were needed, those that continue others behind them.
    pub(super) fn places(&self) -> Vec<usize> {
        let mut places: Vec<_> = (0..self.nodes.len()).filter(|at| self.nodes[*at].is_some()).collect();
        places.sort_by_key(|at| self.node(*at).mount.len());
        places
    }

    /// The editor of a catalog, opened again if it was parked.
    pub(super) fn editor(&mut self, at: usize) -> Result<&mut CatalogEditor, Error> {
        self.clock += 1;
        let clock = self.clock;
        if clock.is_multiple_of(LOOK_AFTER) {
            self.bound_memory(at)?;
        }
        if self.node(at).editor.is_none() {
            self.park_one()?;
            let editor = CatalogEditor::open(&self.node(at).file, "the copy of a catalog")?;
            self.node_mut(at).editor = Some(editor);
        }
        let node = self.node_mut(at);
        node.used = clock;
        #[allow(clippy::expect_used)]
        Ok(node.editor.as_mut().expect("an editor that was just opened"))
    }

    /// The same, to change it.
    pub(super) fn editor_mut(&mut self, at: usize) -> Result<&mut CatalogEditor, Error> {
        self.node_mut(at).dirty = true;
        self.editor(at)
    }

    /// The catalog in which the entries of a directory stand.
    pub(super) fn of_directory(&mut self, directory: &[u8]) -> Result<usize, Error> {
        if let Some((last, at)) = &self.last
            && last == directory
        {
            return Ok(*at);
        }
        let mut at = ROOT;
        'descend: loop {
            let node = self.node(at);
            if node.children.is_empty() {
                break;
            }
            let first = if node.mount.is_empty() { 1 } else { node.mount.len() + 1 };
            for end in first..=directory.len() {
                if matches!(directory.get(end), None | Some(b'/')) && node.children.contains_key(&directory[..end]) {
                    at = self.child(at, &directory[..end])?;
                    continue 'descend;
                }
            }
            break;
        }
        self.last = Some((directory.to_vec(), at));
        Ok(at)
    }

    /// The catalog that continues another one at a directory.
    pub(super) fn child(&mut self, parent: usize, mount: &[u8]) -> Result<usize, Error> {
        let gone = || Error::Missing(format!("the nested catalog at /{}", String::from_utf8_lossy(mount)));
        let child = *self.node(parent).children.get(mount).ok_or_else(gone)?;
        match child.node {
            Some(at) => Ok(at),
            None => self.load(mount.to_vec(), parent, child.hash.ok_or_else(gone)?),
        }
    }

    fn load(&mut self, mount: Vec<u8>, parent: usize, hash: ContentHash) -> Result<usize, Error> {
        let file = self.new_file();
        object::unpack(&*self.fetch, &hash, ObjectKind::Catalog, &file)?;
        self.add(mount, parent, Some(hash), file)
    }

    /// A name for a catalog's file.
    pub(super) fn new_file(&mut self) -> PathBuf {
        self.files += 1;
        self.directory.join(format!("catalog-{}", self.files))
    }

    /// Takes in a catalog's file.
    pub(super) fn add(
        &mut self,
        mount: Vec<u8>,
        parent: usize,
        hash: Option<ContentHash>,
        file: PathBuf,
    ) -> Result<usize, Error> {
        self.park_one()?;
        let what = hash.map_or("a new catalog".to_owned(), |hash| format!("the copy of catalog {hash}"));
        let editor = CatalogEditor::open(&file, &what)?;
        let mut children = BTreeMap::new();
        for NestedCatalog { path, hash, size } in editor.catalog().nested()? {
            // Each must begin deeper than the one before: a made-up catalog must not send us in circles.
            let below =
                path.len() > mount.len() && path.starts_with(&mount) && (mount.is_empty() || path[mount.len()] == b'/');
            if !below {
                let why = format!("it refers to a nested catalog outside, at /{}", String::from_utf8_lossy(&path));
                return Err(Error::malformed(what, why));
            }
            children.insert(path, Child { hash: Some(hash), size, node: None });
        }
        let contained = editor.total();
        self.clock += 1;
        let node = Node {
            mount,
            parent,
            hash,
            contained,
            children,
            dirty: false,
            groups: Groups::new(),
            file,
            editor: Some(editor),
            used: self.clock,
        };
        let at = self.nodes.len();
        if at != ROOT
            && let Some(child) = self.node_mut(parent).children.get_mut(&node.mount)
        {
            child.node = Some(at);
        }
        self.nodes.push(Some(node));
        self.last = None;
        Ok(at)
    }

    /// Drops a catalog and all that were needed below it.
    pub(super) fn drop_tree(&mut self, at: usize) -> Result<(), Error> {
        let mut pending = vec![at];
        while let Some(at) = pending.pop() {
            let Some(node) = self.nodes[at].take() else { continue };
            pending.extend(node.children.values().filter_map(|child| child.node));
            drop(node.editor);
            fs::remove_file(&node.file).map_err(Error::io(format!("remove {}", node.file.display())))?;
        }
        self.forget_last();
        Ok(())
    }

    /// Forgets which catalog a directory was in, after catalogs were split or merged.
    pub(super) fn forget_last(&mut self) {
        self.last = None;
    }

    /// Takes the editor of a catalog out, to finish it.
    pub(super) fn take_editor(&mut self, at: usize) -> Result<CatalogEditor, Error> {
        self.editor(at)?;
        #[allow(clippy::expect_used)]
        Ok(self.node_mut(at).editor.take().expect("an editor that was just opened"))
    }

    /// Writes a catalog to its file, for who reads that.
    pub(super) fn park(&mut self, at: usize) -> Result<(), Error> {
        self.node_mut(at).editor.take().map_or(Ok(()), CatalogEditor::park)
    }

    /// Parks the catalogs that were not used for longest while too much of them is in memory, but never the one in use.
    fn bound_memory(&mut self, in_use: usize) -> Result<(), Error> {
        let mut open = self.open_ones();
        open.sort_unstable();
        let mut cached = Vec::new();
        for (_, at) in open {
            let bytes = self.node(at).editor.as_ref().map_or(Ok(0), CatalogEditor::cached)?;
            cached.push((at, bytes));
        }
        let mut sum: u64 = cached.iter().map(|(_, bytes)| bytes).sum();
        for (at, bytes) in cached {
            if sum > MOST_CACHED && at != in_use {
                self.park(at)?;
                sum -= bytes;
            }
        }
        Ok(())
    }

    /// The catalogs that are open, by when each was used.
    fn open_ones(&self) -> Vec<(u64, usize)> {
        let open = self.nodes.iter().enumerate().filter_map(|(at, node)| {
            let node = node.as_ref().filter(|node| node.editor.is_some())?;
            Some((node.used, at))
        });
        open.collect()
    }

    /// Parks the catalog that was not used for longest, if too many are open.
    fn park_one(&mut self) -> Result<(), Error> {
        let open = self.open_ones();
        if open.len() < MOST_OPEN {
            return Ok(());
        }
        match open.iter().filter(|(_, at)| *at != ROOT).min() {
            Some((_, at)) => self.park(*at),
            None => Ok(()),
        }
    }
}
