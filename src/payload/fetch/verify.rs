//! Verifying what is on disk already.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::super::hash::Hasher;
use super::{Content, FetchError};
use crate::domain::digest::Checksum;

/// Reads a local file to its end and compares it with its checksum. Blocks.
pub fn verify(file: &Path, expected: &Checksum) -> Result<Content, FetchError> {
    let failed = |source| FetchError::on_file("read", file, source);
    let mut reader = File::open(file).map_err(failed)?;
    let mut hasher = Hasher::new(Some(*expected));
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

    #[test]
    fn a_local_file_is_verified() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("payload");
        std::fs::write(&file, b"abc").unwrap();
        let good = "sha1:a9993e364706816aba3e25717850c26c9cd0d89d".parse().unwrap();
        assert_eq!(verify(&file, &good).unwrap().size, 3);
        std::fs::write(&file, b"abd").unwrap();
        assert!(matches!(verify(&file, &good), Err(FetchError::Checksum { .. })));
        assert!(file.exists(), "a file that is not ours to remove stays");
        assert!(matches!(verify(dir.path(), &good), Err(FetchError::Io { .. })));
        assert!(matches!(verify(&dir.path().join("absent"), &good), Err(FetchError::Io { .. })));
    }
}
