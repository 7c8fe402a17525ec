//! Hard links. CernVM-FS groups entries of one directory that are the same file; a group has a number in its catalog.
//! The counts of groups are put right at the end, so that a directory with many links costs no more than one with few.

use std::collections::HashMap;

use super::super::Error;
use super::super::catalog::{Chunk, Entry, PathHash};
use super::{TreeEditor, split_path};

/// The names that files were given by links, to find those of one directory: an archive names the first link of all.
/// What stands at a name may have been replaced since, so who asks compares.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The name that a file had first, by its other names.
    origins: HashMap<Vec<u8>, Vec<u8>>,
    /// Its first name in a directory where it was not before, by the one that it had first.
    first: HashMap<(Vec<u8>, Vec<u8>), Vec<u8>>,
}

impl Names {
    /// The name that a file had before links gave it others.
    pub(super) fn origin(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.origins.get(name).cloned()
    }

    /// A name of a file in a directory, if it has one there; `origin` is the one that it had first.
    pub(super) fn first_in(&self, directory: &[u8], name: &[u8], origin: &[u8]) -> Option<Vec<u8>> {
        let is_here = |name: &&[u8]| split_path(name).is_some_and(|(home, _)| home == directory);
        match [name, origin].into_iter().find(is_here) {
            Some(name) => Some(name.to_vec()),
            None => self.first.get(&(origin.to_vec(), directory.to_vec())).cloned(),
        }
    }

    /// Notes that a file has another name.
    pub(super) fn note(&mut self, name: &[u8], origin: &[u8]) {
        self.origins.insert(name.to_vec(), origin.to_vec());
    }

    /// The same for the first name in a directory.
    pub(super) fn note_first(&mut self, directory: &[u8], name: &[u8], origin: &[u8]) {
        self.note(name, origin);
        self.first.insert((origin.to_vec(), directory.to_vec()), name.to_vec());
    }
}

impl TreeEditor {
    /// The entry at a path, if it is still the same file as another one.
    pub(super) fn same_file(&mut self, path: &[u8], entry: &Entry, chunks: &[Chunk]) -> Result<Option<Entry>, Error> {
        let Some(found) = self.lookup(path)? else { return Ok(None) };
        let same = Entry { name: entry.name.clone(), hardlinks: entry.hardlinks, ..found.clone() } == *entry
            && self.chunks(path, &found)? == chunks;
        Ok(same.then_some(found))
    }

    /// Makes two entries of a directory hard links of each other.
    pub(super) fn join(&mut self, directory: &[u8], first: &[u8], second: &[u8]) -> Result<(), Error> {
        let at = self.catalogs.of_directory(directory)?;
        let editor = self.catalogs.editor_mut(at)?;
        let missing = || Error::malformed("a catalog", "a row that was just written is gone");
        let old = editor.catalog().lookup(first)?.ok_or_else(missing)?;
        let group = match old.hardlink_group() {
            0 => editor.new_group()?,
            group => group,
        };
        // The count is put right at the end.
        let hardlinks = u64::from(group) << 32 | 2;
        if old.hardlink_group() == 0 {
            editor.update(first, &old, &Entry { hardlinks, ..old.clone() })?;
        }
        let old = editor.catalog().lookup(second)?.ok_or_else(missing)?;
        editor.update(second, &old, &Entry { hardlinks, ..old.clone() })?;
        self.catalogs.node_mut(at).groups.insert((PathHash::of(directory), group));
        Ok(())
    }

    /// Notes that an entry is going from its hard-link group.
    pub(super) fn leave_group(&mut self, at: usize, directory: &[u8], entry: &Entry) {
        if entry.is_directory() || entry.hardlink_group() == 0 {
            return;
        }
        self.catalogs.node_mut(at).groups.insert((PathHash::of(directory), entry.hardlink_group()));
    }

    /// Hands on what is noted of a catalog's groups to one that was split from it, where rows keep their group.
    pub(super) fn share_groups(&mut self, from: usize, to: usize) {
        let groups = self.catalogs.node(from).groups.clone();
        self.catalogs.node_mut(to).groups.extend(groups);
    }
}
