//! What is stored, and that it is what was given.

use std::io::Read;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::support::{Place, SMALL, Trickle, random, text};
use crate::cvmfs::catalog::Compression;
use crate::cvmfs::hash::{Algorithm, ObjectKind};
use crate::cvmfs::ingest::blocks::BLOCK;
use crate::cvmfs::ingest::{ChunkSizes, Content, IngestSettings, StoredFile, Ticket};

fn settings(chunking: Option<ChunkSizes>) -> IngestSettings {
    IngestSettings { chunking, threads: 3, ..IngestSettings::default() }
}

fn whole(file: &StoredFile) -> crate::cvmfs::hash::ContentHash {
    let Content::Whole(hash) = &file.content else { panic!("it is in chunks") };
    *hash
}

/// Contents whose lengths lie around all limits, that compress, do not, or do in part.
fn contents() -> Vec<Vec<u8>> {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut lengths = vec![0, 1, 4096, 32 << 10, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 7];
    lengths.extend([SMALL.min as usize, SMALL.min as usize + 1, SMALL.max as usize, SMALL.max as usize + 1]);
    lengths.extend((0..20).map(|_| rng.random_range(0..50_000)));
    let mut contents = Vec::new();
    for (number, length) in lengths.into_iter().enumerate() {
        contents.push(random(length, number as u64));
        contents.push(text(length));
        contents.push(vec![0; length]);
        // Stretches of each kind: the stream changes its level again and again, and holes begin and end anywhere.
        let mut mixed = Vec::new();
        while mixed.len() < length {
            let part = rng.random_range(1..=2 * BLOCK);
            match rng.random_range(0..3) {
                0 => mixed.extend(random(part, number as u64)),
                1 => mixed.extend(text(part)),
                _ => mixed.resize(mixed.len() + part, 0),
            }
        }
        mixed.truncate(length);
        contents.push(mixed);
    }
    contents
}

#[test]
fn what_is_published_is_what_was_given_and_results_come_in_order() {
    let all = contents();
    for (chunking, compression, algorithm) in [
        (Some(SMALL), Compression::Zlib, Algorithm::Sha1),
        (Some(SMALL), Compression::None, Algorithm::Shake128),
        (None, Compression::Zlib, Algorithm::Shake128),
        (None, Compression::None, Algorithm::Sha1),
    ] {
        // Builds for debugging take long for SHAKE-128.
        let contents: Vec<_> = all.iter().step_by(if algorithm == Algorithm::Sha1 { 1 } else { 7 }).collect();
        let place = Place::new();
        let mut ingest = place.begin(IngestSettings { algorithm, compression, ..settings(chunking) });
        let mut results: Vec<(Ticket, StoredFile)> = Vec::new();
        let mut tickets = Vec::new();
        for (number, content) in contents.iter().enumerate() {
            tickets.push(ingest.add_file(&mut Trickle::new(content, 1 + number * 9000)).unwrap());
            results.extend(ingest.next_done(false).unwrap());
        }
        while let Some(done) = ingest.next_done(true).unwrap() {
            results.push(done);
        }
        ingest.publish(&[]).unwrap();
        assert_eq!(results.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), tickets);
        for ((_, file), content) in results.iter().zip(&contents) {
            assert_eq!(file.size, content.len() as u64);
            assert!(place.read(file, compression) == **content, "{} bytes", content.len());
            if chunking.is_none_or(|sizes| content.len() as u64 <= sizes.min) {
                whole(file);
            }
        }
        let progress = ingest.progress();
        assert_eq!(progress.files, contents.len() as u64);
        assert_eq!(progress.bytes_read, contents.iter().map(|content| content.len() as u64).sum::<u64>());
        drop(ingest);
        let objects = place.objects();
        assert_eq!(progress.objects_new, objects.len() as u64, "nothing else is left");
        assert_eq!(progress.bytes_stored, objects.iter().map(|path| path.metadata().unwrap().len()).sum::<u64>());
    }
}

#[test]
fn the_same_content_is_the_same_object_however_it_is_read() {
    let contents = contents();
    let store = |longest: usize, threads: usize| {
        let place = Place::new();
        let mut ingest = place.begin(IngestSettings { threads, ..settings(Some(SMALL)) });
        contents.iter().map(|content| ingest.store(&mut Trickle::new(content, longest)).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(store(1000, 1), store(1 << 30, 4));
}

#[test]
fn content_that_the_repository_has_is_not_written_again() {
    let place = Place::new();
    let content = [text(3 << 20), random(1 << 20, 1)].concat();
    let mut ingest = place.begin(settings(Some(SMALL)));
    let first = ingest.store(&mut &content[..]).unwrap();
    let again = ingest.store(&mut &content[..]).unwrap();
    assert_eq!(first, again);
    let progress = ingest.progress();
    assert_eq!(progress.objects_new, progress.objects_known);
    ingest.publish(&[]).unwrap();
    drop(ingest);

    let before = place.objects();
    let mut ingest = place.begin(settings(Some(SMALL)));
    assert_eq!(ingest.store(&mut &content[..]).unwrap(), first);
    assert_eq!(ingest.progress().objects_new, 0);
    assert_eq!(ingest.progress().bytes_stored, 0);
    ingest.publish(&[]).unwrap();
    drop(ingest);
    assert_eq!(place.objects(), before);
}

#[test]
fn an_object_of_another_length_was_cut_short_and_is_replaced() {
    let place = Place::new();
    let mut ingest = place.begin(settings(None));
    let hash = whole(&ingest.store(&mut &b"content"[..]).unwrap());
    ingest.publish(&[]).unwrap();
    drop(ingest);
    let path = place.directory.path().join(hash.object_path(ObjectKind::File));
    let whole_object = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole_object[..4]).unwrap();
    let mut ingest = place.begin(settings(None));
    ingest.store(&mut &b"content"[..]).unwrap();
    ingest.publish(&[]).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), whole_object);
}

#[test]
fn what_does_not_compress_is_stored_at_the_price_of_a_few_bytes() {
    let place = Place::new();
    let mut ingest = place.begin(settings(None));
    let random = random(4 << 20, 5);
    let text = text(4 << 20);
    let both = [&random[..], &text[..]].concat();
    let files = [&random, &text, &both].map(|content| whole(&ingest.store(&mut &content[..]).unwrap()));
    ingest.publish(&[]).unwrap();
    let sizes = files.map(|hash| place.stored_bytes(&hash, ObjectKind::File));
    assert!(sizes[0] < (4 << 20) * 1001 / 1000, "{sizes:?}");
    assert!(sizes[1] < (4 << 20) / 3, "{sizes:?}");
    assert!(sizes[2] < (sizes[0] + sizes[1]) * 1001 / 1000, "what follows is compressed again: {sizes:?}");
}

#[test]
fn without_compression_objects_are_the_content() {
    let place = Place::new();
    let mut ingest = place.begin(IngestSettings { compression: Compression::None, ..settings(Some(SMALL)) });
    let content = text(3000);
    let hash = whole(&ingest.store(&mut &content[..]).unwrap());
    assert_eq!(hash, Algorithm::Sha1.hash(&content));
    // Catalogs are compressed all the same.
    let catalog = ingest.add(ObjectKind::Catalog, &mut &content[..]).unwrap();
    ingest.publish(&[]).unwrap();
    assert!(place.stored_bytes(&catalog.hash, ObjectKind::Catalog) < 2000);
    assert_eq!(place.stored_bytes(&hash, ObjectKind::File), 3000);
}

/// Zeros with islands of data.
struct Islands {
    at: u64,
    length: u64,
    every: u64,
}

impl Read for Islands {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = (buffer.len() as u64).min(self.length - self.at) as usize;
        buffer[..count].fill(0);
        let next = self.at.next_multiple_of(self.every);
        if next < self.at + count as u64 {
            buffer[(next - self.at) as usize] = 1 + (next / self.every % 255) as u8;
        }
        self.at += count as u64;
        Ok(count)
    }
}

/// Runs an ignored test of this file in a process of its own, whose memory is then only that of this test.
fn run_alone(test: &str) {
    let name = format!("cvmfs::ingest::tests::engine::{test}");
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", &name, "--ignored", "--nocapture"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// The most memory that this process ever had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn holes_of_a_sparse_file_are_one_object_and_take_no_memory() {
    run_alone("child_with_a_sparse_file");
}

#[test]
#[ignore = "runs as a child of holes_of_a_sparse_file_are_one_object_and_take_no_memory"]
fn child_with_a_sparse_file() {
    // Debug builds fill and compare memory slowly.
    let length: u64 = if cfg!(debug_assertions) { 10 << 30 } else { 100 << 30 };
    let place = Place::new();
    let mut ingest = place.begin(settings(Some(ChunkSizes::default())));
    let file = ingest.store(&mut Islands { at: 0, length, every: length / 4 + 12345 }).unwrap();
    assert_eq!(file.size, length);
    let Content::Chunks(chunks) = &file.content else { panic!("it was not cut") };
    assert_eq!(chunks.iter().map(|chunk| chunk.size).sum::<u64>(), length);
    let progress = ingest.progress();
    // The hole, the chunks in which islands lie, and the end.
    assert!(progress.objects_new <= 10, "{progress:?}");
    assert!(progress.bytes_stored < 1 << 20, "{progress:?}");
    assert!(peak_memory() < 64 << 20, "{} bytes", peak_memory());
}

#[test]
fn memory_is_bounded_whatever_comes() {
    run_alone("child_that_is_given_more_than_it_can_take");
}

#[test]
#[ignore = "runs as a child of memory_is_bounded_whatever_comes"]
fn child_that_is_given_more_than_it_can_take() {
    // It is read much faster than it can be compressed.
    let files = if cfg!(debug_assertions) { 100 } else { 1000 };
    let block = text(3 * BLOCK);
    for chunking in [Some(ChunkSizes::default()), None] {
        let place = Place::new();
        let mut ingest = place.begin(IngestSettings { threads: 32, ..settings(chunking) });
        for number in 0..files {
            let name = format!("content {number}");
            ingest.add_file(&mut name.as_bytes().chain(&block[..])).unwrap();
        }
        ingest.add_file(&mut std::io::repeat(1).take(files << 20)).unwrap();
        while ingest.next_done(true).unwrap().is_some() {}
        assert_eq!(ingest.progress().files, files + 1);
    }
    assert!(peak_memory() < 200 << 20, "{} bytes", peak_memory());
}
