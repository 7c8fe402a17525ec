//! Editing across catalogs. What every test ends with is the check of the whole repository.

use super::super::check;
use super::super::settings::AutoCatalogs;
use super::super::stratum0::Draft;
use super::super::tests::support::{NOW, Sandbox, entry, file, put};
use super::super::xattr::Xattrs;
use super::*;

fn publish(sandbox: &Sandbox, edit: impl FnOnce(&mut Draft)) {
    let mut draft = sandbox.begin();
    edit(&mut draft);
    draft.commit(None, NOW, &|_| {}).unwrap();
    sandbox.check();
}

fn paths(sandbox: &Sandbox) -> Vec<String> {
    let mut paths = Vec::new();
    let reader = sandbox.reader();
    let visit = |path: &[u8], _: &Entry| {
        paths.push(shown(path));
        Ok(())
    };
    reader.tree().unwrap().walk(b"", visit).unwrap();
    paths
}

/// Where nested catalogs begin, all over the repository.
fn mounts(sandbox: &Sandbox) -> Vec<String> {
    let reader = sandbox.reader();
    let mut found = Vec::new();
    let mut pending = vec![reader.manifest().root_hash];
    while let Some(hash) = pending.pop() {
        for nested in reader.catalog(&hash).unwrap().nested().unwrap() {
            found.push(shown(&nested.path));
            pending.push(nested.hash);
        }
    }
    found.sort();
    found
}

#[test]
fn a_marker_makes_a_catalog_and_goes_with_it() {
    let sandbox = Sandbox::new();
    publish(&sandbox, |draft| {
        for path in ["a/x", "a/b/y", "a/b/c/z", "a/b/c/.cvmfscatalog", "a/b/.cvmfscatalog", "a/.cvmfscatalog", "other"]
        {
            put(draft, path, path);
        }
        put(draft, "a/b/c/later", "x");
    });
    assert_eq!(mounts(&sandbox), ["a", "a/b", "a/b/c"]);
    let before = paths(&sandbox);

    // Changes in the deepest reach the root's counters; a directory's link count is right in both catalogs.
    publish(&sandbox, |draft| {
        put(draft, "a/b/c/new/file", "x");
        put(draft, "a/b/top/file", "x");
        let new = NewEntry { permissions: 0o700, ..entry(NewKind::Directory) };
        draft.tree().put(b"a/b", &new).unwrap();
        draft.tree().remove(b"a/x").unwrap();
    });
    // The middle one goes: what was below it hangs on the one above.
    publish(&sandbox, |draft| assert!(draft.tree().remove(b"a/b/.cvmfscatalog").unwrap()));
    assert_eq!(mounts(&sandbox), ["a", "a/b/c"]);
    publish(&sandbox, |draft| put(draft, "a/b/.cvmfscatalog", ""));
    assert_eq!(mounts(&sandbox), ["a", "a/b", "a/b/c"]);
    assert_eq!(sandbox.content("a/b/c/z"), "a/b/c/z");
    assert_eq!(paths(&sandbox).len(), before.len() + 4 - 1);
    // Nothing else can have that name: the real check takes it for a marker.
    publish(&sandbox, |draft| {
        let link = entry(NewKind::Symlink { target: b"x".to_vec() });
        for (path, kind) in [("a/b/c/.cvmfscatalog", NewKind::Fifo), ("other/.cvmfscatalog", NewKind::Directory)] {
            let error = draft.tree().put(path.as_bytes(), &entry(kind)).unwrap_err();
            assert!(matches!(error, EditError::Conflict { .. }), "{error}");
        }
        draft.tree().put(b"link", &link).unwrap();
        draft.tree().link(b"a/.cvmfscatalog", b"link").unwrap_err();
    });
    assert_eq!(mounts(&sandbox), ["a", "a/b", "a/b/c"]);
}

#[test]
fn a_directory_goes_with_the_catalogs_in_it() {
    let sandbox = Sandbox::new();
    let make = |draft: &mut Draft| {
        for path in ["a/b/c/d/z", "a/b/c/d/.cvmfscatalog", "a/b/.cvmfscatalog", "a/n/.cvmfscatalog", "a/n/deep/file"] {
            put(draft, path, path);
        }
    };
    publish(&sandbox, make);
    publish(&sandbox, |draft| assert!(draft.tree().remove(b"a").unwrap()));
    assert_eq!(paths(&sandbox), [""]);
    publish(&sandbox, make);
    publish(&sandbox, |draft| {
        // Changed first, then gone: nothing of it may be counted.
        put(draft, "a/b/c/d/more", "x");
        put(draft, "a/n/deep/more", "x");
        let kind = file(draft, b"a file now");
        draft.tree().put(b"a/b", &entry(kind)).unwrap();
        draft.tree().remove(b"a/n").unwrap();
        make_again(draft);
    });
    assert_eq!(mounts(&sandbox), ["a/n"]);
    assert_eq!(paths(&sandbox), ["", "a", "a/b", "a/n", "a/n/.cvmfscatalog", "a/n/file"]);
}

fn make_again(draft: &mut Draft) {
    put(draft, "a/n/file", "x");
    put(draft, "a/n/.cvmfscatalog", "");
}

#[test]
fn only_catalogs_that_a_change_touches_are_written() {
    let sandbox = Sandbox::new();
    publish(&sandbox, |draft| {
        for number in 0..60 {
            put(draft, &format!("d{number}/.cvmfscatalog"), "");
            put(draft, &format!("d{number}/file"), "x");
        }
    });
    let hashes = |sandbox: &Sandbox| {
        let reader = sandbox.reader();
        let nested = reader.catalog(&reader.manifest().root_hash).unwrap().nested().unwrap();
        nested.into_iter().map(|nested| (shown(&nested.path), nested.hash)).collect::<Vec<_>>()
    };
    let before = hashes(&sandbox);
    // More than are open at once, and back again.
    publish(&sandbox, |draft| {
        for number in (0..60).chain(0..60) {
            assert!(draft.tree().lookup(format!("d{number}/file").as_bytes()).unwrap().is_some());
        }
        for round in 0..2 {
            for number in 10..50 {
                put(draft, &format!("d{number}/more"), &round.to_string());
            }
        }
    });
    for ((path, old), (_, new)) in before.iter().zip(hashes(&sandbox)) {
        let number: u32 = path[1..].parse().unwrap();
        assert_eq!(*old != new, (10..50).contains(&number), "{path}");
    }
}

#[test]
fn hard_links_are_groups_of_one_directory() {
    let sandbox = Sandbox::new();
    let links = |sandbox: &Sandbox, path: &str| {
        let entry = sandbox.reader().tree().unwrap().lookup(path.as_bytes()).unwrap().unwrap();
        (entry.link_count(), entry.hardlink_group() != 0)
    };
    publish(&sandbox, |draft| {
        put(draft, "d/a", "content");
        put(draft, "e/other", "x");
        for path in ["d/b", "d/c", "e/a", "e/b"] {
            assert_eq!(draft.tree().link(path.as_bytes(), b"d/a").unwrap(), Put::Added);
        }
        // A link to a link.
        draft.tree().link(b"e/c", b"e/b").unwrap();
        assert_eq!(draft.tree().link(b"d/b", b"d/a").unwrap(), Put::Unchanged);
    });
    for (path, want) in [("d/a", 3), ("d/c", 3), ("e/a", 3), ("e/c", 3)] {
        assert_eq!(links(&sandbox, path), (want, true), "{path}");
    }
    assert_eq!(links(&sandbox, "e/other"), (1, false));
    // One leaves by going, one by getting another content; a nested catalog begins meanwhile, and ends.
    publish(&sandbox, |draft| {
        draft.tree().remove(b"d/b").unwrap();
        put(draft, "e/b", "new");
        put(draft, "e/.cvmfscatalog", "");
        draft.tree().link(b"e/d", b"e/other").unwrap();
    });
    assert_eq!((links(&sandbox, "d/a"), links(&sandbox, "e/a")), ((2, true), (2, true)));
    assert_eq!(links(&sandbox, "e/other"), (2, true));
    publish(&sandbox, |draft| {
        draft.tree().remove(b"d/c").unwrap();
        draft.tree().remove(b"e/c").unwrap();
        draft.tree().remove(b"e/.cvmfscatalog").unwrap();
    });
    assert_eq!((links(&sandbox, "d/a"), links(&sandbox, "e/a")), ((1, false), (1, false)));
    assert_eq!(links(&sandbox, "e/other"), (2, true));
    let mut draft = sandbox.begin();
    assert!(draft.tree().link(b"x", b"none").unwrap_err().to_string().contains("/none"));
    assert!(draft.tree().link(b"x", b"d").unwrap_err().to_string().contains("cannot"));
}

#[test]
fn all_kinds_of_entries_keep_what_they_are() {
    let sandbox = Sandbox::new();
    let mut xattrs = Xattrs::new();
    xattrs.set(b"user.origin", b"here\0").unwrap();
    let kinds = [
        ("fifo", NewKind::Fifo, 0o010_644),
        ("socket", NewKind::Socket, 0o140_644),
        ("null", NewKind::CharacterDevice { device: 0x103 }, 0o020_644),
        ("disk", NewKind::BlockDevice { device: 0x800 }, 0o060_644),
        ("dir", NewKind::Directory, 0o040_644),
        ("link", NewKind::Symlink { target: b"dir".to_vec() }, 0o120_777),
    ];
    publish(&sandbox, |draft| {
        for (name, kind, _) in &kinds {
            let new = NewEntry { xattrs: xattrs.clone(), ..entry(kind.clone()) };
            draft.tree().put(name.as_bytes(), &new).unwrap();
            assert_eq!(draft.tree().put(name.as_bytes(), &new).unwrap(), Put::Unchanged);
        }
    });
    let reader = sandbox.reader();
    let mut tree = reader.tree().unwrap();
    for (name, kind, mode) in kinds {
        let found = tree.lookup(name.as_bytes()).unwrap().unwrap();
        assert_eq!((found.mode, found.xattrs().unwrap()), (mode, xattrs.clone()), "{name}");
        assert_eq!(NewEntry::of(&found, Vec::new()).unwrap().kind, kind);
    }
    assert_eq!(reader.catalog(&reader.manifest().root_hash).unwrap().statistics().unwrap().own.xattr, 6);
}

#[test]
fn the_dirtab_makes_catalogs_where_it_says() {
    let sandbox = Sandbox::new();
    publish(&sandbox, |draft| {
        for path in ["sw/a/1/x", "sw/b/1/x", "sw/.git/1/x", "sw/file"] {
            put(draft, path, path);
        }
    });
    // New rules are for what is there already.
    publish(&sandbox, |draft| put(draft, ".cvmfsdirtab", "/sw/*\n/sw/*/*\n! /sw/.git*\n"));
    assert_eq!(mounts(&sandbox), ["sw/a", "sw/a/1", "sw/b", "sw/b/1"]);
    // And for what comes; a marker that is removed comes back.
    publish(&sandbox, |draft| {
        put(draft, "sw/a/2/x", "x");
        put(draft, "elsewhere/2/x", "x");
        draft.tree().remove(b"sw/b/.cvmfscatalog").unwrap();
    });
    assert_eq!(mounts(&sandbox), ["sw/a", "sw/a/1", "sw/a/2", "sw/b", "sw/b/1"]);
    let mut draft = sandbox.begin();
    put(&mut draft, ".cvmfsdirtab", "nonsense");
    let error = draft.commit(None, NOW, &|_| {}).unwrap_err();
    assert!(error.to_string().contains(".cvmfsdirtab, line 1"), "{error}");
    sandbox.check();
}

#[test]
fn large_catalogs_are_split_and_small_ones_merged() {
    let sandbox = Sandbox::new();
    let balanced = |edit: &dyn Fn(&mut Draft)| {
        let mut draft = sandbox.begin();
        draft.tree().auto_catalogs = Some(AutoCatalogs { min_weight: 10, max_weight: 40 });
        edit(&mut draft);
        draft.commit(None, NOW, &|_| {}).unwrap();
        sandbox.check();
    };
    balanced(&|draft| {
        for directory in ["a/one", "a/two", "b/three", "c"] {
            for number in 0..15 {
                put(draft, &format!("{directory}/{number}"), "x");
            }
        }
        put(draft, "few/1", "x");
    });
    let reader = sandbox.reader();
    let mut pending = vec![reader.manifest().root_hash];
    while let Some(hash) = pending.pop() {
        let catalog = reader.catalog(&hash).unwrap();
        assert!(catalog.entries().unwrap() <= 40);
        pending.extend(catalog.nested().unwrap().into_iter().map(|nested| nested.hash));
    }
    assert!(!mounts(&sandbox).is_empty() && !mounts(&sandbox).contains(&"few".to_owned()));
    let (all, before) = (mounts(&sandbox), paths(&sandbox));
    let auto = before.iter().filter(|path| path.ends_with(".cvmfsautocatalog")).count();
    assert_eq!(auto, all.len());
    // One becomes too small, and one that was asked for stays.
    balanced(&|draft| {
        let first = all[0].clone();
        for number in 0..15 {
            for directory in ["", "/one", "/two", "/three"] {
                draft.tree().remove(format!("{first}{directory}/{number}").as_bytes()).unwrap();
            }
        }
        put(draft, "few/.cvmfscatalog", "");
    });
    let now = mounts(&sandbox);
    assert!(!now.contains(&all[0]) && now.contains(&"few".to_owned()), "{all:?} {now:?}");
}

#[test]
fn names_that_no_file_can_have_are_refused() {
    let sandbox = Sandbox::new();
    publish(&sandbox, |draft| {
        put(draft, "d/file", "x");
        let long = [b"d/", &[b'y'; 256][..]].concat();
        for path in [&b"d/"[..], b"/d", b"d/.", b"d/..", b"..", b"d/n\0l", &long] {
            let error = draft.tree().put(path, &entry(NewKind::Fifo)).unwrap_err();
            assert!(matches!(error, EditError::Conflict { .. }), "{error}");
            assert!(draft.tree().link(path, b"d/file").is_err());
        }
        draft.tree().put(&long[..257], &entry(NewKind::Fifo)).unwrap();
    });
    assert_eq!(paths(&sandbox).len(), 4);
}

#[test]
fn links_of_links_find_each_other() {
    let sandbox = Sandbox::new();
    let count = |path: &str| sandbox.reader().tree().unwrap().lookup(path.as_bytes()).unwrap().unwrap().link_count();
    publish(&sandbox, |draft| {
        put(draft, "d/a", "content");
        put(draft, "e/x", "x");
        let tree = draft.tree();
        // A link that is refused is no name of the file.
        tree.link(b"e/none/a", b"d/a").unwrap_err();
        tree.link(b"e/a", b"d/a").unwrap();
        tree.link(b"e/b", b"d/a").unwrap();
        // Back to where it came from.
        tree.link(b"d/b", b"e/b").unwrap();
        // What is a link already stays one.
        for (path, target) in [("d/a", "d/a"), ("d/a", "e/a"), ("e/a", "d/a"), ("e/b", "d/a"), ("d/b", "d/a")] {
            assert_eq!(tree.link(path.as_bytes(), target.as_bytes()).unwrap(), Put::Unchanged, "{path} {target}");
        }
        tree.link(b"f", b"d/a").unwrap();
    });
    assert_eq!(["d/a", "d/b", "e/a", "e/b", "f"].map(count), [2, 2, 2, 2, 1]);
    // The first copy in a directory is replaced: those that follow are links of the next.
    publish(&sandbox, |draft| {
        draft.tree().link(b"e/1", b"d/a").unwrap();
        put(draft, "e/1", "other");
        for path in [b"e/2", b"e/3"] {
            draft.tree().link(path, b"d/a").unwrap();
        }
    });
    assert_eq!(["e/1", "e/2", "e/3"].map(count), [1, 2, 2]);
}

#[test]
fn a_marker_that_the_dirtab_asks_for_comes_back() {
    let sandbox = Sandbox::new();
    publish(&sandbox, |draft| {
        put(draft, ".cvmfsdirtab", "/*\n");
        put(draft, ".cvmfscatalog", "");
        put(draft, "a/x", "x");
    });
    publish(&sandbox, |draft| {
        assert!(draft.tree().remove(b"a/.cvmfscatalog").unwrap());
        assert!(draft.tree().remove(b".cvmfscatalog").unwrap());
    });
    assert_eq!(mounts(&sandbox), ["a"]);
    // The root needs none.
    assert!(!paths(&sandbox).contains(&".cvmfscatalog".to_owned()));
}

#[test]
fn a_small_catalog_stays_where_the_dirtab_asks_for_it() {
    let sandbox = Sandbox::new();
    publish(&sandbox, |draft| {
        draft.tree().auto_catalogs = Some(AutoCatalogs { min_weight: 5, max_weight: 16 });
        for number in 0..10 {
            put(draft, &format!("a/{number}"), "x");
            put(draft, &format!("b/{number}"), "x");
        }
    });
    let auto = mounts(&sandbox);
    assert!(auto.contains(&"a".to_owned()));
    publish(&sandbox, |draft| {
        draft.tree().auto_catalogs = Some(AutoCatalogs { min_weight: 5, max_weight: 16 });
        put(draft, ".cvmfsdirtab", "/a");
        for number in 0..10 {
            draft.tree().remove(format!("a/{number}").as_bytes()).unwrap();
            draft.tree().remove(format!("b/{number}").as_bytes()).unwrap();
        }
    });
    assert_eq!(mounts(&sandbox), ["a"]);
    assert_eq!(paths(&sandbox), ["", ".cvmfsdirtab", "a", "a/.cvmfscatalog", "b"]);
}

#[test]
fn splitting_replaces_nobody_s_entries() {
    let sandbox = Sandbox::new();
    publish(&sandbox, |draft| {
        draft.tree().auto_catalogs = Some(AutoCatalogs { min_weight: 5, max_weight: 16 });
        for number in 0..20 {
            put(draft, &format!("b/.cvmfsautocatalog/{number}"), "x");
        }
    });
    assert_eq!(mounts(&sandbox), ["b/.cvmfsautocatalog"]);
    assert_eq!(sandbox.content("b/.cvmfsautocatalog/7"), "x");
}

#[test]
fn a_catalog_begins_at_a_name_of_any_bytes() {
    let sandbox = Sandbox::new();
    publish(&sandbox, |draft| {
        put(draft, ".cvmfsdirtab", "/*");
        draft.tree().put(b"n\xff\n", &entry(NewKind::Directory)).unwrap();
    });
    let report = check::check(&sandbox.reader(), &check::Options::default()).unwrap();
    assert!(report.problems.is_empty() && report.summary.catalogs == 2, "{report}");
}

#[test]
fn what_no_client_could_show_is_refused() {
    let sandbox = Sandbox::new();
    let mut draft = sandbox.begin();
    for target in [&b""[..], b"a\0b"] {
        let link = entry(NewKind::Symlink { target: target.to_vec() });
        assert!(matches!(draft.tree().put(b"link", &link), Err(EditError::Conflict { .. })));
    }
    let late = NewEntry { mtime_ns: Some(1_000_000_000), ..entry(NewKind::Fifo) };
    assert!(matches!(draft.tree().put(b"pipe", &late), Err(EditError::Conflict { .. })));
}

#[test]
fn what_is_mounted_in_a_directory_goes_with_it_into_its_catalog_and_back() {
    let sandbox = Sandbox::new();
    publish(&sandbox, |draft| put(draft, "a/b'\n/other/file", "x"));
    let bound = |draft: &mut Draft, directory: &[u8]| {
        let at = draft.tree().catalogs.of_directory(directory).unwrap();
        draft.tree().catalogs.editor(at).unwrap().catalog().has_bind_mountpoints().unwrap()
    };
    let mut draft = sandbox.begin();
    draft.tree().catalogs.editor_mut(ROOT).unwrap().bind_for_tests(b"a/b'\n/other");
    put(&mut draft, "a/b'\n/.cvmfscatalog", "");
    assert!(bound(&mut draft, b"a/b'\n") && !bound(&mut draft, b"a"));
    assert!(draft.tree().remove(b"a/b'\n/.cvmfscatalog").unwrap());
    assert!(bound(&mut draft, b"a"));
}
