//! The bytes of an archive: found to be compressed or not, unpacked, and counted against the limits.

use std::cell::Cell;
use std::io::{BufReader, Cursor, ErrorKind, Read};
use std::rc::Rc;

use super::ArchiveLimits;
use super::error::{ArchiveError, Place};

/// The size of tar's blocks.
pub(super) const BLOCK: u64 = 512;

/// Window of zstd as its own command line accepts it (128 MiB); a larger one has to be asked for there too.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Four times what `xz -9` needs to unpack.
const XZ_MEMORY: u64 = 260 << 20;

/// The unpacked bytes of an archive, in order.
pub(super) struct Stream<'a> {
    unpacker: BufReader<Box<dyn Read + 'a>>,
    format: &'static str,
    input: Rc<Input>,
    limits: ArchiveLimits,
    unpacked: u64,
    place: Place,
}

/// What is known of the packed bytes; shared, since the decoder owns their reader.
#[derive(Default)]
struct Input {
    read: Cell<u64>,
    failed: Cell<bool>,
}

/// Counts the packed bytes and remembers failures, to tell them from those of the decoder.
struct Source<R> {
    inner: R,
    input: Rc<Input>,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.inner.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.input.failed.set(true);
                    return Err(error);
                }
                Ok(n) => {
                    self.input.read.set(self.input.read.get() + n as u64);
                    return Ok(n);
                }
            }
        }
    }
}

impl<'a> Stream<'a> {
    /// Looks at the first bytes; names tell nothing.
    pub(super) fn open(source: impl Read + 'a, limits: ArchiveLimits) -> Result<Self, ArchiveError> {
        let place = Place { entry: None, within: false };
        let input = Rc::new(Input::default());
        let mut source = Source { inner: source, input: Rc::clone(&input) };
        let mut magic = Vec::new();
        let failed = |source| ArchiveError::Source { place: place.clone(), source };
        source.by_ref().take(8).read_to_end(&mut magic).map_err(failed)?;
        let (format, other) = recognise(&magic);
        if let Some(found) = other {
            return Err(ArchiveError::NotTar { found });
        }
        let packed = BufReader::with_capacity(128 << 10, Cursor::new(magic).chain(source));
        let damaged = |source| ArchiveError::Compression { format, place: place.clone(), source };
        let unpacker: Box<dyn Read + 'a> = match format {
            "gzip" => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
            "zstd" => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(damaged)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(damaged)?;
                Box::new(decoder)
            }
            "xz" => {
                let decoder = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)
                    .map_err(|error| damaged(error.into()))?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(packed, decoder))
            }
            _ => Box::new(packed),
        };
        let unpacker = BufReader::with_capacity(64 << 10, unpacker);
        Ok(Self { unpacker, format, input, limits, unpacked: 0, place })
    }

    /// Sets what errors name from now on.
    pub(super) fn set_place(&mut self, entry: &str, within: bool) {
        self.place = Place { entry: Some(entry.to_owned()), within };
    }

    /// Marks the end of the content of the entry begun last.
    pub(super) fn leave_entry(&mut self) {
        self.place.within = false;
    }

    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    /// Counts bytes that come out of the archive, whether they are stored in it or are holes.
    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), ArchiveError> {
        self.unpacked = self.unpacked.saturating_add(bytes);
        if self.unpacked > self.limits.total_bytes {
            return Err(self.limit("bytes unpacked", self.limits.total_bytes));
        }
        let fair = self.input.read.get().saturating_mul(self.limits.ratio);
        if self.unpacked > self.limits.ratio_exempt_bytes && self.unpacked > fair {
            return Err(self.limit("times its packed size", self.limits.ratio));
        }
        Ok(())
    }

    /// The error for a limit that is exceeded here.
    pub(super) fn limit(&self, what: &'static str, limit: u64) -> ArchiveError {
        ArchiveError::Limit { what, limit, place: self.place() }
    }

    /// Reads some bytes; 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let n = loop {
            match self.unpacker.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(source) if self.input.failed.get() || self.format == "plain" => {
                    return Err(ArchiveError::Source { place: self.place(), source });
                }
                Err(source) => {
                    return Err(ArchiveError::Compression { format: self.format, place: self.place(), source });
                }
                Ok(n) => break n,
            }
        };
        self.spend(n as u64)?;
        Ok(n)
    }

    /// Reads until the buffer is full or the stream ends; returns how much there was.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        Ok(filled)
    }

    /// Reads one block in full.
    pub(super) fn block(&mut self) -> Result<[u8; BLOCK as usize], ArchiveError> {
        let mut block = [0; BLOCK as usize];
        match self.fill(&mut block)? {
            n if n == block.len() => Ok(block),
            _ => Err(ArchiveError::Truncated { place: self.place() }),
        }
    }

    /// Reads `size` bytes and the padding after them into memory. The caller has bounded `size`.
    pub(super) fn blocks(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::new();
        for _ in 0..size.div_ceil(BLOCK) {
            bytes.extend_from_slice(&self.block()?);
        }
        bytes.truncate(size as usize);
        Ok(bytes)
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, mut bytes: u64) -> Result<(), ArchiveError> {
        let mut buffer = [0; 16 << 10];
        while bytes > 0 {
            let want = bytes.min(buffer.len() as u64) as usize;
            match self.read(&mut buffer[..want])? {
                0 => return Err(ArchiveError::Truncated { place: self.place() }),
                n => bytes -= n as u64,
            }
        }
        Ok(())
    }

    /// Reads what follows the end mark: padding, and for the decoders the checksum of it all.
    pub(super) fn finish(&mut self) -> Result<(), ArchiveError> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.read(&mut buffer)? {
                0 => return Ok(()),
                n if buffer[..n].iter().all(|b| *b == 0) => {}
                _ => return Err(ArchiveError::TrailingData { place: self.place() }),
            }
        }
    }
}

/// The compression by its magic number, or what this is instead of an archive.
fn recognise(magic: &[u8]) -> (&'static str, Option<&'static str>) {
    let format = match magic {
        [0x1f, 0x8b, ..] => "gzip",
        // The second is a skippable frame, with which parallel compressors begin.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => "zstd",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
        _ => "plain",
    };
    let other = match magic {
        [] => Some("it is empty"),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26] => Some("it is compressed with bzip2"),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => Some("it is a zip file"),
        [b'L', b'Z', b'I', b'P', 1, ..] => Some("it is compressed with lzip"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some("it is compressed with lz4"),
        [0x1f, 0x9d, ..] => Some("it is compressed with compress"),
        [0x5d, 0, 0, ..] => Some("it is compressed with lzma"),
        [b'7', b'z', 0xbc, 0xaf, ..] => Some("it is a 7z file"),
        [0xed, 0xab, 0xee, 0xdb, ..] => Some("it is an RPM package"),
        _ => None,
    };
    (format, other)
}
