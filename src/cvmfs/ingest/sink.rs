//! Where the stored bytes of an object go.

use std::io::{self, Write};
use std::sync::Arc;

use super::super::Error;
use super::super::hash::{Algorithm, ContentHash, Hasher, ObjectKind};
use super::objects::{NewFile, Objects};

/// Stored bytes that are kept in memory before the object gets a file: most of the small ones exist already.
const BUFFER: usize = 512 << 10;

/// Takes in the stored bytes of an object: hashes them, keeps the first in memory and, if there are more, all in a file.
pub(super) struct Sink {
    objects: Arc<Objects>,
    algorithm: Algorithm,
    hasher: Hasher,
    buffer: Vec<u8>,
    stored: u64,
    file: Option<NewFile>,
}

impl Sink {
    pub(super) fn new(objects: Arc<Objects>, algorithm: Algorithm) -> Self {
        let (hasher, buffer) = (algorithm.hasher(), Vec::with_capacity(BUFFER));
        Self { objects, algorithm, hasher, buffer, stored: 0, file: None }
    }

    /// Starts an object; what is left of one that was not finished goes.
    pub(super) fn begin(&mut self) {
        self.hasher = self.algorithm.hasher();
        self.buffer.clear();
        self.stored = 0;
        self.file = None;
    }

    /// Appends bytes, fewer than the buffer has.
    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > self.buffer.capacity() {
            self.spill()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The buffer, with room behind what it holds.
    pub(super) fn room(&mut self) -> io::Result<&mut Vec<u8>> {
        if self.buffer.len() == self.buffer.capacity() {
            self.spill()?;
        }
        Ok(&mut self.buffer)
    }

    /// Completes the object and keeps it, unless the repository has it.
    pub(super) fn finish(&mut self, kind: ObjectKind) -> Result<ContentHash, Error> {
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

    fn spill(&mut self) -> io::Result<()> {
        self.hash_buffer();
        self.write_buffer()?;
        self.buffer.clear();
        Ok(())
    }

    pub(super) fn failed(&self) -> impl FnOnce(io::Error) -> Error + use<> {
        self.objects.failed()
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
