//! Check-out and check-in.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::*;
use crate::publisher::Owner;
use crate::publisher::native::CheckoutLimits;

fn write(root: &Path, at: &str, content: &str) {
    fs::write(root.join(at), content).unwrap();
}

fn chmod(root: &Path, at: &str, mode: u32) {
    fs::set_permissions(root.join(at), Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_script_finds_the_lease_path_as_it_is_published() {
    let world = World::new();
    let mut transaction = world.open("/", "cj-1");
    put_file(&mut *transaction, "sw/tool/run", "#!/bin/sh").unwrap();
    let meta = EntryMeta { mode: 0o4755, mtime: -5, uid: 7, gid: 8, attributes: Attributes::new() };
    transaction.put(&path("sw/tool/suid"), &meta, &EntryKind::File { size: 1 }, &mut &b"s"[..]).unwrap();
    put(&mut *transaction, "sw/tool/link", &EntryKind::Symlink { target: b"/nowhere".to_vec() }, b"").unwrap();
    let meta = EntryMeta { mode: 0o555, ..META };
    transaction.put(&path("sw/tool/closed"), &meta, &EntryKind::Directory, &mut std::io::empty()).unwrap();
    put_file(&mut *transaction, "sw/tool/closed/x", "x").unwrap();
    put_file(&mut *transaction, "other", "x").unwrap();
    transaction.publish("").unwrap();

    let mut transaction = world.open("/sw/tool", "cj-2");
    let root = transaction.check_out().unwrap().root;
    assert_eq!(fs::read_to_string(root.join("sw/tool/run")).unwrap(), "#!/bin/sh");
    assert_eq!(fs::read_link(root.join("sw/tool/link")).unwrap(), Path::new("/nowhere"));
    let stat = |at: &str| fs::symlink_metadata(root.join(at)).unwrap();
    assert_eq!((stat("sw/tool/suid").mode() & 0o7777, stat("sw/tool/suid").mtime()), (0o755, -5));
    assert_eq!((stat("sw/tool/closed").mode() & 0o7777, stat("sw/tool/closed").mtime()), (0o555, 1_600_000_000));
    assert!(!root.join("other").exists());

    // Nothing was touched, nothing is changed: not even the set-id bit that the files did not get.
    transaction.check_in().unwrap();
    assert_eq!(shown(&mut *transaction), [""; 0]);
    transaction.publish("").unwrap();
    assert_eq!(world.entry("sw/tool/suid").unwrap().mode, 0o104_755);
    world.check();
}

#[test]
fn what_a_script_did_is_published() {
    let world = World::new();
    world.publish(
        &[("l/keep", "keep"), ("l/edit", "old"), ("l/drop/a/b", "x"), ("l/kind", "x"), ("l/dir/x", "x")],
        "cj-1",
    );
    let world = World {
        publisher: world.publisher.clone().with_owner(Owner { uid: 11, gid: 12 }),
        sandbox: world.sandbox,
        scratch: world.scratch,
    };
    let mut transaction = world.open("/l", "cj-2");
    let root = transaction.check_out().unwrap().root;
    write(&root, "l/edit", "new");
    write(&root, "l/added file", "added");
    fs::remove_dir_all(root.join("l/drop")).unwrap();
    fs::remove_file(root.join("l/kind")).unwrap();
    fs::create_dir_all(root.join("l/kind/below")).unwrap();
    fs::remove_dir_all(root.join("l/dir")).unwrap();
    symlink("../outside", root.join("l/dir")).unwrap();
    chmod(&root, "l/keep", 0o600);
    transaction.check_in().unwrap();
    let expected =
        ["M /l", "A /l/added file", "M /l/dir", "D /l/drop", "M /l/edit", "M /l/keep", "M /l/kind", "A /l/kind/below"];
    assert_eq!(shown(&mut *transaction), expected);
    transaction.publish("").unwrap();
    assert_eq!(world.paths(), ["", "l", "l/added file", "l/dir", "l/edit", "l/keep", "l/kind", "l/kind/below"]);
    assert_eq!(world.sandbox.content("l/edit"), "new");
    let owner = |at| world.entry(at).map(|entry| (entry.uid, entry.gid)).unwrap();
    assert_eq!((owner("l/edit"), owner("l/added file"), owner("l/kind")), ((11, 12), (11, 12), (11, 12)));
    assert_eq!(world.entry("l/keep").unwrap().permissions(), 0o600);
    assert!(world.entry("l/edit").unwrap().mtime_ns.is_some());
    world.check();
}

#[test]
fn untouched_files_keep_their_owner_and_touched_ones_their_content() {
    let world = World::new();
    world.publish(&[("l/a", "aaaa"), ("l/b", "bbbb")], "cj-1");
    let mut transaction = world.open("/l", "cj-2");
    let root = transaction.check_out().unwrap().root;
    // Same size, same time: only the inode's change time tells.
    let times = fs::FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000));
    write(&root, "l/a", "AAAA");
    File::options().write(true).open(root.join("l/a")).unwrap().set_times(times).unwrap();
    // Another inode, the same file.
    fs::copy(root.join("l/b"), root.join("l/c")).unwrap();
    File::options().write(true).open(root.join("l/c")).unwrap().set_times(times).unwrap();
    fs::rename(root.join("l/c"), root.join("l/b")).unwrap();
    transaction.check_in().unwrap();
    assert_eq!(shown(&mut *transaction), ["M /l", "M /l/a"]);
    transaction.publish("").unwrap();
    assert_eq!(world.sandbox.content("l/a"), "AAAA");
    assert_eq!(world.entry("l/b").unwrap().uid, 7);
    world.check();
}

#[test]
fn anything_outside_the_lease_path_is_refused() {
    let world = World::new();
    world.publish(&[("a/b/x", "x"), ("a/other", "x")], "cj-1");
    type Deed = fn(&Path);
    let deeds: [(Deed, &str); 4] = [
        (|root| write(root, "beside", "x"), "\"beside\""),
        (|root| write(root, "a/other", "x"), "\"a/other\""),
        (|root| fs::rename(root.join("a"), root.join("c")).unwrap(), "\"c\""),
        (
            |root| {
                fs::remove_dir_all(root.join("a")).unwrap();
                symlink("/tmp", root.join("a")).unwrap();
            },
            "\"a\"",
        ),
    ];
    for (deed, named) in deeds {
        let mut transaction = world.open("/a/b", "cj-2");
        let root = transaction.check_out().unwrap().root;
        deed(&root);
        let why = why(transaction.check_in());
        assert!(why.contains(named) && why.contains("outside"), "{why}");
        // Half of what a script did is not published by mistake.
        assert!(matches!(transaction.publish(""), Err(PublisherError::Unusable { .. })));
        world.check();
    }
}

#[test]
fn the_lease_path_itself_may_be_made_or_removed_but_stays_a_directory() {
    let world = World::new();
    let mut transaction = world.open("/new/lease", "cj-1");
    let root = transaction.check_out().unwrap().root;
    assert!(root.join("new/lease").is_dir());
    write(&root, "new/lease/x", "x");
    transaction.check_in().unwrap();
    assert_eq!(shown(&mut *transaction), ["A /new", "A /new/lease", "A /new/lease/x"]);
    transaction.publish("").unwrap();

    let mut transaction = world.open("/new/lease", "cj-2");
    let root = transaction.check_out().unwrap().root;
    fs::remove_dir_all(root.join("new/lease")).unwrap();
    transaction.check_in().unwrap();
    assert_eq!(shown(&mut *transaction), ["D /new/lease"]);
    transaction.publish("").unwrap();
    assert_eq!(world.paths(), ["", "new"]);

    let mut transaction = world.open("/new/lease", "cj-3");
    let root = transaction.check_out().unwrap().root;
    fs::remove_dir(root.join("new/lease")).unwrap();
    write(&root, "new/lease", "a file");
    assert!(why(transaction.check_in()).contains("only be a directory"));
    drop(transaction);
    world.check();
}

#[test]
fn puts_before_a_check_out_are_in_it_and_none_come_during_it() {
    let world = World::new();
    let mut transaction = world.open("/l", "cj-1");
    put_file(&mut *transaction, "l/from-a-tarball", "1").unwrap();
    let root = transaction.check_out().unwrap().root;
    assert_eq!(fs::read_to_string(root.join("l/from-a-tarball")).unwrap(), "1");
    assert!(why(put_file(&mut *transaction, "l/x", "x")).contains("checked out"));
    assert!(why(transaction.remove(&path("l/x"))).contains("checked out"));
    write(&root, "l/from-a-script", "2");
    transaction.check_in().unwrap();
    assert!(why(transaction.check_in()).contains("not checked out"));
    let root = transaction.check_out().unwrap().root;
    fs::remove_file(root.join("l/from-a-tarball")).unwrap();
    transaction.check_in().unwrap();
    transaction.publish("").unwrap();
    assert_eq!(world.paths(), ["", "l", "l/from-a-script"]);
    world.check();
}

#[test]
fn a_tree_that_is_not_checked_in_is_not_silently_lost() {
    let world = World::new();
    let mut transaction = world.open("/l", "cj-1");
    transaction.check_out().unwrap();
    assert!(why(transaction.publish("")).contains("check it in"));
    world.check();
}

#[test]
fn closed_directories_are_read_and_cleaned_up() {
    let world = World::new();
    let mut transaction = world.open("/l", "cj-1");
    let root = transaction.check_out().unwrap().root;
    fs::create_dir_all(root.join("l/closed/deep")).unwrap();
    write(&root, "l/closed/deep/file", "x");
    write(&root, "l/unreadable", "x");
    chmod(&root, "l/unreadable", 0o000);
    chmod(&root, "l/closed/deep", 0o000);
    chmod(&root, "l/closed", 0o111);
    transaction.check_in().unwrap();
    transaction.publish("").unwrap();
    assert_eq!(world.entry("l/closed").unwrap().permissions(), 0o111);
    assert_eq!(world.entry("l/closed/deep").unwrap().permissions(), 0);
    assert_eq!(world.sandbox.content("l/closed/deep/file"), "x");
    assert_eq!(world.sandbox.content("l/unreadable"), "x");
    world.check();
}

#[test]
fn a_check_out_that_is_too_large_is_refused_before_it_is_written() {
    let world = World::new();
    world.publish(&[("l/a", "12345"), ("l/b", "12345"), ("other", "1")], "cj-1");
    for limits in [CheckoutLimits { bytes: 9, entries: 100 }, CheckoutLimits { bytes: 100, entries: 2 }] {
        let publisher = world.publisher.clone().with_checkout_limits(limits);
        let open = || publisher.open(&name(), &LeasePath::new("/l").unwrap(), "cj-2", world.scratch.path()).unwrap();
        let error = open().check_out().unwrap_err();
        assert!(matches!(error, PublisherError::Limit { .. }), "{error:?}");
        world.check();
    }
    let limits = CheckoutLimits { bytes: 10, entries: 3 };
    let publisher = world.publisher.clone().with_checkout_limits(limits);
    publisher.open(&name(), &LeasePath::new("/l").unwrap(), "cj-2", world.scratch.path()).unwrap().check_out().unwrap();
}

#[test]
fn the_whole_repository_can_be_checked_out() {
    let world = World::new();
    world.publish(&[("a/b", "x"), ("c", "y")], "cj-1");
    let mut transaction = world.open("/", "cj-2");
    let root = transaction.check_out().unwrap().root;
    fs::rename(root.join("c"), root.join("a/\u{e9}")).unwrap();
    chmod(&root, "", 0o700);
    transaction.check_in().unwrap();
    transaction.publish("").unwrap();
    assert_eq!(world.paths(), ["", "a", "a/b", "a/\u{e9}"]);
    assert_eq!(world.entry("").unwrap().permissions(), 0o700);
    world.check();
}

#[test]
fn hard_links_attributes_and_pipes_go_out_and_come_back() {
    let world = World::new();
    let mut transaction = world.open("/", "cj-1");
    let attributes = Attributes::from([
        (b"user.kept".to_vec(), b"1".to_vec()),
        (b"security.capability".to_vec(), b"\x01\0\0\x02".to_vec()),
    ]);
    let meta = EntryMeta { attributes: attributes.clone(), ..META };
    transaction.put(&path("l/a"), &meta, &EntryKind::File { size: 1 }, &mut &b"a"[..]).unwrap();
    for name in ["l/b", "l/c"] {
        transaction.link(&path(name), &path("l/a")).unwrap();
    }
    put(&mut *transaction, "l/pipe", &EntryKind::Fifo, b"").unwrap();
    put(&mut *transaction, "l/null", &EntryKind::CharacterDevice { major: 1, minor: 3 }, b"").unwrap();
    transaction.publish("").unwrap();
    world.check();

    // Nothing is touched, nothing is changed.
    let mut transaction = world.open("/l", "cj-2");
    let root = transaction.check_out().unwrap().root;
    assert_eq!(fs::metadata(root.join("l/a")).unwrap().nlink(), 3);
    assert!(!root.join("l/null").exists());
    transaction.check_in().unwrap();
    assert_eq!(shown(&mut *transaction), [""; 0]);

    let root = transaction.check_out().unwrap().root;
    fs::remove_file(root.join("l/c")).unwrap();
    fs::hard_link(root.join("l/a"), root.join("l/d")).unwrap();
    write(&root, "l/x", "x");
    fs::hard_link(root.join("l/x"), root.join("l/y")).unwrap();
    fs::create_dir(root.join("l/other")).unwrap();
    fs::hard_link(root.join("l/x"), root.join("l/other/x")).unwrap();
    nix::unistd::mkfifo(&root.join("l/pipe2"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    transaction.check_in().unwrap();
    transaction.publish("").unwrap();
    world.check();
    let links = |at: &str| world.entry(at).map(|entry| (entry.link_count(), entry.hardlink_group() != 0)).unwrap();
    assert_eq!((links("l/a"), links("l/d")), ((3, true), (3, true)));
    assert_eq!((links("l/x"), links("l/y"), links("l/other/x")), ((2, true), (2, true), (1, false)));
    let kept = world.entry("l/d").unwrap().xattrs().unwrap();
    assert!(kept.iter().eq(attributes.iter().map(|(name, value)| (&name[..], &value[..]))), "{kept:?}");
    assert_eq!(world.entry("l/null").unwrap().mode, 0o020_644);
    assert_eq!(world.entry("l/pipe2").unwrap().mode & 0o170_000, 0o010_000);

    // One link gets another content: it alone.
    let mut transaction = world.open("/l", "cj-3");
    let root = transaction.check_out().unwrap().root;
    fs::remove_file(root.join("l/b")).unwrap();
    write(&root, "l/b", "new");
    write(&root, "l/null", "no device any more");
    transaction.check_in().unwrap();
    transaction.publish("").unwrap();
    world.check();
    assert_eq!((links_of(&world, "l/a"), links_of(&world, "l/b")), (2, 1));
    assert_eq!((world.sandbox.content("l/b"), world.sandbox.content("l/a")), ("new".into(), "a".into()));
    assert_eq!(world.sandbox.content("l/null"), "no device any more");
}

fn links_of(world: &World, at: &str) -> u32 {
    world.entry(at).unwrap().link_count()
}
