//! The content of one file, as the receiver reads it.

use std::io::Read;

use super::error::ArchiveError;
use super::sparse::Map;
use super::stream::{BLOCK, Stream};

/// A reader over the bytes of a file, holes filled with zeros. Never ends early: a cut-off archive is an error.
pub(super) struct Content<'s, 'a> {
    stream: &'s mut Stream<'a>,
    map: Map,
    /// The first segment that is not yet read to its end.
    segment: usize,
    position: u64,
    /// Bytes in the archive that are still to come, padding included.
    left: u64,
    failed: Option<ArchiveError>,
}

impl<'s, 'a> Content<'s, 'a> {
    pub(super) fn new(stream: &'s mut Stream<'a>, map: Map) -> Self {
        let left = map.stored.div_ceil(BLOCK).saturating_mul(BLOCK);
        Self { stream, map, segment: 0, position: 0, left, failed: None }
    }

    /// What went wrong while the receiver read. It saw an error too, but not this one.
    pub(super) fn failure(&mut self) -> Option<ArchiveError> {
        self.failed.take()
    }

    /// Passes over what the receiver did not read, and over the padding.
    pub(super) fn finish(self) -> Result<(), ArchiveError> {
        self.stream.skip(self.left)?;
        self.stream.leave_entry();
        Ok(())
    }

    fn read_on(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let next = self.map.segments.get(self.segment);
        let hole_ends = next.map_or(self.map.size, |segment| segment.offset);
        if self.position < hole_ends {
            let n = (hole_ends - self.position).min(buffer.len() as u64);
            buffer[..n as usize].fill(0);
            self.position += n;
            return Ok(n as usize);
        }
        let Some(segment) = next else { return Ok(0) };
        let end = segment.offset + segment.length;
        let want = (end - self.position).min(buffer.len() as u64) as usize;
        let n = self.stream.read(&mut buffer[..want])?;
        if n == 0 {
            return Err(ArchiveError::Truncated { place: self.stream.place() });
        }
        self.position += n as u64;
        self.left -= n as u64;
        if self.position == end {
            self.segment += 1;
        }
        Ok(n)
    }
}

impl Read for Content<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.failed.is_none() {
            match self.read_on(buffer) {
                Ok(n) => return Ok(n),
                Err(error) => self.failed = Some(error),
            }
        }
        Err(std::io::Error::other("the archive could not be read on"))
    }
}
