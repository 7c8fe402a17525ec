//! Getting content into a repository: read, cut into chunks, compressed, hashed and stored, on all cores, in bounded memory.
//!
//! ```text
//!  caller's thread                       worker threads (one encoder each)            publish
//!  ┌──────────────────────────┐  jobs   ┌──────────────────────────────────┐   ┌───────────────────┐
//!  │ read → find cuts → blocks│ ──────► │ compress → hash → known? → write │   │ sync what was     │
//!  │                          │ ◄────── │                 data/txn/…/N     │   │ written, rename   │
//!  └──────────────────────────┘  done   └──────────────────────────────────┘   │ it, sync names    │
//!        ▲     blocks come from a budget and return to it       │              └───────────────────┘
//!        └──────────────────────────────────────────────────────┘
//! ```
//!
//! A job is one block full of small files, or one object whose blocks follow while it is being made. The content is divided
//! in the same way however it is read, so the same content always gives the same object.
//!
//! Reference: `cvmfs/ingestion/` of CernVM-FS.

mod blocks;
mod cut;
mod feed;
mod objects;
mod sink;
mod small;
mod workers;
mod writer;
mod zlib;

use std::collections::VecDeque;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};

use flate2::Compression as Level;

use super::Error;
use super::catalog::{Chunk, Compression, Content};
use super::hash::{Algorithm, ContentHash, ObjectKind};
use blocks::BLOCK;
use feed::{Feed, Part};
use objects::Objects;
use workers::Done;
use writer::Writer;

pub use cut::ChunkSizes;
pub(super) use objects::remove_leftovers;

/// The level for catalogs and histories, which each publish compresses whole: half the time, 7 % more bytes.
const DATABASES: Level = Level::new(1);

/// More threads would take more memory than there is to be.
const MAX_THREADS: usize = 32;

/// How content is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestSettings {
    /// What names objects.
    pub algorithm: Algorithm,
    /// How the content of files is compressed; catalogs and the like always are.
    pub compression: Compression,
    /// Where large files are cut; `None`: nowhere.
    pub chunking: Option<ChunkSizes>,
    /// Worker threads; 0: one for each core. Never more than 32.
    pub threads: usize,
    /// Reads an object that is there before relying on it. Ours get their names when their bytes are on stable storage;
    /// other tools may leave one of the right length without its content when the power fails.
    pub verify_known: bool,
}

impl Default for IngestSettings {
    fn default() -> Self {
        let (algorithm, compression) = (Algorithm::Sha1, Compression::Zlib);
        Self { algorithm, compression, chunking: Some(ChunkSizes::default()), threads: 0, verify_known: false }
    }
}

impl IngestSettings {
    fn thread_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = if self.threads == 0 { cores() } else { self.threads };
        threads.min(MAX_THREADS)
    }
}

/// A file that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Its objects.
    pub content: Content,
    /// Its bytes.
    pub size: u64,
}

/// Stands for a file until it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// A single object that is staged or was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staged {
    /// Its name.
    pub hash: ContentHash,
    /// Bytes of content.
    pub size: u64,
}

/// Why content was not stored.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// It could not be read.
    #[error("cannot read the content")]
    Content(#[source] io::Error),
    /// It could not be written.
    #[error(transparent)]
    Store(#[from] Error),
}

/// What was done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Files whose content was read.
    pub files: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Bytes of the new objects, as they are stored.
    pub bytes_stored: u64,
    /// Objects that the repository had not.
    pub objects_new: u64,
    /// Objects that it had, or that this revision has more than once.
    pub objects_known: u64,
}

/// The objects of a revision in the making. Dropping it ends its threads and removes what was not published.
pub struct Ingest {
    // Fields are dropped in this order: the threads end before their directory goes.
    feed: Feed,
    done: Receiver<Done>,
    files: VecDeque<File>,
    next: u64,
    progress: Progress,
    /// An object that some file needs could not be written.
    is_incomplete: bool,
    algorithm: Algorithm,
    databases: Writer,
    others: Writer,
    objects: Arc<Objects>,
}

/// A file whose ticket was given out.
struct File {
    ticket: u64,
    parts: Vec<Part>,
    missing: usize,
    failed: Option<Error>,
}

impl Ingest {
    /// Starts. `base` is the repository's directory, whose lock the caller holds: what crashed processes left in
    /// `data/txn` is removed.
    pub fn begin(base: &Path, settings: IngestSettings) -> Result<Self, Error> {
        if let Some(sizes) = &settings.chunking {
            sizes.check()?;
        }
        let objects = Arc::new(Objects::begin(base, settings.verify_known)?);
        let writer = |level| Writer::new(objects.clone(), settings.algorithm, Compression::Zlib, level);
        let algorithm = settings.algorithm;
        let (databases, others) = (writer(DATABASES), writer(workers::CONTENT));
        let (sender, done) = channel();
        let feed = Feed::start(settings, objects.clone(), sender)?;
        let (files, progress) = (VecDeque::new(), Progress::default());
        Ok(Self { feed, done, files, next: 0, progress, is_incomplete: false, algorithm, databases, others, objects })
    }

    /// The directory, for other temporary files. What objects are in it is no one's business.
    pub fn directory(&self) -> &Path {
        self.objects.directory()
    }

    /// Reads the content of a file to its end, on the caller's thread, and hands it to the worker threads. Waits only while
    /// too much is on its way.
    ///
    /// Results are taken by [`Ingest::next_done`]; who never takes any has them all in memory. An object that could not be
    /// written for an earlier file is the error of the next call, and then nothing is published. After an error of the
    /// content itself all can go on; chunks of it that were stored already are published with the rest.
    pub fn add_file(&mut self, content: &mut dyn Read) -> Result<Ticket, StageError> {
        self.collect();
        if let Some(error) = self.files.iter_mut().find_map(|file| file.failed.take()) {
            self.is_incomplete = true;
            return Err(error.into());
        }
        let ticket = self.next;
        self.next += 1;
        let parts = self.feed.file(ticket, content)?;
        let size = parts.last().map_or(0, |last| last.offset + last.size);
        self.progress.files += 1;
        self.progress.bytes_read += size;
        let missing = parts.iter().filter(|part| part.hash.is_none()).count();
        self.files.push_back(File { ticket, parts, missing, failed: None });
        Ok(Ticket(ticket))
    }

    /// The result for the oldest ticket that was not taken yet; `None` if there is none, or if it is not ready and the
    /// caller does not want to wait.
    ///
    /// After an error, which takes the ticket too, nothing is published.
    pub fn next_done(&mut self, wait: bool) -> Result<Option<(Ticket, StoredFile)>, Error> {
        self.collect();
        if wait {
            self.wait(|files| files.front().is_none_or(File::is_done));
        }
        if !self.files.front().is_some_and(File::is_done) {
            return Ok(None);
        }
        let Some(file) = self.files.pop_front() else { return Ok(None) };
        let ticket = Ticket(file.ticket);
        let stored = file.stored().inspect_err(|_| self.is_incomplete = true)?;
        Ok(Some((ticket, stored)))
    }

    /// Stores the content of one file and waits for it. An error concerns this content alone.
    pub fn store(&mut self, content: &mut dyn Read) -> Result<StoredFile, StageError> {
        self.add_file(content)?;
        self.wait(|files| files.back().is_none_or(File::is_done));
        let lost = || Error::Missing("the file that was stored last".into());
        Ok(self.files.pop_back().ok_or_else(lost)?.stored()?)
    }

    /// Stores an object that is no file's content, such as a catalog: compressed, and at once.
    pub fn add(&mut self, kind: ObjectKind, content: &mut dyn Read) -> Result<Staged, StageError> {
        let writer = match kind {
            ObjectKind::Catalog | ObjectKind::History => &mut self.databases,
            _ => &mut self.others,
        };
        writer.begin();
        let mut size = 0;
        let mut block = Vec::with_capacity(BLOCK);
        loop {
            block.clear();
            let count = Read::take(&mut *content, BLOCK as u64).read_to_end(&mut block).map_err(StageError::Content)?;
            size += count as u64;
            writer.block(&block, count < BLOCK)?;
            if count < BLOCK {
                let hash = writer.finish(kind)?;
                return Ok(Staged { hash, size });
            }
        }
    }

    /// The file of a staged object; `None` for one that the repository has or that is not ready.
    pub fn staged(&self, hash: &ContentHash, kind: ObjectKind) -> Option<PathBuf> {
        self.objects.staged(*hash, kind)
    }

    /// Waits for all content, makes all staged objects durable and gives them their names, which are durable too when this
    /// returns. So are the objects that were there already, the files `also`, and the base's own entries.
    pub fn publish(&mut self, also: &[&Path]) -> Result<(), Error> {
        self.wait(|files| files.iter().all(File::is_done));
        if let Some(error) = self.files.iter_mut().find_map(|file| file.failed.take()) {
            self.is_incomplete = true;
            return Err(error);
        }
        if self.is_incomplete {
            return Err(Error::Missing("an object that could not be written (begin the revision anew)".into()));
        }
        self.objects.publish(also)
    }

    /// What was done so far; objects are counted when they are stored.
    pub fn progress(&self) -> Progress {
        let counters = &self.objects.counters;
        Progress {
            bytes_stored: counters.bytes_stored.load(Ordering::Relaxed),
            objects_new: counters.objects_new.load(Ordering::Relaxed),
            objects_known: counters.objects_known.load(Ordering::Relaxed),
            ..self.progress
        }
    }

    /// Makes a worker panic.
    #[cfg(test)]
    fn crash_worker(&mut self) {
        let ticket = self.next;
        self.next += 1;
        self.feed.crash_worker(ticket);
        let parts = vec![Part { offset: 0, size: 0, hash: None }];
        self.files.push_back(File { ticket, parts, missing: 1, failed: None });
    }

    /// Takes in results until the files are as they should be.
    fn wait(&mut self, are_ready: impl Fn(&VecDeque<File>) -> bool) {
        self.feed.flush();
        while !are_ready(&self.files) {
            // Each part is reported, even if its thread panics.
            match self.done.recv() {
                Ok(done) => self.take(done),
                Err(_) => return,
            }
        }
    }

    fn collect(&mut self) {
        while let Ok(done) = self.done.try_recv() {
            self.take(done);
        }
    }

    fn take(&mut self, done: Done) {
        let at = self.files.partition_point(|file| file.ticket < done.ticket);
        // Content that was given up half-way has no ticket.
        let Some(file) = self.files.get_mut(at).filter(|file| file.ticket == done.ticket) else { return };
        file.missing -= 1;
        match done.result {
            Ok(hash) => {
                if let Some(part) = file.parts.get_mut(done.part) {
                    part.hash = Some(hash);
                }
            }
            Err(error) => {
                file.failed.get_or_insert(error);
            }
        }
    }
}

impl File {
    fn is_done(&self) -> bool {
        self.missing == 0
    }

    fn stored(self) -> Result<StoredFile, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let size = self.parts.last().map_or(0, |last| last.offset + last.size);
        let chunk = |part: &Part| {
            let hash = part.hash.ok_or_else(|| Error::Missing("the object of a stored file".into()))?;
            Ok(Chunk { offset: part.offset, size: part.size, hash })
        };
        let mut chunks = self.parts.iter().map(chunk).collect::<Result<Vec<_>, Error>>()?;
        let content = match chunks.len() {
            1 => Content::Whole(chunks.remove(0).hash),
            _ => Content::Chunks(chunks),
        };
        Ok(StoredFile { content, size })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
