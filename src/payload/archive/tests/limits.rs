//! Archives that are too much.

use super::*;

fn limit(bytes: &[u8], limits: ArchiveLimits) -> &'static str {
    match read_with(bytes, &limits) {
        Err(error @ ArchiveError::Limit { .. }) => {
            assert!(!error.is_transient());
            let ArchiveError::Limit { what, .. } = error else { unreachable!() };
            what
        }
        other => panic!("within the limits: {:?}", other.map(|(entries, summary)| (entries.len(), summary))),
    }
}

/// Zeros without end, as cheap to make as to pack.
struct Zeros;

impl Read for Zeros {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        buffer.fill(0);
        Ok(buffer.len())
    }
}

/// A file of `size` zeros, packed far more than a thousand to one.
fn bomb(size: u64) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.write_all(&Tar::default().raw(b"zeros", b"", b'0', size, b"").0).unwrap();
    std::io::copy(&mut Zeros.take(size.next_multiple_of(512) + 1024), &mut encoder).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_bomb_is_defused_by_its_ratio() {
    let size = 512 << 20;
    let packed = bomb(size);
    assert!(size / packed.len() as u64 > 10_000, "{} bytes are no bomb", packed.len());
    let limits = ArchiveLimits { ratio_exempt_bytes: 1 << 20, ..ArchiveLimits::default() };
    let mut delivered = 0;
    let result = read::<Infallible>(&packed[..], &limits, &EntryPath::base(), ROOT, &mut |_, content| {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = content.read(&mut buffer) {
            delivered += n;
        }
        Ok(())
    });
    match result {
        Err(ReadError::Archive(ArchiveError::Limit { what: "times its packed size", .. })) => {}
        other => panic!("{other:?}"),
    }
    assert!(delivered < 64 << 20, "{delivered} bytes went through");
}

#[test]
fn zeros_after_the_end_are_a_bomb_too() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    std::io::copy(&mut Zeros.take(64 << 20), &mut encoder).unwrap();
    let limits = ArchiveLimits { ratio_exempt_bytes: 1 << 20, ..ArchiveLimits::default() };
    assert_eq!(limit(&encoder.finish().unwrap(), limits), "times its packed size");
}

#[test]
fn each_limit_is_kept() {
    let limits = ArchiveLimits::default();
    let tar = Tar::default().file("a", &[1; 1000]).file("b", &[1; 1000]).end();
    assert_eq!(limit(&tar, ArchiveLimits { entries: 1, ..limits }), "entries");
    assert_eq!(limit(&tar, ArchiveLimits { file_bytes: 999, ..limits }), "bytes in one file");
    assert_eq!(limit(&tar, ArchiveLimits { total_bytes: 3000, ..limits }), "bytes unpacked");
    let just = ArchiveLimits { entries: 2, file_bytes: 1000, total_bytes: tar.len() as u64, ..limits };
    assert!(read_with(&tar, &just).is_ok());
}

#[test]
fn plain_archives_are_no_bombs() {
    let limits = ArchiveLimits { ratio: 1, ratio_exempt_bytes: 0, ..ArchiveLimits::default() };
    assert!(read_with(&sample().end(), &limits).is_ok());
}

#[test]
fn a_size_that_is_a_lie_is_not_believed() {
    for size in ["18446744073709551615", "9223372036854775808", "1099511627776"] {
        let tar = Tar::default().pax(&[("size", size.as_bytes())]).file("a", b"x").end();
        assert_eq!(limit(&tar, ArchiveLimits::default()), "bytes in one file");
    }
    let unlimited = ArchiveLimits { file_bytes: u64::MAX, total_bytes: u64::MAX, ..ArchiveLimits::default() };
    for size in ["18446744073709551615", "18446744073709551000", "9223372036854775808"] {
        let tar = Tar::default().pax(&[("size", size.as_bytes())]).file("a", b"x").end();
        assert!(matches!(read_with(&tar, &unlimited), Err(ArchiveError::Truncated { .. })), "{size}");
    }
}

#[test]
fn extended_headers_are_not_remembered_without_end() {
    for flag in [b'L', b'K', b'x', b'g'] {
        let tar = Tar::default().raw(b"x", b"", flag, 1 << 40, b"x").0;
        assert_eq!(limit(&tar, ArchiveLimits::default()), "bytes in an extended header");
    }
}

#[test]
fn holes_count_as_if_they_were_stored() {
    let sparse = |size: &str| {
        let records: &[(&str, &[u8])] = &[("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", b"0,0")];
        Tar::default().pax(records).file("s", b"").end()
    };
    let limits = ArchiveLimits::default();
    assert_eq!(limit(&sparse("1099511627776"), limits), "bytes in one file");
    assert_eq!(limit(&sparse("18446744073709551615"), limits), "bytes in one file");
    assert_eq!(
        limit(&sparse("68719476736"), ArchiveLimits { ratio: u64::MAX, total_bytes: 1 << 30, ..limits }),
        "bytes unpacked"
    );
    assert_eq!(limit(&sparse("1073741824"), limits), "times its packed size");
}

#[test]
fn a_sparse_map_is_not_remembered_without_end() {
    // Blocks that continue the map and say that another one follows.
    let pair = b"00000000000\x0000000000000\0";
    let mut block = pair.repeat(21);
    block.resize(512, 1);
    let mut tar = Tar::default().raw(b"s", b"", b'S', 0, b"").patch(482, &[1]).0;
    tar.extend(block.repeat(13_000));
    match entries(&tar) {
        Err(ArchiveError::Entry { why: Refusal::Sparse("it has too many parts"), .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn decoders_that_ask_for_much_memory_are_refused() {
    // A frame header with a window of 2 GiB, and one of xz with a dictionary of 4 GiB less one byte.
    let zstd = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8][..], &[0; 64]].concat();
    assert!(matches!(entries(&zstd), Err(ArchiveError::Compression { format: "zstd", .. })));
    let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
    options.dict_size(1 << 30);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let stream = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32).unwrap();
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(&sample().end()).unwrap();
    match entries(&encoder.finish().unwrap()) {
        Err(ArchiveError::Compression { format: "xz", source, .. }) => {
            assert!(source.to_string().contains("memory") || source.to_string().contains("limit"), "{source}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn many_entries_take_little_time() {
    let mut tar = Tar::default();
    for i in 0..5_000 {
        tar = tar.file(&format!("a/b/c/d/{i}"), b"");
    }
    assert_eq!(entries(&gzip(&tar.end())).unwrap().len(), 5_000);
}
