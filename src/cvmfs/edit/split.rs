//! Catalogs that are split and merged by their size (`cvmfs/catalog_balancer_impl.h`).

use std::collections::HashMap;

use super::super::Error;
use super::super::catalog::{Flags, PathHash};
use super::catalogs::ROOT;
use super::{AUTO_MARKER, MARKER, Objects, TreeEditor, join};

/// A directory of the catalog that is split.
struct Directory {
    path: Vec<u8>,
    /// Where its parent stands in the list; its own place for the first.
    parent: usize,
    /// Entries that stay in this catalog if nothing more is split off.
    weight: u64,
    /// Whether another catalog begins there already.
    is_mount: bool,
    /// Directories in it.
    directories: Vec<usize>,
}

impl TreeEditor {
    /// Splits the changed catalogs that are too large, and merges those that are too small and were made by themselves.
    pub(super) fn balance(&mut self, objects: &mut dyn Objects, now: i64) -> Result<(), Error> {
        let Some(limits) = self.auto_catalogs else { return Ok(()) };
        // The deepest first: what is merged can make the catalog above too large.
        for at in self.catalogs.places().into_iter().rev() {
            if !self.catalogs.is_there(at) || !self.catalogs.node(at).dirty {
                continue;
            }
            let mount = self.catalogs.node(at).mount.clone();
            let weight = self.catalogs.editor(at)?.statistics_mut().own.entries().cast_unsigned();
            if at != ROOT && weight < limits.min_weight && self.lookup(&join(&mount, AUTO_MARKER))?.is_some() {
                self.remove(&join(&mount, AUTO_MARKER)).map_err(super::unexpected)?;
                // With its marker goes the catalog, unless the rules ask for it.
                if !self.dirtab(objects)?.is_some_and(|dirtab| dirtab.matches(&mount)) {
                    self.remove(&join(&mount, MARKER)).map_err(super::unexpected)?;
                }
            } else if weight > limits.max_weight {
                self.split(at, limits.min_weight, limits.max_weight / 2, objects, now)?;
            }
        }
        Ok(())
    }

    /// Splits heavy directories off, from the deepest up, until what is left in each is light enough.
    fn split(
        &mut self,
        at: usize,
        min_weight: u64,
        aim: u64,
        objects: &mut dyn Objects,
        now: i64,
    ) -> Result<(), Error> {
        let mut directories = self.directories_of(at)?;
        // Parents come before their directories, so this goes from the leaves to the root.
        for place in (0..directories.len()).rev() {
            if directories[place].is_mount {
                continue;
            }
            let mut inner = std::mem::take(&mut directories[place].directories);
            inner.retain(|inner| !directories[*inner].is_mount);
            inner.sort_by_key(|inner| directories[*inner].weight);
            while directories[place].weight > aim {
                let Some(heaviest) = inner.pop().filter(|heaviest| directories[*heaviest].weight >= min_weight) else {
                    break;
                };
                let path = directories[heaviest].path.clone();
                // What somebody else put there is not ours to replace.
                let auto = self.lookup(&join(&path, AUTO_MARKER))?;
                if auto.is_some_and(|entry| !entry.is_file()) || self.lookup(&join(&path, MARKER))?.is_some() {
                    continue;
                }
                // The second marker asks for the catalog.
                self.put_marker(&path, AUTO_MARKER, objects, now)?;
                self.put_marker(&path, MARKER, objects, now)?;
                directories[place].weight -= directories[heaviest].weight - 1;
            }
            let (parent, weight) = (directories[place].parent, directories[place].weight);
            if parent != place {
                directories[parent].weight += weight;
            }
        }
        Ok(())
    }

    /// The directories of a catalog, parents first, each with the weight of its own entries that are no directories.
    fn directories_of(&mut self, at: usize) -> Result<Vec<Directory>, Error> {
        let mount = self.catalogs.node(at).mount.clone();
        let catalog = self.catalogs.editor(at)?.catalog();
        let children: HashMap<PathHash, u64> = catalog.children_by_directory()?;
        let mut directories =
            vec![Directory { path: mount, parent: 0, weight: 1, is_mount: false, directories: Vec::new() }];
        let mut next = 0;
        while next < directories.len() {
            let path = directories[next].path.clone();
            if !directories[next].is_mount {
                let entries = children.get(&PathHash::of(&path)).copied().unwrap_or(0);
                let found = catalog.directories(&path)?;
                directories[next].weight += entries.saturating_sub(found.len() as u64);
                for entry in found {
                    let closed = Flags::NESTED_MOUNTPOINT | Flags::BIND_MOUNTPOINT | Flags::HIDDEN;
                    let inner = Directory {
                        path: join(&path, &entry.name),
                        parent: next,
                        weight: 1,
                        is_mount: entry.flags.has(closed),
                        directories: Vec::new(),
                    };
                    let place = directories.len();
                    if inner.is_mount {
                        directories[next].weight += 1;
                    }
                    directories[next].directories.push(place);
                    directories.push(inner);
                }
            }
            next += 1;
        }
        Ok(directories)
    }
}
