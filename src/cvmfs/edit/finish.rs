//! Writing the catalogs that were changed, from the deepest to the root.

use super::super::Error;
use super::super::catalog::NestedCatalog;
use super::super::hash::ContentHash;
use super::super::ingest::Staged;
use super::super::settings::Limits;
use super::catalogs::{Child, ROOT};
use super::{Objects, TreeEditor, shown};

/// What the catalogs of the next revision are to say.
#[derive(Debug, Clone)]
pub(crate) struct NextTree {
    /// Its number.
    pub(crate) revision: u64,
    /// The root catalog that it is made from.
    pub(crate) previous: ContentHash,
    /// The time, seconds since 1970.
    pub(crate) now: i64,
    /// Seconds for which clients believe a manifest; `None` leaves it as it is.
    pub(crate) ttl: Option<u64>,
    /// What catalogs must not exceed.
    pub(crate) limits: Option<Limits>,
}

impl NextTree {
    fn check_limits(&self, mount: &[u8], entries: u64) -> Result<(), Error> {
        let Some(limits) = &self.limits else { return Ok(()) };
        let limit = if mount.is_empty() { limits.root_entries } else { limits.nested_entries };
        if limit == 0 || entries <= limit {
            return Ok(());
        }
        let what = format!("a catalog of {entries} entries at /{}", shown(mount));
        Err(Error::Unsupported(format!("{what} (the limit is {limit}: ask for nested catalogs by .cvmfscatalog)")))
    }
}

impl TreeEditor {
    /// Makes the tree that of a revision: settles where catalogs are to be, counts, and stores what was changed. Gives
    /// the root catalog.
    pub(crate) fn finish(mut self, next: &NextTree, objects: &mut dyn Objects) -> Result<Staged, Error> {
        let now = next.now;
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
            next.check_limits(&mount, editor.statistics_mut().own.entries().cast_unsigned())?;
            if at == ROOT {
                if let Some(ttl) = next.ttl {
                    editor.set_ttl(ttl)?;
                }
                editor.finish(Some(next.revision), Some(&next.previous), now)?;
                return objects.store_catalog(&file);
            }
            editor.finish(None, old.as_ref(), now)?;
            let Staged { hash, size } = objects.store_catalog(&file)?;
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
