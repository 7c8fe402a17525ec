//! Measuring what is on disk already.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::super::hash::Hasher;
use super::{Content, FetchError};
use crate::domain::digest::Checksum;

/// Reads a local file to its end: its size and digest, compared with its checksum where there is one. Blocks.
pub fn measure(file: &Path, expected: Option<&Checksum>) -> Result<Content, FetchError> {
    let failed = |source| FetchError::on_file("read", file, source);
    let mut reader = File::open(file).map_err(failed)?;
    let mut hasher = Hasher::new(expected.copied());
    let mut buffer = vec![0; 128 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hasher.update(&buffer[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let hashed = hasher.finish();
    match hashed.mismatch {
        Some((expected, found)) => Err(FetchError::Checksum { what: file.display().to_string(), expected, found }),
        None => Ok(Content { size: hashed.size, sha256: hashed.sha256 }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::digest::Sha256Digest;

    #[test]
    fn a_local_file_is_measured_and_verified() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("payload");
        std::fs::write(&file, b"abc").unwrap();
        let good = "sha1:a9993e364706816aba3e25717850c26c9cd0d89d".parse().unwrap();
        assert_eq!(measure(&file, Some(&good)).unwrap().size, 3);
        assert_eq!(measure(&file, None).unwrap().sha256, Sha256Digest::of(b"abc"));
        std::fs::write(&file, b"abd").unwrap();
        assert!(matches!(measure(&file, Some(&good)), Err(FetchError::Checksum { .. })));
        assert!(file.exists(), "a file that is not ours to remove stays");
        assert!(matches!(measure(dir.path(), Some(&good)), Err(FetchError::Io { .. })));
        assert!(matches!(measure(&dir.path().join("absent"), None), Err(FetchError::Io { .. })));
    }
}
