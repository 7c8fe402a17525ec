//! Writing the catalogs that were changed, from the deepest to the root.

use super::super::Error;
use super::super::catalog::NestedCatalog;
use super::super::hash::ContentHash;
use super::catalogs::{Child, ROOT};
use super::{FinishedTree, Objects, TreeEditor};

impl TreeEditor {
    /// Makes the tree that of a revision: settles where catalogs are to be, counts, and stores what was changed.
    ///
    /// `previous` is the root catalog that this one is made from.
    pub(crate) fn finish(
        mut self,
        revision: u64,
        previous: &ContentHash,
        now: i64,
        objects: &mut dyn Objects,
    ) -> Result<FinishedTree, Error> {
        self.apply_dirtab(objects, now)?;
        self.balance(objects, now)?;
        // A revision has a root catalog of its own even where nothing was changed.
        self.catalogs.node_mut(ROOT).dirty = true;
        for at in self.catalogs.places().into_iter().rev() {
            let node = self.catalogs.node(at);
            if !node.dirty {
                continue;
            }
            let (mount, parent, old) = (node.mount.clone(), node.parent, node.hash);
            let (groups, contained, file) = (node.groups.clone(), node.contained, node.file.clone());
            let mut editor = self.catalogs.take_editor(at)?;
            editor.settle_groups(&groups)?;
            let mut grown = editor.total();
            grown.subtract(&contained);
            if at == ROOT {
                editor.finish(Some(revision), Some(previous), now)?;
                let (root, size) = objects.store_catalog(&file)?;
                return Ok(FinishedTree { root, size });
            }
            editor.finish(None, old.as_ref(), now)?;
            let (hash, size) = objects.store_catalog(&file)?;
            std::fs::remove_file(&file).map_err(Error::io(format!("remove {}", file.display())))?;
            let above = self.catalogs.editor_mut(parent)?;
            above.statistics_mut().subtree.add(&grown);
            above.set_nested(&NestedCatalog { path: mount.clone(), hash, size })?;
            let child = Child { hash: Some(hash), size, node: Some(at) };
            self.catalogs.node_mut(parent).children.insert(mount, child);
        }
        Err(Error::Missing("the root catalog".into()))
    }
}
