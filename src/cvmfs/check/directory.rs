//! The directories of one catalog: which of them the catalog's root leads to, and by which path.

use std::collections::HashMap;

use super::super::Error;
use super::super::catalog::{Catalog, Flags, PathHash, join};

/// How a directory stands to the catalog's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Unknown,
    /// Its parents lead to the root.
    Reached,
    /// They do not, or only by way of a mount point.
    Lost,
}

/// A directory.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) parent: PathHash,
    /// Its name, until its path is known; then that.
    pub(super) path: Vec<u8>,
    pub(super) flags: Flags,
    pub(super) links: u32,
    pub(super) reach: Reach,
    /// Directories in it.
    pub(super) directories: u32,
    /// Whether entries were found below a mount point.
    pub(super) has_entries: bool,
}

impl Directory {
    /// Whether another catalog goes on there. The root of a nested catalog is not such a place.
    pub(super) fn is_mountpoint(&self) -> bool {
        self.flags.has(Flags::NESTED_MOUNTPOINT | Flags::BIND_MOUNTPOINT)
    }
}

/// All directories of a catalog, by the hashes of their paths.
#[derive(Debug)]
pub(super) struct Directories {
    known: HashMap<PathHash, Directory>,
}

impl Directories {
    /// Reads those of a catalog that is mounted at `top`.
    pub(super) fn read(catalog: &Catalog, top: &[u8]) -> Result<Self, Error> {
        let mut known = HashMap::new();
        catalog.scan(true, &mut |row| {
            // The scan over all rows tells of those that cannot be read.
            if let Ok(row) = row {
                let directory = Directory {
                    parent: row.parent,
                    links: row.entry.link_count(),
                    flags: row.entry.flags,
                    path: row.entry.name,
                    reach: Reach::Unknown,
                    directories: 0,
                    has_entries: false,
                };
                known.insert(row.key, directory);
            }
        })?;
        let mut directories = Self { known };
        directories.resolve(top);
        Ok(directories)
    }

    pub(super) fn get_mut(&mut self, key: PathHash) -> Option<&mut Directory> {
        self.known.get_mut(&key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Directory> {
        self.known.values()
    }

    /// Finds each one's path. Parents may be missing and may run in circles.
    fn resolve(&mut self, top: &[u8]) {
        if let Some(root) = self.known.get_mut(&PathHash::of(top)) {
            root.reach = Reach::Reached;
            root.path = top.to_vec();
        }
        let keys: Vec<PathHash> = self.known.keys().copied().collect();
        let mut climb = Vec::new();
        for start in keys {
            climb.clear();
            let mut at = start;
            // Upwards until something is known; what is lost from here on stays so if the climb meets itself.
            let mut above = loop {
                match self.known.get_mut(&at) {
                    None => break None,
                    Some(directory) if directory.reach != Reach::Unknown => {
                        let leads = directory.reach == Reach::Reached && !directory.is_mountpoint();
                        break leads.then(|| directory.path.clone());
                    }
                    Some(directory) => {
                        directory.reach = Reach::Lost;
                        climb.push(at);
                        at = directory.parent;
                    }
                }
            };
            for key in climb.iter().rev() {
                let (Some(path), Some(directory)) = (&above, self.known.get_mut(key)) else { break };
                directory.path = join(path, &directory.path);
                directory.reach = Reach::Reached;
                above = (!directory.is_mountpoint()).then(|| directory.path.clone());
            }
        }
    }
}
