//! What changed between two revisions is what their listings say.

use std::collections::BTreeMap;

use super::check::damage::{NAME, Patient};
use super::support::{NOW, Sandbox, entry, file, put};
use crate::cvmfs::Error;
use crate::cvmfs::catalog::{Entry, Flags};
use crate::cvmfs::diff::{Aspect, Change, ChangeKind, diff};
use crate::cvmfs::edit::{NewEntry, NewKind};
use crate::cvmfs::hash::{ContentHash, ObjectKind};
use crate::cvmfs::reader::Reader;

fn changes(reader: &Reader, from: &ContentHash, to: &ContentHash) -> Vec<Change> {
    let mut changes = Vec::new();
    diff(reader, from, to, &mut |change| {
        changes.push(change);
        Ok(())
    })
    .unwrap();
    changes
}

/// `+path`, `-path`, `path: aspects`.
fn lines(changes: &[Change]) -> Vec<String> {
    let line = |change: &Change| {
        let path = String::from_utf8(change.path.clone()).unwrap();
        match &change.kind {
            ChangeKind::Added(_) => format!("+{path}"),
            ChangeKind::Removed(_) => format!("-{path}"),
            ChangeKind::Modified { aspects, .. } => {
                let aspects: Vec<_> = aspects.iter().map(|aspect| aspect.as_str()).collect();
                format!("{path}: {}", aspects.join(" "))
            }
        }
    };
    changes.iter().map(line).collect()
}

fn listing(reader: &Reader, root: &ContentHash) -> BTreeMap<Vec<u8>, Entry> {
    let mut entries = BTreeMap::new();
    let visit = |path: &[u8], entry: &Entry| {
        let flags = Flags(entry.flags.0 & !(Flags::NESTED_MOUNTPOINT | Flags::NESTED_ROOT));
        entries.insert(path.to_vec(), Entry { flags, ..entry.clone() });
        Ok(())
    };
    reader.tree_at(root).unwrap().walk(b"", visit).unwrap();
    entries
}

/// Compares a diff with both listings, each read whole.
fn assert_complete(reader: &Reader, from: &ContentHash, to: &ContentHash) {
    let (old, new) = (listing(reader, from), listing(reader, to));
    let mut expected = BTreeMap::new();
    for path in old.keys().chain(new.keys()) {
        let sign = match (old.get(path), new.get(path)) {
            (Some(_), None) => '-',
            (None, Some(_)) => '+',
            (a, b) if a != b => '*',
            _ => continue,
        };
        expected.insert(path.clone(), sign);
    }
    let found = changes(reader, from, to);
    let sign = |kind: &ChangeKind| match kind {
        ChangeKind::Added(_) => '+',
        ChangeKind::Removed(_) => '-',
        ChangeKind::Modified { .. } => '*',
    };
    let shown: BTreeMap<_, _> = found.iter().map(|change| (change.path.clone(), sign(&change.kind))).collect();
    assert_eq!(shown, expected);
    assert_eq!(shown.len(), found.len(), "a path is told twice");
    // Directories first, entries by name: the order of the paths taken as lists of names.
    let names: Vec<Vec<&[u8]>> = found.iter().map(|change| change.path.split(|byte| *byte == b'/').collect()).collect();
    assert!(names.is_sorted());
}

#[test]
fn revisions_of_the_real_tools() {
    for name in [NAME, "shake.example.org"] {
        let patient = Patient::new(name);
        let reader = patient.reader();
        let chain: Vec<_> = reader.revisions().map(|revision| revision.unwrap().root_hash).collect();
        for from in &chain {
            for to in &chain {
                assert_complete(&reader, from, to);
            }
        }
        let told = lines(&changes(&reader, &chain[1], &chain[0]));
        assert_eq!(
            told,
            [
                ": links",
                "conditions/2026: mtime",
                "-conditions/2026/iov-5.dat",
                "conditions/2026/iov-6.dat: content size mtime",
                "-empty-dir",
                "sw: mtime",
                "-sw/empty-file",
                "+sw/renamed-file",
                "sw/tool: mtime links",
                "+sw/tool/1.1",
                "+sw/tool/1.1/.cvmfscatalog",
                "+sw/tool/1.1/bin",
                "+sw/tool/1.1/bin/tool",
                "+sw/tool/1.1/bin/tool-hardlink",
                "+sw/tool/1.1/bin/tool-link",
            ],
            "{name}"
        );
    }
}

#[test]
fn equal_catalogs_are_not_opened() {
    let patient = Patient::new(NAME);
    let reader = patient.reader();
    let chain: Vec<_> = reader.revisions().map(|revision| revision.unwrap().root_hash).collect();
    let nested = reader.catalog(&chain[0]).unwrap().nested_at(b"sw/tool/1.0").unwrap().unwrap();
    let all = changes(&reader, &chain[1], &chain[0]);
    std::fs::remove_file(patient.base.join(nested.hash.object_path(ObjectKind::Catalog))).unwrap();
    assert_eq!(changes(&reader, &chain[1], &chain[0]), all);
    // One that is on one side only must be.
    assert!(diff(&reader, &chain[2], &chain[0], &mut |_| Ok(())).is_err());
}

#[test]
fn each_aspect_is_named() {
    let table: &[(&str, &str)] = &[
        ("UPDATE catalog SET mode = 33261 WHERE name = 'big.txt'", "sw/tool/1.0/share/big.txt: mode"),
        ("UPDATE catalog SET uid = 7 WHERE name = 'tool'", "sw/tool/1.0/bin/tool: owner"),
        ("UPDATE catalog SET gid = 7 WHERE name = 'tool'", "sw/tool/1.0/bin/tool: owner"),
        ("UPDATE catalog SET mtime = 7 WHERE name = 'bin'", "sw/tool/1.0/bin: mtime"),
        ("UPDATE catalog SET mtimens = 7 WHERE name = 'tool'", "sw/tool/1.0/bin/tool: mtime"),
        ("UPDATE catalog SET xattr = x'010101016162' WHERE name = 'tool'", "sw/tool/1.0/bin/tool: xattrs"),
        ("UPDATE catalog SET symlink = 'other' WHERE name = 'tool-link'", "sw/tool/1.0/bin/tool-link: target"),
        ("UPDATE catalog SET hardlinks = 2 WHERE name = 'tool'", "sw/tool/1.0/bin/tool: links"),
        ("UPDATE catalog SET hash = zeroblob(20) WHERE name = 'tool'", "sw/tool/1.0/bin/tool: content"),
        ("UPDATE chunks SET hash = zeroblob(20) WHERE offset = 0", "sw/tool/1.0/share/big.txt: content"),
        ("UPDATE catalog SET flags = flags | 128 WHERE name = 'tool'", "sw/tool/1.0/bin/tool: content"),
        ("UPDATE catalog SET mode = 41471, flags = 12 WHERE name = 'tool'", "sw/tool/1.0/bin/tool: type"),
        ("UPDATE catalog SET flags = flags | 32768 WHERE name = 'tool'", "-sw/tool/1.0/bin/tool"),
        ("UPDATE catalog SET hardlinks = hardlinks | (5 << 32) WHERE name = 'tool'", ""),
    ];
    let patient = Patient::new(NAME);
    let (healthy, reader) = (patient.state(), patient.reader());
    for (sql, expected) in table {
        patient.restore(&healthy);
        patient.catalog("sw/tool/1.0", sql);
        let told = lines(&changes(&reader, &reader.manifest().root_hash, &patient.reader().manifest().root_hash));
        assert_eq!(told.join("\n"), *expected, "{sql}");
    }
}

#[test]
fn a_nested_catalog_that_becomes_a_directory_is_no_change() {
    let patient = Patient::new(NAME);
    let reader = patient.reader();
    let old = reader.manifest().root_hash;
    let nested = reader.catalog(&old).unwrap().nested_at(b"conditions").unwrap().unwrap();
    let copy = tempfile::NamedTempFile::new().unwrap();
    crate::cvmfs::object::unpack(reader.fetch(), &nested.hash, ObjectKind::Catalog, copy.path()).unwrap();
    let sql = format!(
        "ATTACH '{}' AS inner; DELETE FROM nested_catalogs WHERE path = '/conditions'; \
         UPDATE catalog SET flags = 1 WHERE name = 'conditions'; \
         INSERT INTO catalog SELECT * FROM inner.catalog WHERE flags & 32 = 0; \
         UPDATE catalog SET mtime = 9 WHERE name = 'iov-9.dat'",
        copy.path().display()
    );
    patient.catalog("", &sql);
    let new = patient.reader().manifest().root_hash;
    assert_eq!(lines(&changes(&reader, &old, &new)), ["conditions/2026/iov-9.dat: mtime"]);
    assert_eq!(lines(&changes(&reader, &new, &old)), ["conditions/2026/iov-9.dat: mtime"]);
    assert_complete(&reader, &old, &new);
}

#[test]
fn a_directory_in_place_of_a_file_and_back() {
    let sandbox = Sandbox::new();
    let one = sandbox.publish("a", "file", "one").root_hash;
    let mut draft = sandbox.begin();
    put(&mut draft, "b-b", "beside");
    draft.tree().remove(b"a").unwrap();
    put(&mut draft, "a/x/y", "deep");
    put(&mut draft, "b/c", "in b");
    let two = draft.commit(None, NOW, &|_| {}).unwrap().root_hash;
    let reader = sandbox.reader();
    let forth = ["a: type", "+a/x", "+a/x/y", "+b", "+b/c", "+b-b"];
    // The root's time is its own: nobody set it.
    assert_eq!(lines(&changes(&reader, &one, &two)), [&[": links"], &forth[..]].concat());
    let back = ["a: type", "-a/x", "-a/x/y", "-b", "-b/c", "-b-b"];
    assert_eq!(lines(&changes(&reader, &two, &one)), [&[": links"], &back[..]].concat());
    assert_complete(&reader, &one, &two);
    assert_eq!(changes(&reader, &two, &two), []);
}

#[test]
fn the_sink_can_end_it_and_gets_both_entries() {
    let sandbox = Sandbox::new();
    let one = sandbox.publish("a", "one", "one").root_hash;
    let mut draft = sandbox.begin();
    let kind = file(&mut draft, b"other");
    draft.tree().put(b"a", &entry(kind)).unwrap();
    draft.tree().put(b"b", &NewEntry { permissions: 0o700, ..entry(NewKind::Directory) }).unwrap();
    let two = draft.commit(None, NOW, &|_| {}).unwrap().root_hash;
    let reader = sandbox.reader();
    let mut heard = 0;
    let ended = diff(&reader, &one, &two, &mut |_| {
        heard += 1;
        Err(Error::Missing("patience".into()))
    });
    assert!(ended.unwrap_err().to_string().contains("patience") && heard == 1);
    let found = changes(&reader, &one, &two);
    let Some(ChangeKind::Modified { from, to, aspects }) =
        found.iter().find(|change| change.path == b"a").map(|c| &c.kind)
    else {
        panic!("{found:?}")
    };
    assert_eq!((from.size, to.size), (3, 5));
    assert_eq!(aspects, &[Aspect::Content, Aspect::Size]);
}
