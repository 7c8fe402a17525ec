//! What a transaction touched, as evidence: the net effect against the revision that it started from.

use std::collections::BTreeMap;

use crate::domain::tree::{ChangedPath, EntryPath};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Added,
    Modified,
    Removed,
}

/// The touched paths. Below a removed directory that is made anew, what is put counts as added.
#[derive(Debug, Default)]
pub(super) struct Changes(BTreeMap<EntryPath, Change>);

impl Changes {
    pub(super) fn added(&mut self, path: &EntryPath) {
        let change = match self.0.get(path) {
            Some(Change::Removed) => Change::Modified,
            _ => Change::Added,
        };
        self.0.insert(path.clone(), change);
    }

    /// Another entry or other metadata; with it, all below a former directory went unless it is still one.
    pub(super) fn modified(&mut self, path: &EntryPath, is_directory: bool) {
        if !is_directory {
            self.forget_below(path);
        }
        self.0.entry(path.clone()).or_insert(Change::Modified);
    }

    pub(super) fn removed(&mut self, path: &EntryPath) {
        self.forget_below(path);
        if self.0.get(path) == Some(&Change::Added) {
            self.0.remove(path);
        } else {
            self.0.insert(path.clone(), Change::Removed);
        }
    }

    fn forget_below(&mut self, path: &EntryPath) {
        // Children sort behind their parent, though not directly: "a", "a-b", "a/b".
        let first = [path.as_bytes(), b"/"].concat();
        let below: Vec<_> = self
            .0
            .range(path.clone()..)
            .map(|(below, _)| below)
            .skip_while(|below| below.as_bytes() < &first[..])
            .take_while(|below| below.as_bytes().starts_with(&first))
            .cloned()
            .collect();
        for path in below {
            self.0.remove(&path);
        }
    }

    pub(super) fn list(&self) -> Vec<ChangedPath> {
        let list = self.0.iter().map(|(path, change)| match change {
            Change::Added => ChangedPath::Added(path.clone()),
            Change::Modified => ChangedPath::Modified(path.clone()),
            Change::Removed => ChangedPath::Removed(path.clone()),
        });
        list.collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    fn shown(changes: &Changes) -> String {
        changes.list().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn only_the_net_effect_is_listed() {
        let mut changes = Changes::default();
        changes.added(&path("new"));
        changes.modified(&path("new"), false);
        changes.modified(&path("old"), false);
        changes.removed(&path("old"));
        changes.added(&path("gone"));
        changes.removed(&path("gone"));
        changes.removed(&path("again"));
        changes.added(&path("again"));
        assert_eq!(shown(&changes), "M /again, A /new, D /old");
    }

    #[test]
    fn what_lay_below_goes_with_its_directory() {
        let mut changes = Changes::default();
        for added in ["a", "a-b", "a/b", "a/b/c", "a0"] {
            changes.added(&path(added));
        }
        changes.modified(&path("a"), true);
        changes.removed(&path("a/b"));
        assert_eq!(shown(&changes), "A /a, A /a-b, A /a0");
        changes.added(&path("a/x"));
        changes.modified(&path("a"), false);
        assert_eq!(shown(&changes), "A /a, A /a-b, A /a0");
    }
}
