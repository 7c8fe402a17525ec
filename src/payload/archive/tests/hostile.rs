//! Archives that mean harm, or mean different things to different programs.

use super::*;

#[test]
fn names_that_leave_the_directory_are_refused() {
    for name in [
        "../x",
        "..",
        "a/../../x",
        "a/..",
        "./../x",
        "/etc/passwd",
        "//etc/passwd",
        "/",
        "/cvmfs/software.example.org/apps/x/y",
        "a/../b",
    ] {
        for flag in [b'0', b'5', b'2', b'1'] {
            let (entry, why) = refusal(Tar::default().file("f", b"").raw(name.as_bytes(), b"f", flag, 0, b""));
            assert_eq!(entry, name);
            assert!(matches!(why, Refusal::Path(_)), "{name}: {why}");
        }
    }
}

#[test]
fn long_names_are_held_to_the_same_rules() {
    for name in [&b"../x"[..], b"/x", b"a\0b", &[b'a'; 256], &b"a/".repeat(2500), b"a/../b\0"] {
        let (_, why) = refusal(Tar::default().gnu_name(b'L', name).file("x", b""));
        assert!(matches!(why, Refusal::Path(_)), "{name:?}: {why}");
        let (_, why) = refusal(Tar::default().pax(&[("path", name)]).file("x", b""));
        assert!(matches!(why, Refusal::Path(_)), "{name:?}: {why}");
        let (_, why) = refusal(
            Tar::default()
                .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.name", name)])
                .file("x", b""),
        );
        assert!(matches!(why, Refusal::Path(_)), "{name:?}: {why}");
    }
}

#[test]
fn an_entry_without_a_name_is_no_file() {
    for flag in [b'0', b'2', b'1', b'5'] {
        assert_eq!(refusal(Tar::default().raw(b"", b"x", flag, 0, b"")).1, Refusal::NoName);
    }
    for name in [".", "./."] {
        assert_eq!(refusal(Tar::default().file(name, b"")).1, Refusal::NoName);
        assert_eq!(refusal(Tar::default().symlink(name, "x")).1, Refusal::NoName);
    }
    assert_eq!(refusal(Tar::default().gnu_name(b'L', b"\0").file("x", b"")).1, Refusal::NoName);
}

#[test]
fn symbolic_links_that_lead_out_are_refused_also_with_long_targets() {
    for target in ["..", "../y", "/etc/shadow", "d/../../y", "/cvmfs/software.example.org/apps/xx", "./../.."] {
        let (entry, why) = refusal(Tar::default().symlink("l", target));
        assert_eq!((entry.as_str(), why), ("l", Refusal::LinkOutside { target: target.to_owned() }));
        let long = Tar::default().gnu_name(b'K', target.as_bytes()).symlink("l", "fine");
        assert!(matches!(refusal(long).1, Refusal::LinkOutside { .. }));
        let pax = Tar::default().pax(&[("linkpath", target.as_bytes())]).symlink("l", "fine");
        assert!(matches!(refusal(pax).1, Refusal::LinkOutside { .. }));
    }
    let huge = vec![b'a'; 5000];
    let (_, why) = refusal(Tar::default().gnu_name(b'K', &huge).symlink("l", ""));
    assert!(matches!(why, Refusal::LinkTarget(_)));
    assert!(matches!(refusal(Tar::default().symlink("l", "")).1, Refusal::LinkTarget(_)));
    let (_, why) = refusal(Tar::default().pax(&[("linkpath", b"a\0/etc")]).symlink("l", ""));
    assert!(matches!(why, Refusal::LinkTarget(_)));
}

#[test]
fn symbolic_links_to_the_place_itself_are_taken() {
    assert!(entries(&Tar::default().symlink("l", "/cvmfs/software.example.org/apps/x/d").end()).is_ok());
}

#[test]
fn nothing_is_written_through_a_link() {
    let (entry, why) = refusal(Tar::default().symlink("a", "d").file("a/b", b"x"));
    assert_eq!((entry.as_str(), why), ("a/b", Refusal::ThroughLink { link: EntryPath::new(b"a").unwrap() }));
    for tar in [
        Tar::default().symlink("a", "d").dir("a/b/c"),
        Tar::default().symlink("a", "d").symlink("a/b", "c"),
        Tar::default().file("f", b"").symlink("a", "d").hard_link("a/b", "f"),
        Tar::default().symlink("a", ".").symlink("b", "a").file("b/c", b""),
        Tar::default().file("f", b"").symlink("f", "d").file("f/x", b""),
    ] {
        assert!(matches!(refusal(tar).1, Refusal::ThroughLink { .. }));
    }
}

#[test]
fn a_chain_of_links_does_not_climb_out() {
    let (entry, why) = refusal(Tar::default().symlink("a/b/up", "../..").symlink("out", "a/b/up/../.."));
    assert_eq!(entry, "out");
    assert!(matches!(why, Refusal::ClimbsThroughLink { .. }));
}

#[test]
fn hard_links_reach_only_earlier_files_of_the_archive() {
    for target in ["/etc/shadow", "../x", "absent", "", "d", "s", "later", "h", "f/../f"] {
        let tar = Tar::default().dir("d").file("f", b"").symlink("s", "f").hard_link("h", target).file("later", b"");
        let (entry, why) = refusal(tar);
        assert_eq!(entry, "h");
        assert!(matches!(why, Refusal::HardLink { .. }), "{target}: {why}");
    }
}

#[test]
fn a_hard_link_to_what_has_become_a_link_is_refused() {
    let tar = Tar::default().file("f", b"").symlink("f", "g").hard_link("h", "f");
    assert!(matches!(refusal(tar).1, Refusal::HardLink { why: "which is a symbolic link", .. }));
}

#[test]
fn kinds_that_nobody_needs_are_refused_by_name() {
    for (flag, name) in [
        (b's', "a socket"),
        (b'M', "continuation"),
        (b'D', "incremental"),
        (b'A', "Solaris"),
        (b'Z', "unknown type 'Z'"),
        (0xff, "unknown type"),
    ] {
        let (entry, why) = refusal(Tar::default().raw(b"dev/x", b"", flag, 0, b""));
        assert_eq!(entry, "dev/x");
        assert!(why.to_string().contains(name), "{why}");
    }
    assert!(matches!(refusal(Tar::default().raw(b"v", b"", b'V', 3, b"abc")).1, Refusal::Kind(_)));
}

#[test]
fn content_where_there_should_be_none_is_refused() {
    let inner = Tar::default().file("hidden", b"x").0;
    let size = inner.len() as u64;
    for flag in [b'1', b'2', b'3', b'4', b'5', b'6'] {
        let tar = Tar::default().file("f", b"").raw(b"l", b"f", flag, size, &inner);
        assert!(matches!(refusal(tar).1, Refusal::HasContent { .. }), "{flag}");
    }
}

#[test]
fn paths_that_collide_are_refused() {
    for tar in [
        Tar::default().file("a", b"").file("a/b", b""),
        Tar::default().file("a/b", b"").file("a", b""),
        Tar::default().file("a", b"").dir("a"),
        Tar::default().dir("a").symlink("a", "b"),
        Tar::default().file("f", b"").dir("a").hard_link("a", "f"),
        Tar::default().file("f", b"").hard_link("a", "f").file("a/b/c", b""),
    ] {
        assert_eq!(refusal(tar).1.to_string().split(' ').next(), Some("\"a\""));
    }
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    let tar = Tar::default().file("a", b"");
    for (at, bytes, what) in [
        (100, &b"zzzzzzz\0"[..], "mode"),
        (108, b"\x80\0\0\x01\0\0\0\0", "owner"),
        (108, b"\xff\xff\xff\xff\xff\xff\xff\xff", "owner"),
        (116, b"-1\0\0\0\0\0\0", "group"),
        (124, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "size"),
        (124, b"99999999999\0", "size"),
        (136, b"\x80\0\0\xff\0\0\0\0\0\0\0\0", "time"),
    ] {
        assert_eq!(refusal(tar.clone().patch(at, bytes)).1, Refusal::Number(what));
    }
    let (_, why) = refusal(Tar::default().pax(&[("uid", b"4294967296")]).file("a", b""));
    assert_eq!(why, Refusal::Number("owner"));
}

#[test]
fn a_name_given_twice_must_agree() {
    let tar = |pax: &[u8]| Tar::default().gnu_name(b'L', b"long\0").pax(&[("path", pax)]).file("x", b"");
    assert_eq!(refusal(tar(b"other")).1, Refusal::Ambiguous("name"));
    assert_eq!(only(tar(b"long")).0.path.as_bytes(), b"long");
}

fn header_error(bytes: &[u8]) -> &'static str {
    match entries(bytes) {
        Err(ArchiveError::Header { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn extended_headers_that_make_no_sense_are_refused() {
    let file = |tar: Tar| tar.file("x", b"").end();
    let tar = Tar::default;
    assert!(header_error(&file(tar().gnu_name(b'L', b"a").gnu_name(b'L', b"a"))).contains("two long names"));
    assert!(header_error(&file(tar().gnu_name(b'K', b"a").gnu_name(b'K', b"a"))).contains("two long link"));
    assert!(header_error(&file(tar().pax(&[]).pax(&[]))).contains("two extended headers"));
    assert!(header_error(&file(tar().pax_as(b'g', &[("path", b"all")]))).contains("global"));
    assert!(header_error(&file(tar().pax_as(b'g', &[("size", b"0")]))).contains("global"));
    assert!(header_error(&file(tar().pax_as(b'g', &[("GNU.sparse.map", b"0,1")]))).contains("global"));
    assert!(header_error(&file(tar().raw(b"p", b"", b'x', 4, b"junk"))).contains("malformed"));
    assert!(header_error(&tar().file("x", b"").gnu_name(b'L', b"a").end()).contains("does not follow"));
    assert!(header_error(&tar().pax(&[("path", b"a")]).end()).contains("does not follow"));
}

#[test]
fn a_sparse_map_that_lies_is_refused() {
    let sparse = |size: &[u8], map: &[u8]| {
        let records: &[(&str, &[u8])] = &[("GNU.sparse.size", size), ("GNU.sparse.map", map)];
        Tar::default().pax(records).file("s", &[1; 512])
    };
    for (size, map) in [
        (&b"100"[..], &b"0,512"[..]),
        (b"1024", b"0,511"),
        (b"1024", b"512,512,0,512"),
        (b"18446744073709551615", b"18446744073709551615,512"),
        (b"1024", b"0,513"),
    ] {
        assert!(matches!(refusal(sparse(size, map)).1, Refusal::Sparse(_)), "{size:?} {map:?}");
    }
    let version = |major: &'static [u8], content: &[u8]| {
        let records: &[(&str, &[u8])] =
            &[("GNU.sparse.major", major), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"512")];
        Tar::default().pax(records).file("s", content)
    };
    for content in [&b""[..], b"1\n0\n", b"x\n", b"99999999999999999999999\n", &[b'1'; 512], b"0\n", &[b'\n'; 512]] {
        let tar = version(b"1", content);
        let refused = matches!(entries(&tar.clone().end()), Err(ArchiveError::Entry { why: Refusal::Sparse(_), .. }));
        assert!(refused, "{:?} {:?}", String::from_utf8_lossy(content), entries(&tar.end()));
    }
    assert!(matches!(refusal(version(b"2", b"0\n")).1, Refusal::Sparse(_)));
    let both = Tar::default().pax(&[("GNU.sparse.map", b"0,0")]).raw(b"s", b"", b'S', 0, b"");
    assert!(matches!(refusal(both).1, Refusal::Ambiguous(_)));
}

#[test]
fn a_damaged_header_is_told_with_its_place() {
    let mut bytes = Tar::default().file("a", b"x").file("b", b"").end();
    bytes[1024 + 3] ^= 1;
    match entries(&bytes) {
        Err(error @ ArchiveError::Header { .. }) => {
            assert_eq!(error.to_string(), "the archive has a bad header after entry \"a\": its checksum is wrong");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_archive_cut_off_anywhere_is_noticed() {
    let bytes = sample().pax(&[("path", b"p")]).file("x", b"y").gnu_name(b'L', b"long").file("z", b"").end();
    for cut in (0..bytes.len() - 1024).step_by(512).flat_map(|at| [at, at + 1, at + 511]) {
        match entries(&bytes[..cut]) {
            Err(ArchiveError::NotTar { .. }) if cut < 512 => {}
            Err(ArchiveError::Truncated { .. }) if cut >= 512 => {}
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
}

#[test]
fn a_compressed_archive_cut_off_anywhere_is_noticed() {
    let plain = sample().end();
    for packed in [gzip(&plain), zst(&plain), xz(&plain)] {
        for cut in 9..packed.len() {
            assert!(entries(&packed[..cut]).is_err(), "{:?} cut at {cut} of {}", &packed[..4], packed.len());
        }
    }
}

#[test]
fn a_compressed_stream_with_a_flipped_checksum_is_refused_at_its_end() {
    let mut packed = gzip(&sample().end());
    let at = packed.len() - 8;
    packed[at] ^= 1;
    assert!(matches!(entries(&packed), Err(ArchiveError::Compression { format: "gzip", .. })));
    let mut packed = xz(&sample().end());
    let at = packed.len() - 20;
    packed[at] ^= 1;
    assert!(matches!(entries(&packed), Err(ArchiveError::Compression { format: "xz", .. })));
}

#[test]
fn data_after_the_end_is_refused() {
    let one = Tar::default().file("a", b"").end();
    let two = [one.clone(), one.clone()].concat();
    assert!(matches!(entries(&two), Err(ArchiveError::TrailingData { .. })));
    assert!(matches!(entries(&gzip(&two)), Err(ArchiveError::TrailingData { .. })));
    assert!(matches!(entries(&[&one[..], b"x"].concat()), Err(ArchiveError::TrailingData { .. })));
    assert!(entries(&[&gzip(&one)[..], b"junk after the stream"].concat()).is_err());
    // One zero block in the middle ends the archive for some programs and not for others.
    let lone = [&one[..1024], &one[..]].concat();
    assert!(matches!(entries(&lone), Err(ArchiveError::TrailingData { .. })));
}

#[test]
fn what_is_no_tar_archive_is_named() {
    for (bytes, found) in [
        (&b""[..], "empty"),
        (b"x", "too short"),
        (&gzip(b""), "empty"),
        (b"BZh91AY&SY....", "bzip2"),
        (b"PK\x03\x04......", "zip"),
        (b"\x04\x22\x4d\x18....", "lz4"),
        (b"]\0\0\x80\0....", "lzma"),
        (b"LZIP\x01...", "lzip"),
        (b"7z\xbc\xaf\x27\x1c..", "7z"),
        (&b"<!DOCTYPE html><title>404</title>".repeat(30), "no header"),
        (&gzip(&gzip(&sample().end())).repeat(9), "no header"),
        (&[0xff; 2048], "no header"),
    ] {
        match entries(bytes) {
            Err(error @ ArchiveError::NotTar { .. }) => assert!(error.to_string().contains(found), "{error}"),
            Err(ArchiveError::Compression { .. }) if found == "no header" => {}
            other => panic!("{found}: {other:?}"),
        }
    }
    for magic in [&[0x1f, 0x8b][..], &[0x28, 0xb5, 0x2f, 0xfd], b"\xfd7zXZ\0"] {
        let bytes = [magic, &[0x99; 600]].concat();
        assert!(matches!(entries(&bytes), Err(ArchiveError::Compression { .. })), "{magic:?}");
    }
}

#[test]
fn a_failing_source_is_told_from_a_broken_archive() {
    struct Failing<'a>(&'a [u8]);
    impl Read for Failing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer) {
                Ok(0) => Err(std::io::Error::other("disk on fire")),
                other => other,
            }
        }
    }
    let plain = sample().end();
    for bytes in [&plain[..1500], &gzip(&plain)[..400], &zst(&plain)[..400], &xz(&plain)[..400], b""] {
        let result = read::<Infallible>(
            Failing(bytes),
            &ArchiveLimits::default(),
            &EntryPath::base(),
            ROOT,
            &mut |_, content| {
                let _ = std::io::copy(content, &mut std::io::sink());
                Ok(())
            },
        );
        match result {
            Err(ReadError::Archive(error @ ArchiveError::Source { .. })) => assert!(error.is_transient()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_archives_defect_is_told_and_not_the_receivers_echo() {
    let bytes = sample().end();
    let result = read(&bytes[..2500], &ArchiveLimits::default(), &EntryPath::base(), ROOT, &mut |_, content| {
        std::io::copy(content, &mut std::io::sink()).map(drop)
    });
    assert!(matches!(result, Err(ReadError::Archive(ArchiveError::Truncated { .. }))), "{result:?}");
}
