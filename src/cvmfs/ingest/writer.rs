//! Makes objects: compresses, hashes and writes, one object after the other with the same memory.

use std::sync::Arc;

use flate2::Compression as Level;

use super::super::Error;
use super::super::catalog::Compression;
use super::super::hash::{Algorithm, ContentHash, ObjectKind};
use super::blocks::BLOCK;
use super::objects::Objects;
use super::sink::Sink;
use super::zlib::Zlib;

/// Writes one object at a time.
pub(super) struct Writer {
    /// None where objects are the content itself.
    zlib: Option<Box<Zlib>>,
    sink: Sink,
    zeros: Vec<u8>,
}

impl Writer {
    /// For objects of an algorithm, compressed at a level if at all.
    pub(super) fn new(objects: Arc<Objects>, algorithm: Algorithm, compression: Compression, level: Level) -> Self {
        let zlib = match compression {
            Compression::Zlib => Some(Box::new(Zlib::new(level))),
            Compression::None => None,
        };
        Self { zlib, sink: Sink::new(objects, algorithm), zeros: Vec::new() }
    }

    /// Starts an object; what is left of one that was not finished goes.
    pub(super) fn begin(&mut self) {
        if let Some(zlib) = &mut self.zlib {
            zlib.begin();
        }
        self.sink.begin();
    }

    /// Takes in the next block of content: [`BLOCK`] bytes, the last one may be shorter.
    pub(super) fn block(&mut self, block: &[u8], last: bool) -> Result<(), Error> {
        let taken = match &mut self.zlib {
            Some(zlib) => zlib.block(block, last, &mut self.sink),
            None => self.sink.put(block),
        };
        taken.map_err(self.sink.failed())
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
