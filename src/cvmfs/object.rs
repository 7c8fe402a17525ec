//! Reading objects: uncompressed on the fly, and verified against their name at the end.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use flate2::read::ZlibDecoder;

use super::Error;
use super::catalog::Compression;
use super::fetch::Fetch;
use super::hash::{ContentHash, Hasher, ObjectKind};

/// Gives an object's content. The last read fails if the stored bytes do not have the hash that names the object: what
/// was read before must not be used until then.
pub struct ObjectReader {
    source: Source,
    expected: ContentHash,
    verified: bool,
}

enum Source {
    Zlib(Box<ZlibDecoder<Hashing>>),
    Plain(Hashing),
}

struct Hashing {
    stored: Box<dyn Read + Send>,
    hasher: Hasher,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stored.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

impl ObjectReader {
    /// Reads stored bytes.
    pub fn new(stored: Box<dyn Read + Send>, expected: ContentHash, compression: Compression) -> Self {
        let stored = Hashing { stored, hasher: expected.algorithm().hasher() };
        let source = match compression {
            Compression::Zlib => Source::Zlib(Box::new(ZlibDecoder::new(stored))),
            Compression::None => Source::Plain(stored),
        };
        Self { source, expected, verified: false }
    }

    fn verify(&mut self) -> io::Result<()> {
        let stored = match &mut self.source {
            Source::Zlib(decoder) => decoder.get_mut(),
            Source::Plain(stored) => stored,
        };
        // Bytes behind the end of the zlib stream belong to the object's hash too.
        io::copy(stored, &mut io::sink())?;
        if stored.hasher.clone().finish() != self.expected {
            return Err(io::Error::new(io::ErrorKind::InvalidData, Error::Corrupt(self.expected.to_string())));
        }
        self.verified = true;
        Ok(())
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.source {
            Source::Zlib(decoder) => decoder.read(buffer)?,
            Source::Plain(stored) => stored.read(buffer)?,
        };
        if count == 0 && !buffer.is_empty() && !self.verified {
            self.verify()?;
        }
        Ok(count)
    }
}

/// Opens an object.
pub fn open(
    fetch: &dyn Fetch,
    hash: &ContentHash,
    kind: ObjectKind,
    compression: Compression,
) -> Result<ObjectReader, Error> {
    let path = hash.object_path(kind);
    let stored = fetch.fetch(&path).map_err(Error::io(format!("read object {path}")))?;
    let stored = stored.ok_or_else(|| Error::Missing(format!("object {path}")))?;
    Ok(ObjectReader::new(stored, *hash, compression))
}

/// Reads a small object whole, such as a certificate.
pub fn read_small(fetch: &dyn Fetch, hash: &ContentHash, kind: ObjectKind, limit: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    open(fetch, hash, kind, Compression::Zlib)?
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io(format!("read object {}", hash.object_path(kind))))?;
    if bytes.len() as u64 > limit {
        return Err(Error::malformed(format!("object {hash}"), format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// Writes an object's content to a file, replacing one that is there; gives its size.
pub fn unpack(fetch: &dyn Fetch, hash: &ContentHash, kind: ObjectKind, target: &Path) -> Result<u64, Error> {
    let mut reader = open(fetch, hash, kind, Compression::Zlib)?;
    let mut file = File::create(target).map_err(Error::io(format!("create {}", target.display())))?;
    copy(&mut reader, &mut file).map_err(Error::io(format!("unpack object {}", hash.object_path(kind))))
}

/// Copies in pieces large enough for catalogs and files.
pub(crate) fn copy(reader: &mut dyn Read, writer: &mut dyn Write) -> io::Result<u64> {
    let mut buffer = vec![0; 128 * 1024];
    let mut total = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => {
                writer.write_all(&buffer[..count])?;
                total += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
