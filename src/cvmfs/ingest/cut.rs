//! Where a large file is cut (`cvmfs/ingestion/chunk_detector.cc`, `Xor32Detector`).

use super::super::Error;

/// Bytes that the rolling checksum depends on: each shifts the earlier ones out by one bit.
const WINDOW: u64 = 32;

/// How long chunks are to be, in bytes of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSizes {
    /// No chunk but the last is shorter. A file that is not longer is never cut.
    pub min: u64,
    /// What random content gives on the average, beyond `min`.
    pub average: u64,
    /// No chunk is longer.
    pub max: u64,
}

impl Default for ChunkSizes {
    /// 4, 8 and 16 MiB, as CernVM-FS has it.
    fn default() -> Self {
        Self { min: 4 << 20, average: 8 << 20, max: 16 << 20 }
    }
}

impl ChunkSizes {
    /// Refuses sizes that the real tools refuse.
    pub(super) fn check(&self) -> Result<(), Error> {
        if WINDOW <= self.min && self.min < self.average && self.average < self.max {
            return Ok(());
        }
        let Self { min, average, max } = self;
        Err(Error::Unsupported(format!(
            "cutting files into chunks of {min} to {max} bytes, {average} on the average (32 ≤ min < average < max must hold)"
        )))
    }
}

/// Looks for the ends of chunks in a file's content, which it is given piece by piece.
#[derive(Debug, Clone)]
pub(super) struct Cutter {
    sizes: ChunkSizes,
    threshold: i32,
    /// Bytes of the present chunk that were seen.
    length: u64,
    checksum: u32,
}

impl Cutter {
    pub(super) fn new(sizes: ChunkSizes) -> Self {
        let threshold = u64::from(u32::MAX) / sizes.average;
        Self { sizes, threshold: i32::try_from(threshold).unwrap_or(i32::MAX), length: 0, checksum: 0 }
    }

    /// Takes in the bytes up to the end of the chunk and gives their number; `None`: took in all, the chunk goes on.
    ///
    /// A chunk that ends with the last of the bytes is the file's last one if no byte follows.
    pub(super) fn cut(&mut self, bytes: &[u8]) -> Option<usize> {
        let until = |length: u64| (length.saturating_sub(self.length)).min(bytes.len() as u64) as usize;
        // The checksum starts one window before the first place where a cut may be, and is first looked at behind it.
        let (start, check) = (until(self.sizes.min - WINDOW), until(self.sizes.min));
        let end = until(self.sizes.max);
        let mut checksum = bytes[start..check].iter().fold(self.checksum, |sum, byte| roll(sum, *byte));
        for (at, byte) in bytes[check..end].iter().enumerate() {
            checksum = roll(checksum, *byte);
            if self.is_mark(checksum) {
                // The byte that completes the mark is the first of the next chunk.
                return Some(self.restart(check + at));
            }
        }
        self.checksum = checksum;
        self.advance(end)
    }

    /// The same for a run of zeros, which needs not be there.
    pub(super) fn cut_zeros(&mut self, count: usize) -> Option<usize> {
        // Zeros shift the checksum to zero, which is half the range away from all marks, and keep it there.
        let mut head = 0;
        if self.checksum != 0 {
            head = count.min(WINDOW as usize);
            let cut = self.cut(&[0; WINDOW as usize][..head]);
            if cut.is_some() {
                return cut;
            }
        }
        let rest = (self.sizes.max - self.length).min((count - head) as u64) as usize;
        self.advance(rest).map(|end| head + end)
    }

    fn advance(&mut self, count: usize) -> Option<usize> {
        self.length += count as u64;
        (self.length == self.sizes.max).then(|| self.restart(count))
    }

    fn restart(&mut self, cut: usize) -> usize {
        (self.length, self.checksum) = (0, 0);
        cut
    }

    /// The real tools compute with overflow, so that a checksum of all ones is a mark too.
    fn is_mark(&self, checksum: u32) -> bool {
        checksum.cast_signed().wrapping_sub(i32::MAX).wrapping_abs() < self.threshold
    }
}

fn roll(checksum: u32, byte: u8) -> u32 {
    (checksum << 1) ^ u32::from(byte)
}
