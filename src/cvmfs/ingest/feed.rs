//! Reading content: dividing it into files, chunks and blocks, and handing these to the workers.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use super::super::Error;
use super::super::hash::{ContentHash, ObjectKind};
use super::blocks::{Block, Budget};
use super::cut::Cutter;
use super::objects::Objects;
use super::workers::{Batch, CONTENT, Done, Job, Piece, Report, Workers};
use super::writer::Writer;
use super::{IngestSettings, StageError};

/// Files that share a block at most.
const BATCH: usize = 256;

/// A part of a file: an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) offset: u64,
    pub(super) size: u64,
    /// Where it is known already.
    pub(super) hash: Option<ContentHash>,
}

/// Fills blocks from contents.
pub(super) struct Feed {
    settings: IngestSettings,
    objects: Arc<Objects>,
    workers: Workers,
    done: Sender<Done>,
    budget: Arc<Budget>,
    /// Small files that wait for company.
    batch: Option<Batch>,
    /// The longest chunk, of zeros only: what the holes of sparse files consist of.
    zero_chunk: Option<ContentHash>,
}

impl Feed {
    pub(super) fn start(settings: IngestSettings, objects: Arc<Objects>, done: Sender<Done>) -> Result<Self, Error> {
        let workers = Workers::start(&objects, &settings)?;
        Ok(Self { settings, objects, workers, done, budget: Arc::default(), batch: None, zero_chunk: None })
    }

    /// Reads a content to its end; gives its parts.
    pub(super) fn file(&mut self, ticket: u64, content: &mut dyn Read) -> Result<Vec<Part>, StageError> {
        let batch = self.batch.take();
        let Batch { mut block, mut files } =
            batch.unwrap_or_else(|| Batch { block: self.budget.block(), files: Vec::new() });
        let mut start = block.len();
        let mut filled = fill(&mut block, content);
        if matches!(filled, Ok(false)) && start > 0 {
            // It is longer than the room was: it gets a block to itself.
            let rest = block.split_off(start);
            let before = std::mem::replace(&mut block, rest);
            self.send(Batch { block: before, files: std::mem::take(&mut files) });
            start = 0;
            filled = fill(&mut block, content);
        }
        match filled {
            Ok(true) => {
                let size = (block.len() - start) as u64;
                files.push((Report::new(ticket, 0, self.done.clone()), start..block.len()));
                if block.is_full() || files.len() == BATCH {
                    self.send(Batch { block, files });
                } else {
                    self.batch = Some(Batch { block, files });
                }
                Ok(vec![Part { offset: 0, size, hash: None }])
            }
            Ok(false) => self.stream(ticket, block, content),
            Err(error) => {
                block.truncate(start);
                self.batch = Some(Batch { block, files });
                Err(StageError::Content(error))
            }
        }
    }

    /// Hands out the files that wait for company.
    pub(super) fn flush(&mut self) {
        if let Some(batch) = self.batch.take() {
            self.send(batch);
        }
    }

    fn send(&self, batch: Batch) {
        if !batch.files.is_empty() {
            self.workers.send(Job::Batch(batch));
        }
    }

    #[cfg(test)]
    pub(super) fn crash_worker(&self, ticket: u64) {
        self.workers.send(Job::Panic(Report::new(ticket, 0, self.done.clone())));
    }

    /// Goes on with a content that one block does not hold.
    fn stream(&mut self, ticket: u64, mut block: Block, content: &mut dyn Read) -> Result<Vec<Part>, StageError> {
        let mut cutter = self.settings.chunking.map(Cutter::new);
        let mut object = Object { ticket, number: 0, offset: 0, size: 0, zeros: 0, pieces: None };
        let mut parts = Vec::new();
        let mut ended = false;
        // A chunk that ends with the last byte read is the file's last if no other byte comes.
        let mut cut_before = false;
        loop {
            if cut_before && block.len() > 0 {
                parts.push(object.end(self, ObjectKind::Chunk)?);
            }
            let is_zero = block.is_zero();
            let cut = cutter.as_mut().and_then(|cutter| match is_zero {
                true => cutter.cut_zeros(block.len()),
                false => cutter.cut(block.bytes()),
            });
            cut_before = cut == Some(block.len());
            match cut.filter(|end| *end < block.len()) {
                Some(end) => {
                    let rest = block.split_off(end);
                    object.push(self, block, is_zero);
                    parts.push(object.end(self, ObjectKind::Chunk)?);
                    block = rest;
                }
                None => {
                    let unused = object.push(self, block, is_zero);
                    if ended {
                        break;
                    }
                    block = unused.unwrap_or_else(|| self.budget.block());
                }
            }
            ended = ended || fill(&mut block, content).map_err(StageError::Content)?;
        }
        let kind = if parts.is_empty() { ObjectKind::File } else { ObjectKind::Chunk };
        parts.push(object.end(self, kind)?);
        Ok(parts)
    }

    /// Stores the longest chunk, of zeros only, when it is met for the first time.
    fn zero_chunk(&mut self, size: u64) -> Result<ContentHash, Error> {
        if let Some(hash) = self.zero_chunk {
            return Ok(hash);
        }
        let IngestSettings { algorithm, compression, .. } = self.settings;
        let mut writer = Writer::new(self.objects.clone(), algorithm, compression, CONTENT);
        writer.begin();
        writer.zeros(size)?;
        writer.block(&[], true)?;
        Ok(*self.zero_chunk.insert(writer.finish(ObjectKind::Chunk)?))
    }
}

/// Reads until a block is full or the content ends; tells whether it ended.
fn fill(block: &mut Block, content: &mut dyn Read) -> io::Result<bool> {
    while !block.is_full() {
        match content.read(block.room()) {
            Ok(0) => return Ok(true),
            Ok(count) => block.grow(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// The object that the content being read belongs to.
struct Object {
    ticket: u64,
    /// Which part of the file it is.
    number: usize,
    offset: u64,
    size: u64,
    /// How many of its last bytes are zeros that were not sent yet.
    zeros: u64,
    /// Its way to a worker; none while it is all zeros.
    pieces: Option<Sender<Piece>>,
}

impl Object {
    /// Appends a block; gives it back if it was not used.
    fn push(&mut self, feed: &Feed, mut block: Block, is_zero: bool) -> Option<Block> {
        self.size += block.len() as u64;
        if is_zero {
            self.zeros += block.len() as u64;
            block.clear();
            return Some(block);
        }
        self.send(feed, Piece::Block(block));
        None
    }

    fn send(&mut self, feed: &Feed, piece: Piece) {
        let pieces = self.pieces.get_or_insert_with(|| {
            let (sender, receiver) = channel();
            feed.workers.send(Job::Stream(Report::new(self.ticket, self.number, feed.done.clone()), receiver));
            sender
        });
        // A worker that failed has hung up, and reported why.
        if self.zeros > 0 {
            let _ = pieces.send(Piece::Zeros(std::mem::take(&mut self.zeros)));
        }
        let _ = pieces.send(piece);
    }

    /// Ends it and starts the next.
    fn end(&mut self, feed: &mut Feed, kind: ObjectKind) -> Result<Part, Error> {
        let longest = feed.settings.chunking.map(|sizes| sizes.max);
        let is_zero_chunk = self.pieces.is_none() && kind == ObjectKind::Chunk && longest == Some(self.size);
        let hash = if is_zero_chunk {
            Some(feed.zero_chunk(self.size)?)
        } else {
            self.send(feed, Piece::End(kind));
            None
        };
        let part = Part { offset: self.offset, size: self.size, hash };
        let (number, offset) = (self.number + 1, self.offset + self.size);
        *self = Self { ticket: self.ticket, number, offset, size: 0, zeros: 0, pieces: None };
        Ok(part)
    }
}
