//! Comparing what was staged with what is published.

use crate::cvmfs::edit::{NewEntry, NewKind};
use crate::cvmfs::reader::Expiry;
use crate::cvmfs::stratum0::NewTag;
use crate::cvmfs::tests::support::{NOW, Sandbox, entry, file, put};
use crate::publisher::cvmfs_server::upper::{Kind, State};
use crate::publisher::cvmfs_server::verify::verify;

use super::*;

/// A state that [`put`] makes.
fn state(mode: u32, size: u64) -> State {
    State { size, mtime: 1_700_000_000, mode, uid: 1, gid: 2, target: None }
}

fn change(at: &str, now: Option<State>) -> Change {
    let kind = if now.is_some() { Kind::Added } else { Kind::Removed };
    Change { path: path(at), kind, only_mtime: false, breaks_links: false, now }
}

/// A repository with a nested catalog at `n`, and what is wrong with changes of it.
fn wrong(changes: &[Change], ignores_special_files: bool) -> Vec<String> {
    let sandbox = Sandbox::new();
    let mut draft = sandbox.begin();
    put(&mut draft, "n/d/file", "123");
    put(&mut draft, "n/.cvmfscatalog", "");
    put(&mut draft, "grafted", "12345");
    let link = NewKind::Symlink { target: b"n/\xff".to_vec() };
    draft.tree().put(b"link", &entry(link)).unwrap();
    // As `cvmfs_server` leaves a directory that `.cvmfsdirtab` made it put a marker into.
    let marked = |kind| NewEntry { mtime: NOW, ..entry(kind) };
    draft.tree().put(b"split", &marked(NewKind::Directory)).unwrap();
    let empty = file(&mut draft, b"");
    draft.tree().put(b"split/.cvmfscatalog", &marked(empty)).unwrap();
    draft.commit(Some(NewTag { name: "t", description: "" }), NOW, &|_| {}).unwrap();
    let reader = sandbox.stratum0.reader(Expiry::Ignore).unwrap();
    let found = verify(&reader, &reader.manifest().root_hash, changes, ignores_special_files).unwrap();
    assert_eq!(found.count, found.named.len() as u64);
    found.named.iter().map(|mismatch| format!("{}: {}", mismatch.path, mismatch.why)).collect()
}

#[test]
fn what_is_published_as_it_was_staged_is_not_named() {
    let link = State { target: Some(b"n/\xff".as_slice().into()), ..state(0o120_777, 0) };
    let changes = [
        change(".cvmfsgraft-grafted", Some(state(0o100_644, 80))),
        change("gone", None),
        change("grafted", Some(state(0o100_644, 0))),
        change("link", Some(link)),
        change("n", Some(state(0o040_644, 0))),
        change("n/.cvmfscatalog", Some(state(0o100_644, 0))),
        change("n/d/file", Some(state(0o100_644, 3))),
        change("pipe", Some(state(0o010_644, 0))),
        change("split", Some(state(0o040_644, 0))),
        change("split/.cvmfscatalog", None),
    ];
    assert_eq!(wrong(&changes, true), [""; 0]);
}

#[test]
fn each_difference_is_named() {
    let file = |at, now| change(at, Some(now));
    let right = state(0o100_644, 3);
    let changes = [
        file("link", State { target: Some(b"n".as_slice().into()), ..state(0o120_777, 0) }),
        file("missing", right.clone()),
        file("n/d", State { mtime: 7, ..state(0o040_644, 0) }),
        file("n/d", state(0o100_644, 0)),
        change("n/d", None),
        file("n/d/file", State { size: 4, ..right.clone() }),
        file("n/d/file", State { mode: 0o104_644, ..right.clone() }),
        file("n/d/file", State { uid: 0, ..right.clone() }),
        file("n/d/file", State { mtime: 0, ..right.clone() }),
        file("pipe", state(0o010_644, 0)),
    ];
    let expected = [
        r"link: its target is n/\xff, and was staged as n",
        "missing: it is missing",
        "n/d: its time is 1700000000, and was staged as 7",
        "n/d: its type is a directory, and was staged as a file",
        "n/d: it was removed and is still there",
        "n/d/file: its size is 3, and was staged as 4",
        "n/d/file: its mode is 0644, and was staged as 4644",
        "n/d/file: its owner is 1:2, and was staged as 0:2",
        "n/d/file: its time is 1700000000, and was staged as 0",
        "pipe: it is missing",
    ];
    assert_eq!(wrong(&changes, false), expected);
}
