//! Makes objects: compresses, hashes and writes, one object after the other with the same memory.

use std::io::{self, Write};
use std::sync::Arc;

use flate2::{Compress, Compression as Level, FlushCompress, Status};

use super::super::Error;
use super::super::catalog::Compression;
use super::super::hash::{Algorithm, ContentHash, Hasher, ObjectKind};
use super::blocks::BLOCK;
use super::objects::{NewFile, Objects};

/// Stored bytes that are kept in memory before the object gets a file: most of the small ones exist already.
const BUFFER: usize = 512 << 10;

/// Where a block is tried for whether it compresses, and for how many bytes.
const SAMPLES: usize = 3;
const SAMPLE: usize = 4 << 10;

/// Blocks below are compressed without a trial, which would cost as much.
const TRIAL_FROM: usize = 32 << 10;

/// What the samples must come to, in percent of their size, for a block to be stored as it is.
const INCOMPRESSIBLE: u64 = 97;

/// Writes one object at a time.
pub(super) struct Writer {
    encoder: Encoder,
    sink: Sink,
    zeros: Vec<u8>,
}

impl Writer {
    /// For objects of an algorithm, compressed at a level if at all.
    pub(super) fn new(
        objects: Arc<Objects>,
        algorithm: Algorithm,
        compression: Compression,
        level: Level,
    ) -> Result<Self, Error> {
        let encoder = match compression {
            Compression::Zlib => Encoder::Zlib(Box::new(Deflate::new(level))),
            Compression::None => Encoder::Plain,
        };
        let (hasher, buffer) = (algorithm.hasher(), Vec::with_capacity(BUFFER));
        let sink = Sink { objects, algorithm, hasher, buffer, stored: 0, file: None };
        Ok(Self { encoder, sink, zeros: Vec::new() })
    }

    /// Starts an object; what is left of one that was not finished goes.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        self.encoder.begin();
        self.sink.begin()
    }

    /// Takes in the next block of content: [`BLOCK`] bytes, the last one may be shorter.
    pub(super) fn block(&mut self, block: &[u8], last: bool) -> Result<(), Error> {
        self.encoder.block(block, last, &mut self.sink).map_err(self.sink.objects.failed())
    }

    /// Takes in blocks of zeros.
    pub(super) fn zeros(&mut self, mut count: u64) -> Result<(), Error> {
        self.zeros.resize(BLOCK, 0);
        let zeros = std::mem::take(&mut self.zeros);
        let mut taken = Ok(());
        while count > 0 && taken.is_ok() {
            let block = count.min(BLOCK as u64);
            taken = self.block(&zeros[..block as usize], false);
            count -= block;
        }
        self.zeros = zeros;
        taken
    }

    /// Ends the object and keeps it, unless the repository has it.
    pub(super) fn finish(&mut self, kind: ObjectKind) -> Result<ContentHash, Error> {
        self.sink.finish(kind)
    }
}

/// Takes in the stored bytes of an object: hashes them, keeps the first in memory and, if there are more, all in a file.
struct Sink {
    objects: Arc<Objects>,
    algorithm: Algorithm,
    hasher: Hasher,
    buffer: Vec<u8>,
    stored: u64,
    file: Option<NewFile>,
}

impl Sink {
    fn begin(&mut self) -> Result<(), Error> {
        self.hasher = self.algorithm.hasher();
        self.buffer.clear();
        self.stored = 0;
        self.file = None;
        Ok(())
    }

    fn finish(&mut self, kind: ObjectKind) -> Result<ContentHash, Error> {
        self.hash_buffer();
        let hash = std::mem::replace(&mut self.hasher, self.algorithm.hasher()).finish();
        if self.objects.has(hash, kind, self.stored) {
            self.file = None;
            return Ok(hash);
        }
        self.write_buffer().map_err(self.objects.failed())?;
        if let Some(file) = self.file.take() {
            self.objects.keep(hash, kind, file, self.stored);
        }
        Ok(hash)
    }

    /// Makes room in the buffer.
    fn spill(&mut self) -> io::Result<()> {
        self.hash_buffer();
        self.write_buffer()?;
        self.buffer.clear();
        Ok(())
    }

    fn hash_buffer(&mut self) {
        self.hasher.update(&self.buffer);
        self.stored += self.buffer.len() as u64;
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(self.objects.create()?),
        };
        file.file.write_all(&self.buffer)
    }
}

enum Encoder {
    Plain,
    Zlib(Box<Deflate>),
}

impl Encoder {
    fn begin(&mut self) {
        if let Self::Zlib(deflate) = self {
            deflate.stream.reset();
            deflate.untouched = true;
        }
    }

    fn block(&mut self, block: &[u8], last: bool, sink: &mut Sink) -> io::Result<()> {
        match self {
            Self::Plain => {
                if sink.buffer.len() + block.len() > BUFFER {
                    sink.spill()?;
                }
                sink.buffer.extend_from_slice(block);
                Ok(())
            }
            Self::Zlib(deflate) => deflate.block(block, last, sink),
        }
    }
}

/// A zlib stream whose blocks are compressed, or stored where that would be in vain.
struct Deflate {
    stream: Compress,
    level: Level,
    present: Level,
    untouched: bool,
    trial: Compress,
    trial_output: Vec<u8>,
}

impl Deflate {
    fn new(level: Level) -> Self {
        Self {
            stream: Compress::new(level, true),
            level,
            present: level,
            untouched: true,
            trial: Compress::new(Level::new(2), true),
            trial_output: Vec::with_capacity(2 * SAMPLES * SAMPLE),
        }
    }

    fn block(&mut self, block: &[u8], last: bool, sink: &mut Sink) -> io::Result<()> {
        // The end of an object says nothing: going on as before saves the flush.
        if block.len() >= TRIAL_FROM || self.untouched {
            let level = if self.is_worth_it(block) { self.level } else { Level::none() };
            self.change(level, sink)?;
        }
        self.untouched = false;
        let flush = if last { FlushCompress::Finish } else { FlushCompress::None };
        self.run(block, flush, sink)
    }

    fn change(&mut self, level: Level, sink: &mut Sink) -> io::Result<()> {
        if level == self.present {
            return Ok(());
        }
        if !self.untouched {
            // The level can change only where nothing is waiting.
            self.run(&[], FlushCompress::Sync, sink)?;
        }
        self.present = level;
        self.stream.set_level(level).map_err(io::Error::from)
    }

    fn run(&mut self, mut input: &[u8], flush: FlushCompress, sink: &mut Sink) -> io::Result<()> {
        loop {
            if sink.buffer.len() == sink.buffer.capacity() {
                sink.spill()?;
            }
            let before = self.stream.total_in();
            let status = self.stream.compress_vec(input, &mut sink.buffer, flush)?;
            input = &input[(self.stream.total_in() - before) as usize..];
            // Room that is left tells that all is out.
            let is_out = sink.buffer.len() < sink.buffer.capacity();
            let done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => input.is_empty() && is_out,
            };
            if done {
                return Ok(());
            }
        }
    }

    /// Tries samples of a block.
    fn is_worth_it(&mut self, block: &[u8]) -> bool {
        if block.len() < TRIAL_FROM {
            return true;
        }
        self.trial.reset();
        self.trial_output.clear();
        for sample in 0..SAMPLES {
            let at = (block.len() - SAMPLE) * sample / (SAMPLES - 1);
            let flush = if sample + 1 == SAMPLES { FlushCompress::Finish } else { FlushCompress::None };
            // What does not fit into twice the room does not compress.
            if self.trial.compress_vec(&block[at..at + SAMPLE], &mut self.trial_output, flush).is_err() {
                return true;
            }
        }
        (self.trial_output.len() * 100) < (SAMPLES * SAMPLE) * INCOMPRESSIBLE as usize
    }
}

const _: () = assert!(BUFFER > BLOCK && TRIAL_FROM > SAMPLES * SAMPLE);
