//! One directory with very many entries.

use super::support::{NOW, Sandbox, entry, file, put};
use crate::cvmfs::edit::NewKind;
use crate::cvmfs::stratum0::Draft;

fn fill(draft: &mut Draft, entries: usize) {
    draft.tree().put(b"d", &entry(NewKind::Directory)).unwrap();
    let kind = file(draft, b"same");
    for number in 0..entries {
        draft.tree().put(format!("d/{number}").as_bytes(), &entry(kind.clone())).unwrap();
    }
}

/// Fills it, changes one, puts a file in its place, and fills it again.
fn one_directory(entries: usize) {
    let sandbox = Sandbox::new();
    let publish = |change: &dyn Fn(&mut Draft)| {
        let mut draft = sandbox.begin();
        change(&mut draft);
        draft.commit(None, NOW, &|_| {}).unwrap();
        sandbox.check();
    };
    let count = || sandbox.reader().tree().unwrap().list(b"d").unwrap().len();
    let size = || sandbox.reader().manifest().root_size;
    let empty = size();
    publish(&|draft| fill(draft, entries));
    let full = size();
    assert_eq!(count(), entries);
    publish(&|draft| put(draft, "d/7", "other"));
    assert_eq!((count(), &sandbox.content("d/7")[..], &sandbox.content("d/8")[..]), (entries, "other", "same"));
    publish(&|draft| put(draft, "d", "a file"));
    assert_eq!(sandbox.content("d"), "a file");
    assert!(size() < empty + (full - empty) / 20, "the catalog keeps the room of what went: {}", size());
    publish(&|draft| fill(draft, entries));
    assert_eq!((count(), &sandbox.content("d/7")[..]), (entries, "same"));
}

#[test]
fn a_directory_of_10_000_entries_comes_and_goes() {
    one_directory(10_000);
}

#[test]
#[ignore = "takes a minute without optimization: see CONTRIBUTING.md"]
fn a_directory_of_300_000_entries_comes_and_goes() {
    one_directory(300_000);
}
