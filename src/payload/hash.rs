//! Hashing while bytes pass by.

use sha2::Digest as _;

use crate::domain::digest::{Checksum, Sha256Digest};

/// Counts and hashes a stream: always with SHA-256, and with the algorithm of the checksum that is expected.
pub(super) struct Hasher {
    size: u64,
    sha256: sha2::Sha256,
    weak: Option<Weak>,
    expected: Option<Checksum>,
}

enum Weak {
    Md5(md5::Md5),
    Sha1(sha1::Sha1),
}

/// What a stream turned out to be.
pub(super) struct Hashed {
    pub(super) size: u64,
    pub(super) sha256: Sha256Digest,
    /// The stream's checksum, where it is not the one that was expected.
    pub(super) mismatch: Option<(Checksum, Checksum)>,
}

impl Hasher {
    pub(super) fn new(expected: Option<Checksum>) -> Self {
        let weak = match expected {
            Some(Checksum::Md5(_)) => Some(Weak::Md5(md5::Md5::new())),
            Some(Checksum::Sha1(_)) => Some(Weak::Sha1(sha1::Sha1::new())),
            Some(Checksum::Sha256(_)) | None => None,
        };
        Self { size: 0, sha256: sha2::Sha256::new(), weak, expected }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.sha256.update(bytes);
        match &mut self.weak {
            Some(Weak::Md5(md5)) => md5.update(bytes),
            Some(Weak::Sha1(sha1)) => sha1.update(bytes),
            None => {}
        }
    }

    pub(super) fn finish(self) -> Hashed {
        let sha256 = Sha256Digest::new(self.sha256.finalize().into());
        let found = match self.weak {
            Some(Weak::Md5(md5)) => Checksum::Md5(md5.finalize().into()),
            Some(Weak::Sha1(sha1)) => Checksum::Sha1(sha1.finalize().into()),
            None => Checksum::Sha256(sha256),
        };
        let mismatch = self.expected.filter(|expected| *expected != found).map(|expected| (expected, found));
        Hashed { size: self.size, sha256, mismatch }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ABC: [&str; 3] = [
        "md5:900150983cd24fb0d6963f7d28e17f72",
        "sha1:a9993e364706816aba3e25717850c26c9cd0d89d",
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    ];

    #[test]
    fn the_known_digests_of_abc_are_found_in_pieces() {
        for text in ABC {
            let mut hasher = Hasher::new(Some(text.parse().unwrap()));
            hasher.update(b"a");
            hasher.update(b"");
            hasher.update(b"bc");
            let hashed = hasher.finish();
            assert!(hashed.mismatch.is_none(), "{text}");
            assert_eq!(hashed.size, 3);
            assert_eq!(hashed.sha256.to_string(), ABC[2]);
        }
    }

    #[test]
    fn a_mismatch_names_both_in_the_same_algorithm() {
        for text in ABC {
            let hashed = Hasher::new(Some(text.parse().unwrap())).finish();
            let (expected, found) = hashed.mismatch.unwrap();
            assert_eq!(expected.to_string(), text);
            assert_eq!(expected.algorithm(), found.algorithm());
        }
        assert!(Hasher::new(None).finish().mismatch.is_none());
    }
}
