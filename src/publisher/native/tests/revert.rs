//! Undoing a publish: what is put back, what is left alone, and what is refused.

use std::sync::atomic::AtomicBool;

use super::{World, name, path, put, put_file};
use crate::domain::tree::EntryKind;
use crate::publisher::revert::{Undo, UndoError, Undone, undo};
use crate::publisher::{Publisher, Revision};

impl World {
    fn try_undo(&self, tag: &str, below: &str, force: bool) -> Result<(Undone, Revision), UndoError> {
        let mut transaction = self.open("/", &format!("undo-{tag}"));
        let reader = self.publisher.reader(&name()).unwrap();
        let what = Undo { tag: tag.into(), below: path(below), force };
        let undone = undo(&name(), &reader, &mut *transaction, &what, &AtomicBool::new(false))?;
        Ok((undone, transaction.publish("undo").unwrap().revision))
    }

    #[track_caller]
    fn refused(&self, tag: &str) -> String {
        match self.try_undo(tag, "", false) {
            Err(UndoError::Refused(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    fn content(&self, at: &str) -> Option<String> {
        self.entry(at)?;
        let reader = self.sandbox.reader();
        let text = std::io::read_to_string(reader.tree().unwrap().file(at.as_bytes()).unwrap()).unwrap();
        Some(text)
    }

    /// Every entry with all that it carries, and the content of files.
    fn all(&self) -> Vec<String> {
        let mut all = Vec::new();
        for at in self.paths() {
            let mut entry = self.entry(&at).unwrap();
            entry.hardlinks = u64::from(entry.link_count());
            if entry.is_directory() {
                entry.mtime = 0;
            }
            all.push(format!("{at}: {entry:?}"));
        }
        all
    }
}

#[test]
fn all_that_a_publish_did_is_put_back_and_nothing_else() {
    let world = World::new();
    world.publish(
        &[("keep", "1"), ("d/", ""), ("d/changed", "old"), ("d/gone", "was here"), ("d/dir/x", "deep")],
        "one",
    );
    let mut transaction = world.open("/", "links");
    put(&mut *transaction, "d/link", &EntryKind::Symlink { target: b"changed".to_vec() }, b"").unwrap();
    put_file(&mut *transaction, "d/first", "shared").unwrap();
    transaction.link(&path("d/second"), &path("d/first")).unwrap();
    transaction.publish("").unwrap();
    let before = world.all();

    let mut transaction = world.open("/", "bad");
    put_file(&mut *transaction, "d/changed", "new").unwrap();
    put_file(&mut *transaction, "d/dir", "a file now").unwrap();
    put_file(&mut *transaction, "d/added/deep/file", "x").unwrap();
    for gone in ["d/gone", "d/link", "d/first", "d/second"] {
        assert!(transaction.remove(&path(gone)).unwrap());
    }
    put_file(&mut *transaction, "d/gone/now-a-directory", "x").unwrap();
    transaction.publish("").unwrap();
    world.publish(&[("later", "2")], "later");

    let (undone, _) = world.try_undo("bad", "", false).unwrap();
    assert_eq!(undone.removed, 2, "{undone:?}");
    assert_eq!(world.content("later").as_deref(), Some("2"));
    let after: Vec<_> = world.all().into_iter().filter(|entry| !entry.starts_with("later:")).collect();
    assert_eq!(after, before);
    world.check();
}

#[test]
fn what_a_later_revision_changed_again_is_named_and_undone_by_force_only() {
    let world = World::new();
    world.publish(&[("a", "1"), ("b", "1")], "one");
    world.publish(&[("a", "2"), ("b", "2"), ("new/x", "2")], "two");
    world.publish(&[("a", "3"), ("new/y", "3")], "three");
    let why = world.refused("two");
    assert!(why.contains("/a, /new/y;") && !why.contains("/b"), "{why}");
    let (undone, _) = world.try_undo("two", "", true).unwrap();
    assert_eq!(undone, Undone { restored: 2, removed: 1 });
    assert_eq!((world.content("a").as_deref(), world.content("b").as_deref()), (Some("1"), Some("1")));
    assert_eq!(world.entry("new"), None);
    world.check();
}

#[test]
fn what_is_as_it_was_already_is_no_hindrance_and_what_lies_elsewhere_is_left() {
    let world = World::new();
    world.publish(&[("x/a", "1"), ("y/a", "1")], "one");
    world.publish(&[("x/a", "2"), ("x/b", "2"), ("y/a", "2")], "two");
    let mut transaction = world.open("/", "three");
    assert!(transaction.remove(&path("x/b")).unwrap());
    transaction.publish("").unwrap();
    let (undone, _) = world.try_undo("two", "x", false).unwrap();
    assert_eq!(undone, Undone { restored: 1, removed: 0 });
    assert_eq!((world.content("x/a").as_deref(), world.content("y/a").as_deref()), (Some("1"), Some("2")));
    world.check();
}

#[test]
fn a_directory_that_was_removed_later_is_not_made_anew_unasked() {
    let world = World::new();
    world.publish(&[("d/a", "1")], "one");
    world.publish(&[("d/a", "2")], "two");
    let mut transaction = world.open("/", "three");
    assert!(transaction.remove(&path("d")).unwrap());
    transaction.publish("").unwrap();
    assert!(world.refused("two").contains("/d, /d/a"), "both are named");
}

#[test]
fn why_it_cannot_be_done_is_said() {
    let world = World::new();
    world.publish(&[("a", "1")], "one");
    assert!(world.refused("absent").contains("no longer in the history"));
    let tagged = world.sandbox.reader().tag("one").unwrap().unwrap();
    let catalog = world.sandbox.reader().catalog(&tagged.root_hash).unwrap();
    let before = catalog.previous_revision().unwrap().unwrap().to_string();
    let (folder, file) = before.split_at(2);
    std::fs::remove_file(world.sandbox.stratum0.directory().join(format!("data/{folder}/{file}C"))).unwrap();
    let why = world.refused("one");
    assert!(why.contains("garbage-collected"), "{why}");
}
