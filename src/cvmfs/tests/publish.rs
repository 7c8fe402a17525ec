//! Publishing.

use std::fs;

use super::support::{NOW, Sandbox, entry, file, put};
use crate::cvmfs::Error;
use crate::cvmfs::edit::{EditError, NewEntry, NewKind, Put};
use crate::cvmfs::hash::ObjectKind;
use crate::cvmfs::reader::Expiry;
use crate::cvmfs::stratum0::{CreateOptions, NewTag, Stratum0};

fn why(error: EditError) -> String {
    assert!(matches!(error, EditError::Conflict { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn a_new_repository_is_revision_1_with_one_empty_directory() {
    let sandbox = Sandbox::new();
    let info = sandbox.reader().info().unwrap();
    assert_eq!((info.revision, info.published_at), (1, NOW));
    assert_eq!(info.tags.iter().map(|tag| &tag.name[..]).collect::<Vec<_>>(), ["trunk"]);
    assert!(info.whitelist_expires_at > NOW + 29 * 86_400);
    assert!(sandbox.reader().tree().unwrap().list(b"").unwrap().is_empty());
    sandbox.check();
    let again = Stratum0::create(
        sandbox.stratum0.directory(),
        sandbox.stratum0.name(),
        sandbox.keys(),
        &CreateOptions::default(),
        NOW,
    );
    assert!(matches!(again, Err(Error::Exists(_))));
}

#[test]
fn revisions_form_a_chain_and_tags_follow() {
    let sandbox = Sandbox::new();
    let mut hashes = vec![sandbox.reader().manifest().root_hash];
    for round in 0..5 {
        hashes.insert(0, sandbox.publish("a/file", &format!("round {round}"), &format!("tag-{round}")).root_hash);
        sandbox.check();
    }
    let reader = sandbox.reader();
    let chain: Vec<_> = reader.revisions().map(|revision| revision.unwrap().root_hash).collect();
    assert_eq!(chain, hashes);
    let at = |name: &str| reader.tag(name).unwrap().unwrap();
    assert_eq!((at("trunk").revision, at("trunk-previous").revision, at("tag-0").revision), (6, 5, 2));
    assert_eq!(at("trunk").root_hash, hashes[0]);
    assert_eq!(at("trunk").size, reader.manifest().root_size);
    assert_eq!(at("trunk-previous").root_hash, hashes[1]);
    let mut histories = vec![];
    let mut next = reader.manifest().history;
    while let Some(hash) = next {
        histories.push(hash);
        next = reader.history_at(&hash).unwrap().previous().unwrap();
    }
    assert_eq!(histories.len(), 6);
    assert_eq!(sandbox.content("a/file"), "round 4");
    let old = reader.tree_at(&at("tag-1").root_hash).unwrap().file(b"a/file").map(std::io::read_to_string).unwrap();
    assert_eq!(old.unwrap(), "round 1");
}

#[test]
fn a_used_tag_is_refused_and_nothing_changes() {
    let sandbox = Sandbox::new();
    sandbox.publish("a", "1", "once");
    let before = fs::read(sandbox.stratum0.directory().join(".cvmfspublished")).unwrap();
    let mut draft = sandbox.begin();
    put(&mut draft, "a", "2");
    let error = draft.commit(Some(NewTag { name: "once", description: "" }), NOW, &|_| {}).unwrap_err();
    assert!(matches!(error, Error::Exists(_)), "{error}");
    assert_eq!(fs::read(sandbox.stratum0.directory().join(".cvmfspublished")).unwrap(), before);
    sandbox.check();
}

#[test]
fn a_publish_that_failed_leaves_no_files_that_wait() {
    let sandbox = Sandbox::new();
    let draft = sandbox.begin();
    let key = sandbox.stratum0.directory().join(".cvmfspublished.next");
    // Neither root nor a full disk is needed to make the last write fail.
    fs::create_dir(&key).unwrap();
    let error = draft.commit(None, NOW, &|_| {}).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(!sandbox.stratum0.directory().join(".cvmfsreflog.next").exists());
    fs::remove_dir(&key).unwrap();
    sandbox.publish("a", "1", "one");
    sandbox.check();
}

#[test]
fn entries_are_replaced_removed_and_change_their_kind() {
    let sandbox = Sandbox::new();
    let mut draft = sandbox.begin();
    for path in ["d/a", "d/sub/b", "d/sub/deeper/c", "e", "f/g"] {
        put(&mut draft, path, path);
    }
    let link = entry(NewKind::Symlink { target: b"../nowhere".to_vec() });
    assert_eq!(draft.tree().put(b"d/link", &link).unwrap(), Put::Added);
    assert_eq!(draft.tree().put(b"d/link", &link).unwrap(), Put::Unchanged);
    draft.commit(None, NOW, &|_| {}).unwrap();
    sandbox.check();

    let mut draft = sandbox.begin();
    let kind = file(&mut draft, b"now a file");
    assert_eq!(draft.tree().put(b"d", &entry(kind)).unwrap(), Put::Replaced);
    assert_eq!(draft.tree().put(b"e", &entry(NewKind::Directory)).unwrap(), Put::Replaced);
    put(&mut draft, "e/inside", "x");
    assert!(draft.tree().remove(b"f").unwrap());
    assert!(!draft.tree().remove(b"f/g").unwrap());
    draft.commit(None, NOW, &|_| {}).unwrap();
    sandbox.check();
    let reader = sandbox.reader();
    let mut paths = Vec::new();
    reader
        .tree()
        .unwrap()
        .walk(b"", |path, _| {
            paths.push(String::from_utf8(path.to_vec()).unwrap());
            Ok(())
        })
        .unwrap();
    assert_eq!(paths, ["", "d", "e", "e/inside"]);
    assert_eq!(sandbox.content("d"), "now a file");
}

#[test]
fn a_directory_over_a_directory_changes_its_metadata_only() {
    let sandbox = Sandbox::new();
    sandbox.publish("d/sub/a", "x", "t");
    let mut draft = sandbox.begin();
    let new = NewEntry { permissions: 0o2750, mtime_ns: Some(5), ..entry(NewKind::Directory) };
    assert_eq!(draft.tree().put(b"d", &new).unwrap(), Put::Replaced);
    assert_eq!(draft.tree().put(b"", &new).unwrap(), Put::Replaced);
    draft.commit(None, NOW, &|_| {}).unwrap();
    sandbox.check();
    let found = sandbox.reader().tree().unwrap().lookup(b"d").unwrap().unwrap();
    assert_eq!((found.mode, found.mtime_ns, found.uid, found.gid), (0o042_750, Some(5), 1, 2));
    assert_eq!(sandbox.content("d/sub/a"), "x");
}

#[test]
fn what_stands_in_the_way_is_a_conflict() {
    let sandbox = Sandbox::new();
    sandbox.publish("d/file", "x", "t");
    let mut draft = sandbox.begin();
    let link = entry(NewKind::Symlink { target: b"d".to_vec() });
    let catalog = draft.tree();
    catalog.put(b"link", &link).unwrap();
    assert!(why(catalog.put(b"d/file/x", &link).unwrap_err()).contains("it is a file"));
    assert!(why(catalog.put(b"link/x", &link).unwrap_err()).contains("symbolic link"));
    assert!(why(catalog.put(b"none/x", &link).unwrap_err()).contains("no such directory"));
    assert!(why(catalog.put(b"", &link).unwrap_err()).contains("root"));
    assert!(why(catalog.remove(b"").unwrap_err()).contains("root"));
    draft.commit(None, NOW, &|_| {}).unwrap();
    sandbox.check();
}

#[test]
fn names_and_targets_are_bytes() {
    let sandbox = Sandbox::new();
    let names: [&[u8]; 5] = [b"\xff\xfe", b"line\nbreak", b"quote'\"", "z\u{fc}rich".as_bytes(), b" "];
    let mut draft = sandbox.begin();
    for name in names {
        let kind = file(&mut draft, name);
        draft.tree().put(name, &entry(kind)).unwrap();
    }
    let target = b"\x80/\xc3".to_vec();
    draft.tree().put(b"link\xff", &entry(NewKind::Symlink { target: target.clone() })).unwrap();
    draft.commit(None, NOW, &|_| {}).unwrap();
    sandbox.check();
    let reader = sandbox.reader();
    let mut tree = reader.tree().unwrap();
    for name in names {
        let mut content = Vec::new();
        std::io::copy(&mut tree.file(name).unwrap(), &mut content).unwrap();
        assert_eq!(content, name);
    }
    assert_eq!(tree.lookup(b"link\xff").unwrap().unwrap().symlink, target);
}

#[test]
fn equal_contents_are_stored_once_and_large_ones_with_bounded_memory() {
    let sandbox = Sandbox::new();
    let mut draft = sandbox.begin();
    put(&mut draft, "empty", "");
    put(&mut draft, "a", "same");
    put(&mut draft, "b", "same");
    // More than what is kept in memory, and not compressible: an LCG's upper bytes.
    let mut state = 1_u64;
    let large: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(5 << 20)
    .collect();
    let kind = file(&mut draft, &large);
    draft.tree().put(b"large", &entry(kind)).unwrap();
    draft.commit(None, NOW, &|_| {}).unwrap();
    sandbox.check();
    let reader = sandbox.reader();
    let mut tree = reader.tree().unwrap();
    let hash = |tree: &mut crate::cvmfs::tree::Tree<'_>, path: &[u8]| tree.lookup(path).unwrap().unwrap().hash.unwrap();
    assert_eq!(hash(&mut tree, b"a"), hash(&mut tree, b"b"));
    // As the real tools name the empty object.
    assert_eq!(hash(&mut tree, b"empty").to_string(), "e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78");
    let mut read = Vec::new();
    std::io::copy(&mut tree.file(b"large").unwrap(), &mut read).unwrap();
    assert!(read == large);
}

#[test]
fn an_object_that_was_cut_short_is_stored_again() {
    let sandbox = Sandbox::new();
    sandbox.publish("a", "some content", "one");
    let hash = sandbox.reader().tree().unwrap().lookup(b"a").unwrap().unwrap().hash.unwrap();
    let object = sandbox.stratum0.directory().join(hash.object_path(ObjectKind::File));
    fs::write(&object, b"").unwrap();
    let read = sandbox.reader().tree().unwrap().file(b"a").map(std::io::read_to_string).unwrap();
    assert!(read.is_err(), "a corrupt object must not be read");
    sandbox.publish("b", "some content", "two");
    sandbox.check();
}

#[test]
fn another_publisher_s_revision_is_not_overwritten() {
    let sandbox = Sandbox::new();
    let mut draft = sandbox.begin();
    put(&mut draft, "ours", "x");
    // Somebody who does not know our lock.
    let published = sandbox.stratum0.directory().join(".cvmfspublished");
    let other = Sandbox::new();
    fs::copy(other.stratum0.directory().join(".cvmfspublished"), &published).unwrap();
    let theirs = fs::read(&published).unwrap();
    other.publish("x", "y", "z");
    let newer = fs::read(other.stratum0.directory().join(".cvmfspublished")).unwrap();
    fs::write(&published, &newer).unwrap();
    let error = draft.commit(None, NOW, &|_| {}).unwrap_err();
    assert!(matches!(error, Error::Overtaken { base: 1, found: 2 }), "{error}");
    assert_ne!(theirs, newer);
    assert_eq!(fs::read(&published).unwrap(), newer);
}

#[test]
fn one_lock_at_a_time() {
    let sandbox = Sandbox::new();
    let draft = sandbox.begin();
    let held = sandbox.stratum0.lock().unwrap().unwrap_err();
    assert_eq!(held.holder, format!("process {}", std::process::id()));
    assert!(sandbox.stratum0.resign(30, NOW).is_err());
    drop(draft);
    drop(sandbox.begin());
}

#[test]
fn an_expired_whitelist_stops_publishing_until_it_is_signed_anew() {
    let sandbox = Sandbox::new();
    let later = NOW + 40 * 86_400;
    let error = sandbox.stratum0.begin(sandbox.stratum0.lock().unwrap().unwrap(), later).err().unwrap();
    assert!(matches!(error, Error::Expired { .. }), "{error}");
    assert!(sandbox.stratum0.reader(Expiry::Refuse { now: later }).is_err());
    assert_eq!(sandbox.stratum0.reader(Expiry::Ignore).unwrap().manifest().revision, 1);
    let whitelist = sandbox.stratum0.resign(10, later).unwrap();
    assert_eq!(whitelist.expires_at, later + 10 * 86_400 - (later % 3600));
    drop(sandbox.stratum0.begin(sandbox.stratum0.lock().unwrap().unwrap(), later).unwrap());
}

#[test]
fn a_clock_that_went_back_does_not_make_an_older_manifest() {
    let sandbox = Sandbox::new();
    let draft = sandbox.begin();
    let manifest = draft.commit(None, NOW - 5000, &|_| {}).unwrap();
    assert_eq!(manifest.published_at, NOW);
}

#[test]
fn a_catalog_that_shrank_is_written_anew_without_its_free_pages() {
    let sandbox = Sandbox::new();
    let mut draft = sandbox.begin();
    for number in 0..3000 {
        put(&mut draft, &format!("d/{number}"), "x");
    }
    let full = draft.commit(None, NOW, &|_| {}).unwrap().root_size;
    sandbox.check();
    let mut draft = sandbox.begin();
    draft.tree().remove(b"d").unwrap();
    let empty = draft.commit(None, NOW, &|_| {}).unwrap().root_size;
    sandbox.check();
    assert!(empty * 8 < full, "{empty} bytes after {full}");
}
