//! Making a nested catalog out of a directory, and a directory out of a nested catalog.

use super::super::Error;
use super::super::catalog::{Counters, Entry, Flags, NestedCatalog};
use super::super::hash::{Algorithm, ContentHash};
use super::catalogs::Child;
use super::{TreeEditor, shown};

impl TreeEditor {
    /// Makes a directory the beginning of a catalog of its own, unless it is one.
    pub(super) fn make_nested(&mut self, mount: &[u8]) -> Result<(), Error> {
        let at = self.catalogs.of_directory(mount)?;
        if self.catalogs.node(at).mount == mount {
            return Ok(());
        }
        let missing = || Error::Missing(format!("the directory /{}", shown(mount)));
        let row = self.catalogs.editor(at)?.catalog().lookup(mount)?.ok_or_else(missing)?;
        let file = self.catalogs.new_file();
        let root = Entry { flags: Flags(row.flags.0 | Flags::NESTED_ROOT), ..row.clone() };
        let editor = self.catalogs.editor_mut(at)?;
        editor.below(mount, 0)?;
        editor.move_below(mount, &root, &file)?;
        let mount_point = Entry { flags: Flags(row.flags.0 | Flags::NESTED_MOUNTPOINT), ..row.clone() };
        editor.update(mount, &row, &mount_point)?;
        // Until the catalog is finished and has a name.
        let unnamed = ContentHash::from_digest(Algorithm::Sha1, &[0; 20])?;
        editor.set_nested(&NestedCatalog { path: mount.to_vec(), hash: unnamed, size: 0 })?;

        let inner = self.nested_below(at, mount);
        let mut moved = Vec::with_capacity(inner.len());
        for path in inner {
            // What the catalog above counted of it must be known, to be counted in the new one.
            let place = self.catalogs.child(at, &path)?;
            let contained = self.catalogs.node(place).contained;
            let Some(child) = self.catalogs.node_mut(at).children.remove(&path) else { continue };
            let editor = self.catalogs.editor_mut(at)?;
            editor.statistics_mut().subtree.subtract(&contained);
            editor.remove_nested(&path)?;
            moved.push((path, child, contained));
        }
        self.catalogs.node_mut(at).children.insert(mount.to_vec(), Child { hash: None, size: 0, node: None });
        let new = self.catalogs.add(mount.to_vec(), at, None, file)?;
        self.share_groups(at, new);
        let editor = self.catalogs.editor_mut(new)?;
        let own = editor.catalog().recount()?;
        editor.statistics_mut().own = own;
        for (path, child, contained) in moved {
            let editor = self.catalogs.editor_mut(new)?;
            editor.statistics_mut().subtree.add(&contained);
            editor.set_nested(&NestedCatalog {
                path: path.clone(),
                hash: child.hash.unwrap_or(unnamed),
                size: child.size,
            })?;
            if let Some(place) = child.node {
                self.catalogs.node_mut(place).parent = new;
            }
            self.catalogs.node_mut(new).children.insert(path, child);
        }
        // Its parent has not heard of it.
        self.catalogs.node_mut(new).contained = Counters::default();
        self.catalogs.forget_last();
        Ok(())
    }

    /// Makes a nested catalog part of the one that it continues. A directory where none begins stays as it is.
    pub(super) fn merge_nested(&mut self, mount: &[u8]) -> Result<(), Error> {
        let at = self.catalogs.of_directory(mount)?;
        if mount.is_empty() || self.catalogs.node(at).mount != mount {
            return Ok(());
        }
        let parent = self.catalogs.node(at).parent;
        let groups = self.catalogs.node(at).groups.clone();
        let editor = self.catalogs.editor(at)?;
        // Group numbers change on the way; their counts must be right before.
        editor.settle_groups(&groups)?;
        self.catalogs.node_mut(at).groups.clear();
        let editor = self.catalogs.editor(at)?;
        let mut taken = editor.statistics_mut().own;
        let subtree = editor.statistics_mut().subtree;
        let missing = || Error::malformed("a nested catalog", "it has no root");
        let root = editor.catalog().lookup(mount)?.ok_or_else(missing)?;
        taken.count(&root, 0, -1);
        self.catalogs.park(at)?;

        let (file, contained) = (self.catalogs.node(at).file.clone(), self.catalogs.node(at).contained);
        let children = std::mem::take(&mut self.catalogs.node_mut(at).children);
        let editor = self.catalogs.editor_mut(parent)?;
        editor.take_in(&file, mount)?;
        editor.statistics_mut().own.add(&taken);
        editor.statistics_mut().subtree.subtract(&contained);
        editor.statistics_mut().subtree.add(&subtree);
        editor.remove_nested(mount)?;
        let missing = || Error::malformed("a catalog", "it has no row for a nested catalog of its own");
        let row = editor.catalog().lookup(mount)?.ok_or_else(missing)?;
        let plain = Entry { flags: Flags(row.flags.0 & !Flags::NESTED_MOUNTPOINT), ..row.clone() };
        editor.update(mount, &row, &plain)?;
        self.catalogs.node_mut(parent).children.remove(mount);
        let unnamed = ContentHash::from_digest(Algorithm::Sha1, &[0; 20])?;
        for (path, child) in children {
            let nested = NestedCatalog { path: path.clone(), hash: child.hash.unwrap_or(unnamed), size: child.size };
            self.catalogs.editor_mut(parent)?.set_nested(&nested)?;
            if let Some(place) = child.node {
                self.catalogs.node_mut(place).parent = parent;
            }
            self.catalogs.node_mut(parent).children.insert(path, child);
        }
        self.catalogs.drop_tree(at)
    }

    /// Removes a nested catalog with all below it; the row of its mount point becomes that of an empty directory.
    pub(super) fn drop_nested(&mut self, parent: usize, mount: &[u8]) -> Result<(), Error> {
        let at = self.catalogs.child(parent, mount)?;
        let contained = self.catalogs.node(at).contained;
        let editor = self.catalogs.editor_mut(parent)?;
        editor.statistics_mut().subtree.subtract(&contained);
        editor.remove_nested(mount)?;
        if let Some(row) = editor.catalog().lookup(mount)? {
            let plain = Entry { flags: Flags(row.flags.0 & !Flags::NESTED_MOUNTPOINT), ..row.clone() };
            editor.update(mount, &row, &plain)?;
        }
        self.catalogs.node_mut(parent).children.remove(mount);
        self.catalogs.drop_tree(at)
    }

    /// The nested catalogs that continue a catalog below a directory.
    pub(super) fn nested_below(&self, at: usize, directory: &[u8]) -> Vec<Vec<u8>> {
        let first = if directory.is_empty() { Vec::new() } else { [directory, b"/"].concat() };
        let children = self.catalogs.node(at).children.range(first.clone()..);
        children.map(|(mount, _)| mount).take_while(|mount| mount.starts_with(&first)).cloned().collect()
    }
}
