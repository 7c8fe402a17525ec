//! Places to ingest into, and contents.

use std::io::Read;
use std::path::PathBuf;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::cvmfs::catalog::Compression;
use crate::cvmfs::fetch::LocalDir;
use crate::cvmfs::hash::{ContentHash, ObjectKind};
use crate::cvmfs::ingest::{ChunkSizes, Content, Ingest, IngestSettings, StoredFile};
use crate::cvmfs::object;

/// Small enough for every rule to matter within a few blocks.
pub(super) const SMALL: ChunkSizes = ChunkSizes { min: 100 << 10, average: 200 << 10, max: 600 << 10 };

/// A repository's directory with nothing in it.
pub(super) struct Place {
    pub(super) directory: TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("data/txn")).unwrap();
        Self { directory }
    }

    pub(super) fn begin(&self, settings: IngestSettings) -> Ingest {
        Ingest::begin(self.directory.path(), settings).unwrap()
    }

    /// What a client reads of a published file; checks the hashes.
    pub(super) fn read(&self, file: &StoredFile, compression: Compression) -> Vec<u8> {
        let mut content = Vec::new();
        let mut read = |hash: &ContentHash, kind| {
            let fetch = LocalDir::new(self.directory.path());
            object::open(&fetch, hash, kind, compression).unwrap().read_to_end(&mut content).unwrap();
            content.len() as u64
        };
        match &file.content {
            Content::Whole(hash) => assert_eq!(read(hash, ObjectKind::File), file.size),
            Content::Chunks(chunks) => {
                let mut end = 0;
                for chunk in chunks {
                    assert_eq!(chunk.offset, end);
                    end = read(&chunk.hash, ObjectKind::Chunk);
                    assert_eq!(chunk.offset + chunk.size, end);
                }
                assert_eq!(end, file.size);
            }
        }
        content
    }

    pub(super) fn stored_bytes(&self, hash: &ContentHash, kind: ObjectKind) -> u64 {
        std::fs::metadata(self.directory.path().join(hash.object_path(kind))).unwrap().len()
    }

    /// The objects that can be seen.
    pub(super) fn objects(&self) -> Vec<PathBuf> {
        walkdir::WalkDir::new(self.directory.path())
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_file())
            .map(walkdir::DirEntry::into_path)
            .collect()
    }
}

pub(super) fn random(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    ChaCha8Rng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes
}

/// Compresses well, and is different everywhere.
pub(super) fn text(length: usize) -> Vec<u8> {
    // Built from words, several at once: builds for debugging take long for each number that they format.
    let words = random(4096, 2).iter().flat_map(|byte| format!("{} of ", byte % 100).into_bytes()).collect::<Vec<_>>();
    let mut text = Vec::with_capacity(length + words.len() + 16);
    while text.len() < length {
        text.extend_from_slice(&text.len().to_le_bytes());
        text.extend_from_slice(&words);
    }
    text.truncate(length);
    text
}

/// Gives content in pieces of any length.
pub(super) struct Trickle<'a> {
    pub(super) content: &'a [u8],
    pub(super) random: ChaCha8Rng,
    pub(super) longest: usize,
}

impl<'a> Trickle<'a> {
    pub(super) fn new(content: &'a [u8], longest: usize) -> Self {
        Self { content, random: ChaCha8Rng::seed_from_u64(1), longest }
    }
}

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.random.random_range(1..=self.longest).min(buffer.len());
        self.content.read(&mut buffer[..count])
    }
}
