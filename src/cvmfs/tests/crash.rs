//! What a kill leaves: at each step of a commit the repository is copied, and the copy is what a dead process leaves.

use std::cell::RefCell;
use std::fs;

use super::support::{NAME, NOW, Sandbox, copy_tree, put};
use crate::cvmfs::reader::Expiry;
use crate::cvmfs::stratum0::{NewTag, Stratum0};

const TAG: NewTag<'_> = NewTag { name: "two", description: "" };

/// Publishes revision 3 and gives, for each step, the state of the disk there.
fn killed_everywhere(sandbox: &Sandbox) -> Vec<(String, tempfile::TempDir)> {
    sandbox.publish("kept", "kept", "one");
    let mut draft = sandbox.begin();
    put(&mut draft, "d/new", "new");
    let states = RefCell::new(Vec::new());
    let passing = |step: &str| {
        let state = tempfile::tempdir().unwrap();
        copy_tree(sandbox.directory.path(), state.path());
        states.borrow_mut().push((step.to_owned(), state));
    };
    draft.commit(Some(TAG), NOW, &passing).unwrap();
    states.into_inner()
}

fn stratum0(state: &tempfile::TempDir) -> Stratum0 {
    Stratum0::at(state.path().join("root").join(NAME), NAME, state.path().join("keys"))
}

#[test]
fn the_old_revision_or_the_new_one_is_there_whole_and_can_be_published_on() {
    let sandbox = Sandbox::new();
    let mut steps = Vec::new();
    for (step, state) in killed_everywhere(&sandbox) {
        let stratum0 = stratum0(&state);
        let reader = stratum0.reader(Expiry::Refuse { now: NOW }).unwrap();
        let published = reader.manifest().revision == 3;
        assert_eq!(reader.tag("two").unwrap().is_some(), published, "{step}");
        assert_eq!(reader.tree().unwrap().lookup(b"d/new").unwrap().is_some(), published, "{step}");

        let mut draft = stratum0.begin(stratum0.lock().unwrap().unwrap(), NOW).unwrap();
        super::support::check(&reader);
        put(&mut draft, "again", "again");
        draft.commit(Some(NewTag { name: "three", description: "" }), NOW, &|_| {}).unwrap();
        let reader = stratum0.reader(Expiry::Refuse { now: NOW }).unwrap();
        super::support::check(&reader);
        assert_eq!(reader.manifest().revision, if published { 4 } else { 3 });
        steps.push((step, published));
    }
    let expected = [
        ("reflog-written", false),
        ("before-objects-sync", false),
        ("objects-synced", false),
        ("before-flip", false),
        ("flipped", true),
        ("flip-synced", true),
    ];
    assert_eq!(steps, expected.map(|(step, published)| (step.to_owned(), published)));
}

#[test]
fn nothing_of_a_killed_publish_is_left_after_the_next_look() {
    let sandbox = Sandbox::new();
    for (step, state) in killed_everywhere(&sandbox) {
        let stratum0 = stratum0(&state);
        let base = stratum0.directory();
        assert_eq!(fs::read_dir(base.join("data/txn")).unwrap().count(), 1, "{step}");
        // Somebody else's temporary file is not ours to remove.
        fs::write(base.join("data/txn/theirs"), b"").unwrap();
        let reader = stratum0.reader(Expiry::Ignore).unwrap();
        stratum0.repair(&stratum0.lock().unwrap().unwrap(), &reader).unwrap();
        let left: Vec<_> =
            fs::read_dir(base.join("data/txn")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["theirs"], "{step}");
        assert!(!base.join(".cvmfsreflog.next").exists() && !base.join(".cvmfspublished.next").exists(), "{step}");
        super::support::check(&reader);
    }
}

#[test]
fn a_stale_or_lost_reflog_is_rebuilt_from_the_chain() {
    for lost in [false, true] {
        let sandbox = Sandbox::new();
        sandbox.publish("a", "1", "one");
        let reflog = sandbox.stratum0.directory().join(".cvmfsreflog");
        let stale = fs::read(&reflog).unwrap();
        sandbox.publish("a", "2", "two");
        if lost {
            fs::remove_file(&reflog).unwrap()
        } else {
            fs::write(&reflog, stale).unwrap()
        }
        sandbox.publish("a", "3", "three");
        sandbox.check();
        let copy = tempfile::NamedTempFile::new().unwrap();
        fs::copy(&reflog, copy.path()).unwrap();
        let reflog = crate::cvmfs::reflog::Reflog::open_for_editing(copy.path()).unwrap();
        for revision in sandbox.reader().revisions() {
            assert!(reflog.contains(&revision.unwrap().root_hash).unwrap());
        }
        // Four catalogs, four histories, certificate, metainfo.
        assert_eq!(reflog.count().unwrap(), 10);
    }
}

#[test]
fn dropping_a_draft_leaves_everything_as_it_was() {
    let sandbox = Sandbox::new();
    let list = || {
        let walk = walkdir::WalkDir::new(sandbox.stratum0.directory()).sort_by_file_name().into_iter();
        walk.map(|entry| entry.unwrap().into_path()).collect::<Vec<_>>()
    };
    let before = list();
    let mut draft = sandbox.begin();
    put(&mut draft, "d/new", "new");
    assert_ne!(list(), before);
    drop(draft);
    assert_eq!(list(), before);
}
