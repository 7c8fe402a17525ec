//! Where chunks end.

use std::io::Read;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::support::{Place, random, text};
use crate::cvmfs::catalog::{Chunk, Flags};
use crate::cvmfs::hash::Algorithm;
use crate::cvmfs::ingest::cut::Cutter;
use crate::cvmfs::ingest::{ChunkSizes, Content, IngestSettings};
use crate::cvmfs::reader::Expiry;
use crate::cvmfs::stratum0::Stratum0;
use crate::cvmfs::tests::support::{NOW, golden};

/// The rule again, in the plainest form: a cut is before the first byte, `min` bytes into the chunk or later, with which
/// the last 32 bytes of the chunk (not more than those behind `min` - 32) make a checksum near 2^31; or at `max`.
fn reference(content: &[u8], sizes: ChunkSizes) -> Vec<usize> {
    let (min, max) = (sizes.min as usize, sizes.max as usize);
    let threshold = i64::from(u32::MAX) / sizes.average as i64;
    let mut cuts = vec![0];
    let mut start = 0;
    'chunks: while start < content.len() {
        for at in start + min..content.len().min(start + max) {
            let window = &content[(start + min - 32).max((at + 1).saturating_sub(32))..=at];
            let sum = window.iter().rev().enumerate().fold(0_u32, |sum, (age, byte)| sum ^ (u32::from(*byte) << age));
            let distance = (i64::from(sum) - i64::from(i32::MAX)).abs();
            if distance < threshold || sum == u32::MAX {
                (start, _) = (at, cuts.push(at));
                continue 'chunks;
            }
        }
        start += max;
        if start < content.len() {
            cuts.push(start);
        }
    }
    cuts
}

/// The same by the code under test, which is given pieces whose length the caller chooses.
fn cuts(content: &[u8], sizes: ChunkSizes, mut piece: impl FnMut() -> usize, zeros: bool) -> Vec<usize> {
    let mut cutter = Cutter::new(sizes);
    let (mut cuts, mut at) = (vec![0], 0);
    while at < content.len() {
        let bytes = &content[at..content.len().min(at + piece().max(1))];
        let is_zero = zeros && bytes.iter().all(|byte| *byte == 0);
        let cut = if is_zero { cutter.cut_zeros(bytes.len()) } else { cutter.cut(bytes) };
        at += cut.unwrap_or(bytes.len());
        if cut.is_some() && at < content.len() {
            cuts.push(at);
        }
    }
    cuts
}

#[test]
fn cuts_are_those_of_a_plain_reference_whatever_the_pieces() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut marks = 0;
    for round in 0..40 {
        let min = rng.random_range(32..200);
        let average = rng.random_range(min + 2..min + 600);
        let sizes = ChunkSizes { min, average, max: average + rng.random_range(1..900) };
        let mut content = random(rng.random_range(0..20_000), round);
        // Holes, also short ones, and values that make marks of a few bytes.
        for _ in 0..rng.random_range(0..6) {
            let at = rng.random_range(0..=content.len());
            let end = content.len().min(at + rng.random_range(0..3000));
            let value = [0, 0, 0, 1, 0x80][rng.random_range(0..5)];
            content[at..end].fill(value);
        }
        let expected = reference(&content, sizes);
        marks += expected.windows(2).filter(|pair| ((pair[1] - pair[0]) as u64) < sizes.max).count();
        for longest in [1, 33, 5000] {
            for zeros in [false, true] {
                let found = cuts(&content, sizes, || rng.random_range(1..=longest), zeros);
                assert_eq!(found, expected, "{sizes:?}, pieces of up to {longest} bytes");
            }
        }
    }
    assert!(marks > 200, "only {marks} chunks ended at a mark");
}

#[test]
fn a_checksum_of_all_ones_is_a_mark_for_the_real_tools_overflow() {
    // 32 bytes of value 1 give it. They compute with overflow, and so every file of ones is cut at `min`.
    let sizes = ChunkSizes { min: 64, average: 1 << 20, max: 2 << 20 };
    assert_eq!(cuts(&[1; 200], sizes, || 7, false), [0, 64, 128, 192]);
}

#[test]
fn a_mark_whose_last_bytes_are_zeros_is_found_in_a_hole() {
    // One bit, shifted 31 times by zeros, lies beside the middle of the range.
    let sizes = ChunkSizes { min: 64, average: 1 << 20, max: 2 << 20 };
    let mut content = vec![0; 4096];
    content[99] = 1;
    for piece in [1, 25, 100, 4096] {
        assert_eq!(cuts(&content, sizes, || piece, true), reference(&content, sizes), "{piece}");
    }
    assert_eq!(reference(&content, sizes)[..2], [0, 130]);
}

#[test]
fn zeros_are_cut_where_a_chunk_may_not_be_longer() {
    let sizes = ChunkSizes::default();
    let zeros = vec![0; (33 << 20) + 5];
    assert_eq!(cuts(&zeros, sizes, || 256 << 10, true), [0, 16 << 20, 32 << 20]);
}

#[test]
fn a_chunk_of_the_longest_size_ends_with_its_last_byte() {
    let sizes = ChunkSizes { min: 64, average: 100, max: 128 };
    let content = vec![0; 256];
    let mut cutter = Cutter::new(sizes);
    assert_eq!(cutter.cut(&content[..128]), Some(128));
    assert_eq!(cutter.cut(&content[..127]), None);
    assert_eq!(cutter.cut(&content[..1]), Some(1));
    assert_eq!(cutter.cut_zeros(256), Some(128));
}

#[test]
fn sizes_that_the_real_tools_refuse_are_refused() {
    let sizes = |min, average, max| ChunkSizes { min, average, max };
    for bad in [sizes(31, 64, 128), sizes(64, 64, 128), sizes(64, 128, 128), sizes(0, 0, 0)] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
    sizes(32, 33, 34).check().unwrap();
    ChunkSizes::default().check().unwrap();
    // Marks become rare, never wrong.
    assert_eq!(cuts(&text(5000), sizes(32, 1 << 40, 1 << 50), || 100, true), [0]);
}

#[test]
fn the_golden_file_is_cut_where_the_real_tools_cut_it() {
    let name = "sample.example.org";
    let (_directory, storage, keys) = golden(name);
    let reader = Stratum0::at(storage, name, keys).reader(Expiry::Refuse { now: NOW }).unwrap();
    let mut tree = reader.tree().unwrap();
    let mut large = Vec::new();
    tree.walk(b"", |path, entry| {
        if entry.flags.has(Flags::CHUNKED) {
            large.push(path.to_vec());
        }
        Ok(())
    })
    .unwrap();
    let mut content = Vec::new();
    tree.file(&large[0]).unwrap().read_to_end(&mut content).unwrap();

    let root = reader.manifest().root_hash;
    let nested = reader.catalog(&root).unwrap().nested().unwrap();
    let catalogs = nested.iter().map(|nested| nested.hash).chain([root]);
    let chunks = catalogs.map(|hash| reader.catalog(&hash).unwrap().chunks(&large[0], Algorithm::Sha1).unwrap());
    let chunks = chunks.max_by_key(Vec::len).unwrap();
    assert_eq!(chunks.len(), 11);

    let place = Place::new();
    let stored = place.begin(IngestSettings::default()).store(&mut &content[..]).unwrap();
    let Content::Chunks(ours) = stored.content else { panic!("it was not cut") };
    let sizes = |chunks: &[Chunk]| chunks.iter().map(|chunk| (chunk.offset, chunk.size)).collect::<Vec<_>>();
    assert_eq!(sizes(&ours), sizes(&chunks));
}
