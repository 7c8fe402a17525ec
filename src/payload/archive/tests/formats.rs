//! What real programs write.

use super::*;
use crate::domain::tree::Attributes;

fn names(entries: &Entries) -> Vec<String> {
    entries.iter().map(|(entry, _)| entry.path.to_string()).collect()
}

#[test]
fn a_tree_arrives_as_it_is() {
    let all = entries(&sample().end()).unwrap();
    assert_eq!(names(&all), ["", "d", "d/f", "d/s", "h", "empty"]);
    assert_eq!(all[2].0.item, ArchiveItem::Node(EntryKind::File { size: 3000 }));
    assert_eq!(all[2].1.len(), 3000);
    assert_eq!(all[3].0.item, ArchiveItem::Node(EntryKind::Symlink { target: b"f".to_vec() }));
    assert_eq!(all[4].0.item, ArchiveItem::HardLink { to: EntryPath::new(b"d/f").unwrap() });
    assert_eq!(
        all[0].0.meta,
        EntryMeta { mode: 0o644, mtime: 1_000_000_000, uid: 1000, gid: 100, attributes: Attributes::new() }
    );
}

#[test]
fn every_compression_is_found_by_its_bytes() {
    let plain = sample().end();
    let want = entries(&plain).unwrap();
    let (front, back) = plain.split_at(1300);
    for (name, packed) in [
        ("gzip", gzip(&plain)),
        ("gzip of two members", [gzip(front), gzip(back)].concat()),
        ("zstd", zst(&plain)),
        ("zstd of two frames", [zst(front), zst(back)].concat()),
        ("zstd after a skippable frame", [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 7, 7][..], &zst(&plain)].concat()),
        ("xz", xz(&plain)),
        ("xz of two streams", [xz(front), xz(back)].concat()),
    ] {
        assert_eq!(entries(&packed).unwrap(), want, "{name}");
    }
}

#[test]
fn an_archive_may_be_empty() {
    assert!(entries(&Tar::default().end()).unwrap().is_empty());
    assert!(entries(&gzip(&[0; 10240])).unwrap().is_empty());
}

#[test]
fn padding_after_the_end_and_a_single_end_block_are_fine() {
    let mut bytes = Tar::default().file("a", b"x").end();
    bytes.resize(10240, 0);
    assert_eq!(entries(&bytes).unwrap().len(), 1);
    assert_eq!(entries(&bytes[..1536]).unwrap().len(), 1);
}

#[test]
fn what_the_tar_crate_builds_is_read_back() {
    let long: String = (0..60).map(|i| format!("part-{i}/")).collect::<String>() + "file";
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o4755);
    builder.append_data(&mut header, &long, &b"abc"[..]).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "l", &long).unwrap();
    let all = entries(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(names(&all), [&long, "l"]);
    assert_eq!(all[0].0.meta.mode, 0o4755);
    assert_eq!(all[1].0.item, ArchiveItem::Node(EntryKind::Symlink { target: long.into_bytes() }));
}

#[test]
fn a_ustar_prefix_is_part_of_the_name() {
    let tar = Tar::default().file("name", b"").patch(257, b"ustar\x0000").patch(345, b"a/b");
    assert_eq!(only(tar).0.path.as_bytes(), b"a/b/name");
    // In GNU's header the same bytes are times.
    let tar = Tar::default().file("name", b"").patch(345, b"14000000000\0");
    assert_eq!(only(tar).0.path.as_bytes(), b"name");
}

#[test]
fn the_seventh_edition_marks_directories_by_a_slash() {
    let tar = Tar::default().file("old/", b"").patch(156, &[0]).patch(257, &[0; 8]);
    let (entry, _) = only(tar);
    assert_eq!((entry.path.as_bytes(), &entry.item), (&b"old"[..], &ArchiveItem::Node(EntryKind::Directory)));
    assert!(matches!(refusal(Tar::default().file("old/", b"x")).1, Refusal::HasContent { .. }));
}

#[test]
fn pax_headers_override_the_header() {
    let path = "ä/".repeat(400) + "x\ny";
    let tar = Tar::default()
        .pax(&[
            ("path", path.as_bytes()),
            ("mtime", b"1234567890.987654321"),
            ("uid", b"4000000000"),
            ("gid", b"3000000000"),
            ("size", b"3"),
            ("comment", b"whatever"),
            ("SCHILY.xattr.user.a", b"\0\n="),
            ("SCHILY.xattr.user.long", &[b'x'; 256]),
            ("LIBARCHIVE.xattr.user.a", b"AAo9"),
        ])
        .raw(b"short", b"", b'0', 0, b"abc");
    let (all, summary) = read_with(&tar.end(), &ArchiveLimits::default()).unwrap();
    let (entry, content) = &all[0];
    assert_eq!(entry.path.as_bytes(), path.as_bytes());
    let attributes = Attributes::from([(b"user.a".to_vec(), b"\0\n=".to_vec())]);
    let (uid, gid) = (4_000_000_000, 3_000_000_000);
    assert_eq!(entry.meta, EntryMeta { mode: 0o644, mtime: 1_234_567_890, uid, gid, attributes });
    assert_eq!(content, b"abc");
    assert_eq!(summary, Summary { entries: 1, bytes: 3, ignored_attributes: 1 });
}

#[test]
fn named_pipes_and_devices_are_read() {
    let device = |name: &[u8], flag, major: &[u8; 8], minor: &[u8; 8]| {
        let mut tar = Tar::default().raw(name, b"", flag, 0, b"").0;
        tar[329..337].copy_from_slice(major);
        tar[337..345].copy_from_slice(minor);
        tar[148..156].copy_from_slice(b"        ");
        let sum: u32 = tar[..512].iter().map(|b| u32::from(*b)).sum();
        tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar
    };
    let mut tar = Tar::default().raw(b"pipe", b"", b'6', 0, b"");
    tar.0.extend(device(b"null", b'3', b"0000001\0", b"0000003\0"));
    tar.0.extend(device(b"disk", b'4', b"0000010\0", b"0000001\0"));
    let kinds: Vec<_> = entries(&tar.end()).unwrap().into_iter().map(|(entry, _)| entry.item).collect();
    assert_eq!(
        kinds,
        [
            ArchiveItem::Node(EntryKind::Fifo),
            ArchiveItem::Node(EntryKind::CharacterDevice { major: 1, minor: 3 }),
            ArchiveItem::Node(EntryKind::BlockDevice { major: 8, minor: 1 }),
        ]
    );
}

#[test]
fn a_pax_header_counts_for_one_entry_and_a_global_one_for_all() {
    let tar = Tar::default()
        .pax_as(b'g', &[("comment", b"0123abc"), ("mtime", b"-7.5")])
        .file("a", b"")
        .pax(&[("mtime", b"5")])
        .file("b", b"")
        .pax(&[("mtime", b"")])
        .file("c", b"")
        .file("d", b"");
    let times: Vec<i64> = entries(&tar.end()).unwrap().iter().map(|(entry, _)| entry.meta.mtime).collect();
    assert_eq!(times, [-8, 5, 1_000_000_000, -8]);
}

#[test]
fn numbers_beyond_octal_are_read() {
    let tar = Tar::default().file("a", b"");
    let big_uid = tar.clone().patch(108, b"\x80\0\0\0\xff\xff\xff\xfe");
    assert_eq!(only(big_uid).0.meta.uid, 0xffff_fffe);
    assert_eq!(only(tar.clone().patch(136, &[0xff; 12])).0.meta.mtime, -1);
    assert_eq!(only(tar.clone().patch(136, &[0; 12])).0.meta.mtime, 0);
    assert_eq!(only(tar.patch(100, b"0107777\0")).0.meta.mode, 0o7777);
}

#[test]
fn names_are_bytes() {
    for name in [&b"\xff\xfe\x80"[..], b"C:\\Windows\\x", b"a\\..\\b", b"new\nline", b" ", b"-rf", b"...", b"a:b"] {
        assert_eq!(only(Tar::default().raw(name, b"", b'0', 0, b"")).0.path.as_bytes(), name);
    }
}

#[test]
fn a_path_that_comes_twice_is_delivered_twice() {
    let all = entries(&Tar::default().file("a", b"1").symlink("a", "b").file("a", b"2").end()).unwrap();
    assert_eq!(names(&all), ["a", "a", "a"]);
    assert_eq!(all[2].1, b"2");
}

#[test]
fn a_volume_label_is_passed_over() {
    let tar = Tar::default().raw(b"label", b"", b'V', 0, b"").file("a", b"");
    assert_eq!(only(tar).0.path.as_bytes(), b"a");
}

/// Data at 512..1024 and at 4096..4099 of a file of 5000 bytes.
fn sparse_content() -> Vec<u8> {
    let mut content = vec![0; 5000];
    content[512..1024].fill(1);
    content[4096..4099].fill(2);
    content
}

fn stored() -> Vec<u8> {
    [vec![1; 512], vec![2; 3]].concat()
}

#[test]
fn sparse_files_of_gnu_are_filled_up() {
    let fields = |pairs: &[(u64, u64)]| -> Vec<u8> {
        pairs.iter().flat_map(|(offset, length)| format!("{offset:011o}\0{length:011o}\0").into_bytes()).collect()
    };
    let real_size = format!("{:011o}\0", 5000);
    let header = |size| Tar::default().raw(b"s", b"", b'S', size, b"").patch(483, real_size.as_bytes());
    let tar = header(515).patch(386, &fields(&[(512, 512), (4096, 3), (5000, 0)])).content(&stored());
    assert_eq!(only(tar).1, sparse_content());

    // The same with the second part in a block that continues the map.
    let tar = header(515).patch(386, &fields(&[(512, 512)])).patch(482, &[1]);
    let tar = tar.content(&fields(&[(4096, 3)])).content(&stored()).file("next", b"n");
    let all = entries(&tar.end()).unwrap();
    assert_eq!((&all[0].1, &all[1].1), (&sparse_content(), &b"n".to_vec()));
}

#[test]
fn sparse_files_of_pax_are_filled_up() {
    let with = |records: &[(&str, &[u8])], map: &[u8]| {
        let mut content = map.to_vec();
        content.resize(map.len().next_multiple_of(512), 0);
        content.extend_from_slice(&stored());
        let tar = Tar::default().pax(records).raw(b"GNUSparseFile.0/s", b"", b'0', content.len() as u64, &content);
        let all = entries(&tar.file("next", b"n").end()).unwrap();
        assert_eq!(all[1].1, b"n");
        assert_eq!(all[0].0.item, ArchiveItem::Node(EntryKind::File { size: 5000 }));
        assert_eq!(all[0].1, sparse_content());
        all[0].0.path.to_string()
    };
    let name: (&str, &[u8]) = ("GNU.sparse.name", b"d/s");
    let version_1: &[(&str, &[u8])] =
        &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), name, ("GNU.sparse.realsize", b"5000")];
    assert_eq!(with(version_1, b"2\n512\n512\n4096\n3\n"), "d/s");
    let version_0_1: &[(&str, &[u8])] = &[("GNU.sparse.size", b"5000"), name, ("GNU.sparse.map", b"512,512,4096,3")];
    assert_eq!(with(version_0_1, b""), "d/s");
    let version_0_0: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"5000"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"512"),
        ("GNU.sparse.numbytes", b"512"),
        ("GNU.sparse.offset", b"4096"),
        ("GNU.sparse.numbytes", b"3"),
    ];
    assert_eq!(with(version_0_0, b""), "GNUSparseFile.0/s");
}

#[test]
fn what_the_receiver_leaves_unread_is_passed_over() {
    let bytes = sample().end();
    let mut seen = 0;
    let summary =
        read::<Infallible>(&bytes[..], &ArchiveLimits::default(), &EntryPath::base(), ROOT, &mut |_, content| {
            let _ = content.read(&mut [0; 7]);
            seen += 1;
            Ok(())
        });
    assert_eq!((seen, summary.unwrap().bytes), (6, 3000));
}

#[test]
fn the_receivers_error_stays_its_own() {
    let result = read(
        &sample().end()[..],
        &ArchiveLimits::default(),
        &EntryPath::base(),
        ROOT,
        &mut |entry: ArchiveEntry, _: &mut dyn Read| match entry.path.as_bytes() {
            b"d/f" => Err(std::fmt::Error),
            _ => Ok(()),
        },
    );
    match result {
        Err(ReadError::Sink { entry, .. }) => assert_eq!(entry.as_bytes(), b"d/f"),
        other => panic!("{other:?}"),
    }
}

/// Archives of the `tar` program of this host, where it has one.
#[test]
fn what_the_system_tar_writes_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    std::fs::create_dir_all(tree.join("sub")).unwrap();
    std::fs::write(tree.join("sub/file"), b"content").unwrap();
    std::fs::hard_link(tree.join("sub/file"), tree.join("sub/hard")).unwrap();
    std::os::unix::fs::symlink("sub/file", tree.join("soft")).unwrap();
    let long = tree.join("l".repeat(120));
    let holes = std::fs::File::create(&long).unwrap();
    holes.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"end", (1 << 20) - 3).unwrap();
    for format in ["gnu", "pax"] {
        let archive = dir.path().join(format);
        let mut command = std::process::Command::new("tar");
        command.arg("-C").arg(&tree).arg("-cSf").arg(&archive).arg(format!("--format={format}")).arg(".");
        match command.status() {
            Ok(status) if status.success() => {}
            _ => return eprintln!("skipped: no GNU tar on this host"),
        }
        let all = entries(&std::fs::read(&archive).unwrap()).unwrap();
        assert_eq!(all.len(), 6, "{format}");
        let hard = all.iter().filter(|(entry, _)| matches!(entry.item, ArchiveItem::HardLink { .. })).count();
        assert_eq!(hard, 1, "{format}");
        let (_, content) = all.iter().find(|(entry, _)| entry.path.as_bytes().starts_with(b"lll")).unwrap();
        assert_eq!(content.len(), 1 << 20);
        assert!(content.ends_with(b"\0end") && content[..1000].iter().all(|b| *b == 0));
    }
}
