//! Archives that nobody would write.

use proptest::prelude::*;

use super::*;

/// What must hold for whatever is delivered.
fn check(bytes: &[u8]) {
    let limits = ArchiveLimits { total_bytes: 8 << 20, file_bytes: 4 << 20, ..ArchiveLimits::default() };
    if let Ok((entries, summary)) = read_with(bytes, &limits) {
        let mut files = std::collections::HashSet::new();
        let mut total = 0;
        for (entry, content) in entries {
            assert!(entry.path.parts().all(|part| part != b".." && part != b"."));
            match entry.item {
                ArchiveItem::Node(EntryKind::File { size }) => {
                    assert_eq!(content.len() as u64, size);
                    files.insert(entry.path);
                }
                ArchiveItem::HardLink { to } => {
                    assert!(files.contains(&to));
                    files.insert(entry.path);
                }
                ArchiveItem::Node(_) => assert!(content.is_empty()),
            }
            total += content.len() as u64;
        }
        assert_eq!(summary.bytes, total);
    }
}

/// Entries of names and kinds that are likely to get in each other's way.
fn entry() -> impl Strategy<Value = Tar> {
    let name = "(\\./)?([abc]|\\.\\.|/)(/[abc]){0,2}/?";
    let flag = proptest::sample::select(&b"0012225LKxgS73"[..]);
    (name, name, flag, 0u64..1200, 0usize..1200).prop_map(|(name, link, flag, size, content)| {
        let size = if matches!(flag, b'0' | b'7' | b'S' | b'L' | b'K' | b'x') { size } else { 0 };
        let content = if size == 0 { 0 } else { content };
        Tar::default().raw(name.as_bytes(), link.as_bytes(), flag, size, &vec![b'a'; content])
    })
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), magic in 0usize..4) {
        let magic = [&b""[..], &[0x1f, 0x8b, 8], &[0x28, 0xb5, 0x2f, 0xfd], b"\xfd7zXZ\0"][magic];
        check(&[magic, &bytes].concat());
    }

    #[test]
    fn entries_in_each_others_way_never_panic(tars in proptest::collection::vec(entry(), 1..8)) {
        let all = Tar(tars.into_iter().flat_map(|tar| tar.0).collect());
        check(&all.end());
    }

    #[test]
    fn a_damaged_archive_never_panics(at in 0usize..6000, byte in any::<u8>(), pack in 0usize..4) {
        let tar = sample().pax(&[("path", b"p"), ("mtime", b"1.5")]).file("x", b"y");
        let plain = tar.gnu_name(b'L', b"l").file("z", b"").end();
        let mut bytes = [plain.clone(), gzip(&plain), zst(&plain), xz(&plain)][pack].clone();
        let at = at % bytes.len();
        bytes[at] = byte;
        check(&bytes);
    }

    #[test]
    fn a_header_with_a_right_checksum_and_random_fields_never_panics(
        at in 0usize..500,
        bytes in proptest::collection::vec(any::<u8>(), 1..12),
        flag in proptest::sample::select(&b"0125LKxgSV7\0"[..]),
    ) {
        check(&Tar::default().raw(b"name", b"link", flag, 600, b"").patch(at, &bytes).content(&[7; 600]).end());
    }

    #[test]
    fn reading_in_any_steps_gives_the_same(step in 1usize..3000) {
        let bytes = sample().end();
        let mut contents = Vec::new();
        read::<Infallible>(&bytes[..], &ArchiveLimits::default(), &EntryPath::base(), ROOT, &mut |_, content| {
            let mut buffer = vec![0; step];
            while let Ok(n @ 1..) = content.read(&mut buffer) {
                contents.extend_from_slice(&buffer[..n]);
            }
            Ok(())
        }).unwrap();
        let whole: Vec<u8> = entries(&bytes).unwrap().into_iter().flat_map(|(_, content)| content).collect();
        prop_assert_eq!(contents, whole);
    }
}
