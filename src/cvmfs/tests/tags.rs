//! Tags that are set, removed, come and go by themselves; and going back.

use std::fs;

use super::support::{NAME, NOW, Sandbox, put};
use crate::cvmfs::history::{TRUNK, TRUNK_PREVIOUS};
use crate::cvmfs::reader::Expiry;
use crate::cvmfs::settings::Settings;
use crate::cvmfs::stratum0::{NewTag, RepositoryLock, RollbackOptions, RolledBack};
use crate::cvmfs::{Error, settings};

const DAY: i64 = 86_400;

fn lock(sandbox: &Sandbox) -> RepositoryLock {
    sandbox.stratum0.lock().unwrap().unwrap()
}

fn names(sandbox: &Sandbox) -> Vec<String> {
    let mut names: Vec<_> = sandbox.reader().tags().unwrap().into_iter().map(|tag| tag.name).collect();
    names.sort();
    names
}

fn add(sandbox: &Sandbox, name: &str, at: Option<&str>, moves: bool) -> Result<u64, Error> {
    let tag = NewTag { name, description: "" };
    sandbox.stratum0.add_tag(lock(sandbox), tag, at, moves, NOW).map(|tag| tag.revision)
}

fn set(sandbox: &Sandbox, new: &Settings) {
    fs::write(settings::file(sandbox.stratum0.directory(), NAME), new.to_text()).unwrap();
}

/// Publishes at a time, with a tag or without.
fn publish_at(sandbox: &Sandbox, now: i64, tag: Option<&str>) {
    let mut draft = sandbox.stratum0.begin(lock(sandbox), now).unwrap();
    put(&mut draft, "file", &format!("{now} {tag:?}"));
    draft.commit(tag.map(|name| NewTag { name, description: "" }), now, &|_| {}).unwrap();
}

#[test]
fn a_tag_names_any_revision_that_is_there() {
    let sandbox = Sandbox::new();
    let two = sandbox.publish("a", "1", "two");
    sandbox.publish("a", "2", "three");
    let before = sandbox.reader().manifest().clone();
    assert_eq!(add(&sandbox, "now", None, false).unwrap(), 3);
    assert_eq!(add(&sandbox, "by-tag", Some("two"), false).unwrap(), 2);
    assert_eq!(add(&sandbox, "by-hash", Some(&two.root_hash.to_string()), false).unwrap(), 2);
    assert_eq!(add(&sandbox, "by-number", Some("1"), false).unwrap(), 1);
    let tag = sandbox.reader().tag("by-hash").unwrap().unwrap();
    assert_eq!((tag.root_hash, tag.size, tag.timestamp), (two.root_hash, two.root_size, two.published_at));
    for at in ["9", "0", "nosuch", "5564de638e6b28e81d305211f6527b399e2bcb48"] {
        assert!(matches!(add(&sandbox, "x", Some(at), false), Err(Error::Missing(_))), "{at}");
    }
    let after = sandbox.reader().manifest().clone();
    assert_eq!((after.revision, after.root_hash), (before.revision, before.root_hash), "no revision was made");
    sandbox.check();
}

#[test]
fn a_tag_is_moved_only_if_that_is_asked_for() {
    let sandbox = Sandbox::new();
    sandbox.publish("a", "1", "two");
    let new = NewTag { name: "kept", description: "why" };
    sandbox.stratum0.add_tag(lock(&sandbox), new, Some("1"), false, NOW).unwrap();
    assert!(matches!(add(&sandbox, "kept", None, false), Err(Error::Exists(_))));
    assert_eq!(add(&sandbox, "kept", None, true).unwrap(), 2);
    assert_eq!(sandbox.reader().tag("kept").unwrap().unwrap().description, "why");
}

#[test]
fn names_that_cernvm_fs_refuses_are_refused() {
    let sandbox = Sandbox::new();
    for name in ["", "trunk", "trunk-previous", "two words", "ümlaut", "a;b", "a\nb", "$(x)"] {
        assert!(add(&sandbox, name, None, true).is_err(), "{name:?}");
        assert!(sandbox.stratum0.remove_tags(lock(&sandbox), &[name], NOW).is_err(), "{name:?}");
    }
    assert_eq!(names(&sandbox), [TRUNK]);
}

#[test]
fn all_tags_are_removed_or_none() {
    let sandbox = Sandbox::new();
    sandbox.publish("a", "1", "two");
    sandbox.publish("a", "2", "three");
    let before = sandbox.reader().manifest_bytes().to_vec();
    let error = sandbox.stratum0.remove_tags(lock(&sandbox), &["two", "nosuch"], NOW).unwrap_err();
    assert!(error.to_string().contains("nosuch"), "{error}");
    assert_eq!(sandbox.reader().manifest_bytes(), before);
    let removed = sandbox.stratum0.remove_tags(lock(&sandbox), &["two", "three", "two"], NOW).unwrap();
    assert_eq!(removed.iter().map(|tag| tag.revision).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(names(&sandbox), [TRUNK, TRUNK_PREVIOUS]);
    sandbox.check();
}

#[test]
fn a_publish_without_a_tag_gets_one_where_the_settings_say_so() {
    let sandbox = Sandbox::new();
    publish_at(&sandbox, NOW, None);
    assert_eq!(names(&sandbox), [TRUNK, TRUNK_PREVIOUS]);
    set(&sandbox, &Settings { auto_tag: true, ..Settings::default() });
    publish_at(&sandbox, NOW, None);
    publish_at(&sandbox, NOW, None);
    publish_at(&sandbox, NOW, Some("mine"));
    let time = "2026-11-21T05:46:40Z";
    let expected = [format!("generic-{time}"), format!("generic_1-{time}"), "mine".into()];
    assert_eq!(names(&sandbox)[..3], expected);
}

#[test]
fn automatic_tags_go_when_their_time_is_over() {
    let sandbox = Sandbox::new();
    set(&sandbox, &Settings { auto_tag: true, auto_tag_span: Some(2 * DAY as u64), ..Settings::default() });
    for day in 0..5 {
        publish_at(&sandbox, NOW + day * DAY, (day == 1).then_some("kept"));
    }
    let expected = ["generic-2026-11-23T05:46:40Z", "generic-2026-11-24T05:46:40Z", "generic-2026-11-25T05:46:40Z"];
    assert_eq!(names(&sandbox)[..4], [&expected[..], &["kept"]].concat());
}

#[test]
fn the_tags_of_batches_go_when_there_are_newer_ones_and_a_week_has_passed() {
    let sandbox = Sandbox::new();
    set(&sandbox, &Settings { keep_batch_tags: 2, ..Settings::default() });
    for day in 0..5 {
        publish_at(&sandbox, NOW + day, Some(&format!("cj-{day}")));
    }
    assert_eq!(names(&sandbox)[..5], ["cj-0", "cj-1", "cj-2", "cj-3", "cj-4"], "all are young");
    publish_at(&sandbox, NOW + 7 * DAY + 2, Some("cj-5"));
    assert_eq!(names(&sandbox)[..4], ["cj-2", "cj-3", "cj-4", "cj-5"]);
    publish_at(&sandbox, NOW + 20 * DAY, None);
    assert_eq!(names(&sandbox)[..3], ["cj-4", "cj-5", TRUNK], "the newest stay however old they are");
}

fn roll_back(sandbox: &Sandbox, to: &str, keep_tags: bool) -> Result<RolledBack, Error> {
    let tag = NewTag { name: "rollback", description: "" };
    sandbox.stratum0.rollback(lock(sandbox), RollbackOptions { to, tag, keep_tags }, NOW, &|_| {})
}

#[test]
fn a_rollback_is_a_new_revision_with_the_old_content() {
    let sandbox = Sandbox::new();
    sandbox.publish("d/a", "1", "two");
    sandbox.publish("d/a", "2", "three");
    let four = sandbox.publish("d/b", "3", "cj-4");
    let done = roll_back(&sandbox, "two", false).unwrap();
    assert_eq!((done.manifest.revision, done.target), (5, 2));
    assert_eq!(done.removed_tags, ["three"], "but for a batch's evidence");
    let reader = sandbox.reader();
    assert_eq!(sandbox.content("d/a"), "1");
    assert!(reader.tree().unwrap().lookup(b"d/b").unwrap().is_none());
    assert_eq!(reader.catalog(&done.manifest.root_hash).unwrap().previous_revision().unwrap(), Some(four.root_hash));
    let revisions: Vec<_> = reader.tags().unwrap().into_iter().map(|tag| (tag.name, tag.revision)).collect();
    let expected = [("rollback", 5), (TRUNK, 5), ("two", 5), ("cj-4", 4)];
    assert_eq!(revisions, expected.map(|(name, revision)| (name.to_owned(), revision)));
    sandbox.check();
    sandbox.publish("d/c", "after", "six");
    sandbox.check();
}

#[test]
fn a_rollback_can_leave_the_tags() {
    let sandbox = Sandbox::new();
    sandbox.publish("a", "1", "two");
    sandbox.publish("a", "2", "three");
    assert_eq!(roll_back(&sandbox, "1", true).unwrap().removed_tags, Vec::<String>::new());
    let tags: Vec<_> = sandbox.reader().tags().unwrap().into_iter().map(|tag| (tag.name, tag.revision)).collect();
    let expected = [("rollback", 4), (TRUNK, 4), ("three", 3), (TRUNK_PREVIOUS, 3), ("two", 2)];
    assert_eq!(tags, expected.map(|(name, revision)| (name.to_owned(), revision)));
    assert!(sandbox.reader().tree().unwrap().lookup(b"a").unwrap().is_none());
}

#[test]
fn no_rollback_to_what_is_not_there_or_is_there_already() {
    let sandbox = Sandbox::new();
    sandbox.publish("a", "1", "two");
    sandbox.publish("a", "2", "three");
    for (to, why) in [("nosuch", "nosuch"), ("17", "17"), ("3", "already"), (TRUNK, "already")] {
        let error = roll_back(&sandbox, to, false).unwrap_err().to_string();
        assert!(error.contains(why), "{to}: {error}");
    }
    // An object of the target is gone.
    let reader = sandbox.reader();
    let root = reader.tag("two").unwrap().unwrap().root_hash;
    let entry = reader.tree_at(&root).unwrap().lookup(b"a").unwrap().unwrap();
    let path = entry.hash.unwrap().object_path(crate::cvmfs::hash::ObjectKind::File);
    fs::remove_file(sandbox.stratum0.directory().join(&path)).unwrap();
    let error = roll_back(&sandbox, "two", false).unwrap_err().to_string();
    assert!(error.contains(&path), "{error}");
    assert_eq!(sandbox.stratum0.reader(Expiry::Ignore).unwrap().manifest().revision, 3);
}
