//! Puts, removals, and what is refused.

use super::*;

#[test]
fn a_publish_is_one_revision_with_the_key_as_its_tag() {
    let world = World::new();
    let mut transaction = world.open("/a/b", "cj-1");
    assert_eq!(transaction.base().number, 1);
    put_file(&mut *transaction, "a/b/c/file", "content").unwrap();
    put(&mut *transaction, "a/b/link", &EntryKind::Symlink { target: b"c/file".to_vec() }, b"").unwrap();
    assert_eq!(shown(&mut *transaction), ["A /a", "A /a/b", "A /a/b/c", "A /a/b/c/file", "A /a/b/link"]);
    let revision = transaction.publish("first\nline, second line\n").unwrap().revision;
    assert_eq!(revision.number, 2);
    let tag = world.sandbox.reader().tag("cj-1").unwrap().unwrap();
    assert_eq!((tag.revision, tag.root_hash.to_string()), (2, revision.root_hash));
    assert_eq!(tag.description, "first line, second line");
    let entry = world.entry("a/b/c/file").unwrap();
    assert_eq!((entry.mode, entry.mtime, entry.uid, entry.gid), (0o100_644, 1_600_000_000, 7, 8));
    let made = world.entry("a/b/c").unwrap();
    assert_eq!((made.permissions(), made.uid), (0o755, nix::unistd::geteuid().as_raw()));
    world.check();
}

#[test]
fn a_used_key_is_refused_at_open_with_what_it_names() {
    let world = World::new();
    let revision = world.publish(&[("a", "1")], "cj-1");
    match world.try_open("/", "cj-1").err().unwrap() {
        PublisherError::TagExists { tag, revision: found } => assert_eq!((tag, found), ("cj-1".into(), revision)),
        error => panic!("{error:?}"),
    }
    world.check();
}

#[test]
fn only_one_transaction_at_a_time() {
    let world = World::new();
    let open = world.open("/a", "cj-1");
    for lease in ["/a", "/b"] {
        let error = world.try_open(lease, "cj-2").err().unwrap();
        assert!(matches!(error, PublisherError::Busy { .. }) && error.is_transient(), "{error:?}");
    }
    open.abort().unwrap();
    drop(world.open("/b", "cj-2"));
    drop(world.open("/b", "cj-2"));
    assert_eq!(world.sandbox.reader().manifest().revision, 1);
    world.check();
}

#[test]
fn an_unknown_repository_is_named() {
    let world = World::new();
    let other = RepositoryName::new("other.example.org").unwrap();
    let result = world.publisher.open(&other, &LeasePath::root(), "cj-1", world.scratch.path());
    let error = result.err().unwrap();
    assert!(matches!(error, PublisherError::UnknownRepository { .. }), "{error:?}");
    assert!(!world.sandbox.root().join(".other.example.org.lock").exists());
}

#[test]
fn a_key_that_is_no_tag_is_refused() {
    let world = World::new();
    for key in ["", "with space", "a/b", "a\n", "ü"] {
        assert!(matches!(world.try_open("/", key), Err(PublisherError::Unusable { .. })), "{key:?}");
    }
}

#[test]
fn nothing_is_written_outside_the_lease_path() {
    let world = World::new();
    world.publish(&[("ab", "x"), ("A/", "")], "cj-1");
    let mut transaction = world.open("/a", "cj-2");
    for outside in ["ab", "b", "", "A/x"] {
        assert!(why(put_file(&mut *transaction, outside, "x")).contains("outside the lease path /a"), "{outside}");
        assert!(why(transaction.remove(&path(outside))).contains("outside the lease path /a"), "{outside}");
    }
    assert!(why(put_file(&mut *transaction, "a", "x")).contains("lease path itself"));
    put(&mut *transaction, "a", &EntryKind::Directory, b"").unwrap();
    put_file(&mut *transaction, "a/x", "x").unwrap();
    assert_eq!(shown(&mut *transaction), ["A /a", "A /a/x"]);
    transaction.publish("").unwrap();
    world.check();
}

#[test]
fn the_last_put_wins_and_changes_are_net() {
    let world = World::new();
    world.publish(&[("d/old", "1"), ("d/same", "1"), ("gone/a/b", "1"), ("kind/x", "1")], "cj-1");
    let mut transaction = world.open("/", "cj-2");
    put_file(&mut *transaction, "d/old", "2").unwrap();
    put_file(&mut *transaction, "d/old", "3").unwrap();
    put_file(&mut *transaction, "d/same", "1").unwrap();
    put_file(&mut *transaction, "d/short", "1").unwrap();
    assert!(transaction.remove(&path("d/short")).unwrap());
    assert!(!transaction.remove(&path("d/short")).unwrap());
    assert!(transaction.remove(&path("gone")).unwrap());
    put_file(&mut *transaction, "kind", "a file over a directory").unwrap();
    put_file(&mut *transaction, "d/new", "x").unwrap();
    put(&mut *transaction, "d/new", &EntryKind::Directory, b"").unwrap();
    put_file(&mut *transaction, "d/new/below", "a directory over a file").unwrap();
    assert_eq!(shown(&mut *transaction), ["A /d/new", "A /d/new/below", "M /d/old", "D /gone", "M /kind"]);
    transaction.publish("").unwrap();
    assert_eq!(world.paths(), ["", "d", "d/new", "d/new/below", "d/old", "d/same", "kind"]);
    assert_eq!(world.sandbox.content("d/old"), "3");
    world.check();
}

#[test]
fn what_is_in_the_way_is_named() {
    let world = World::new();
    world.publish(&[("file", "x"), ("d/", "")], "cj-1");
    let mut transaction = world.open("/", "cj-2");
    assert!(why(put_file(&mut *transaction, "file/x/y", "x")).contains("\"file\": it is a file"));
    assert!(why(transaction.remove(&path(""))).contains("root"));
    for target in [&b""[..], b"a\0b", &[b'x'; 4096]] {
        assert!(
            why(put(&mut *transaction, "l", &EntryKind::Symlink { target: target.to_vec() }, b"")).contains("target")
        );
    }
    // None of it broke the transaction.
    put_file(&mut *transaction, "d/.cvmfsfine", "").unwrap();
    transaction.publish("").unwrap();
    world.check();
    assert!(why(world.try_open("/file", "cj-3")).contains("not a directory"));
    assert!(why(world.try_open("/file/below", "cj-3")).contains("not a directory"));
}

#[test]
fn content_that_breaks_off_or_has_another_size_is_the_payload_s_fault() {
    let world = World::new();
    let mut transaction = world.open("/", "cj-1");
    let kind = EntryKind::File { size: 3 };
    for content in [&b"ab"[..], b"abcd"] {
        let error = put(&mut *transaction, "f", &kind, content).unwrap_err();
        assert!(matches!(error, PublisherError::Content { .. }) && !error.is_transient(), "{error:?}");
    }
    let error = transaction.put(&path("f"), &META, &kind, &mut Broken).unwrap_err();
    assert!(matches!(error, PublisherError::Content { .. }), "{error:?}");
    // The next one starts a stream of its own.
    put_file(&mut *transaction, "f", "abc").unwrap();
    transaction.publish("").unwrap();
    assert_eq!(world.sandbox.content("f"), "abc");
    world.check();
}

#[test]
fn an_empty_change_set_is_published_too_since_its_tag_is_the_proof() {
    let world = World::new();
    let mut transaction = world.open("/", "cj-1");
    assert!(shown(&mut *transaction).is_empty());
    assert_eq!(transaction.publish("").unwrap().revision.number, 2);
    assert!(world.sandbox.reader().tag("cj-1").unwrap().is_some());
    world.check();
}

#[test]
fn a_repository_without_a_valid_whitelist_is_unusable_and_says_why() {
    let sandbox = Sandbox::at(crate::publisher::native::now() - 60 * 86_400);
    let publisher = NativePublisher::new(sandbox.root(), sandbox.keys());
    let scratch = tempfile::tempdir().unwrap();
    let error = publisher.open(&name(), &LeasePath::root(), "cj-1", scratch.path()).err().unwrap();
    assert!(matches!(error, PublisherError::Unusable { .. }), "{error:?}");
    assert!(error.to_string().contains("whitelist expired"), "{error}");
    // It can still be looked at.
    assert_eq!(publisher.recover(&name(), "cj-1").unwrap(), crate::publisher::Evidence::NotPublished);
}

#[test]
fn two_hundred_random_changes_leave_a_sound_catalog() {
    let world = World::new();
    let mut state = 42_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 0..10 {
        let mut transaction = world.open("/", &format!("cj-{round}"));
        for _ in 0..20 {
            let depth = 1 + random(4);
            let at = (0..depth).map(|_| format!("d{}", random(3))).collect::<Vec<_>>().join("/");
            let done = match random(5) {
                0 => transaction.remove(&path(&at)).map(drop),
                1 => put(&mut *transaction, &at, &EntryKind::Directory, b""),
                2 => put(&mut *transaction, &at, &EntryKind::Symlink { target: b"x".to_vec() }, b""),
                _ => put_file(&mut *transaction, &at, &format!("{}", random(9))),
            };
            assert!(matches!(done, Ok(()) | Err(PublisherError::Conflict { .. })), "{done:?}");
        }
        transaction.publish("").unwrap();
        world.check();
    }
}

#[test]
fn what_is_taken_in_is_counted_while_it_is_read() {
    /// Gives a byte at a time and looks at the counters meanwhile.
    struct Watched(std::sync::Arc<crate::domain::progress::Counters>, u64);
    impl std::io::Read for Watched {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            assert_eq!((self.0.files(), self.0.bytes()), (1, 7 + self.1));
            if self.1 == 3 {
                return Ok(0);
            }
            self.1 += 1;
            buffer[0] = b'x';
            Ok(1)
        }
    }

    let world = World::new();
    let mut transaction = world.open("/a", "cj-1");
    let progress = transaction.progress();
    put_file(&mut *transaction, "a/one", "content").unwrap();
    put(&mut *transaction, "a/link", &EntryKind::Symlink { target: b"one".to_vec() }, b"").unwrap();
    transaction.settle().unwrap();
    assert_eq!((progress.files(), progress.bytes()), (1, 7));
    let mut watched = Watched(std::sync::Arc::clone(&progress), 0);
    transaction.put(&path("a/two"), &META, &EntryKind::File { size: 3 }, &mut watched).unwrap();
    transaction.settle().unwrap();
    assert_eq!((progress.files(), progress.bytes()), (2, 10));
    let tree = transaction.check_out().unwrap().root;
    std::fs::write(tree.join("a/three"), "12345").unwrap();
    transaction.check_in().unwrap();
    assert_eq!((progress.files(), progress.bytes()), (3, 15));
}

#[test]
fn settings_of_the_repository_count() {
    let world = World::new();
    let settings = crate::cvmfs::settings::file(world.sandbox.stratum0.directory(), NAME);
    let text = "CVMFS_ENFORCE_LIMITS=true\nCVMFS_FILE_MBYTE_LIMIT=1\nCVMFS_INCLUDE_XATTRS=false\n";
    std::fs::write(settings, text).unwrap();
    let mut transaction = world.open("/l", "cj-1");
    let large = vec![0; (1 << 20) + 1];
    let kind = EntryKind::File { size: large.len() as u64 };
    let error = put(&mut *transaction, "l/large", &kind, &large).unwrap_err();
    assert!(matches!(error, PublisherError::Limit { .. }) && error.to_string().contains("/l/large"), "{error}");
    let attributes = Attributes::from([(b"user.a".to_vec(), b"x".to_vec())]);
    let meta = EntryMeta { attributes, ..META };
    transaction.put(&path("l/small"), &meta, &EntryKind::File { size: 1 }, &mut &b"s"[..]).unwrap();
    let root = transaction.check_out().unwrap().root;
    std::fs::write(root.join("l/by-a-script"), "x").unwrap();
    transaction.check_in().unwrap();
    transaction.publish("").unwrap();
    world.check();
    assert_eq!(world.entry("l/small").unwrap().xattr, None);
    assert_eq!(world.entry("l/by-a-script").unwrap().mtime_ns, None);
}
