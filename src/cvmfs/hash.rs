//! Content hashes: the names of objects (`cvmfs/crypto/hash.h`).

use std::fmt;

use ripemd::Ripemd160;
use sha1::{Digest, Sha1};
use sha3::Shake128;
use sha3::digest::{ExtendableOutput, Update, XofReader};

use super::Error;

/// Bytes in every digest that names an object.
pub const DIGEST_BYTES: usize = 20;

/// A hash algorithm that can name objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-1, the default: names carry no mark.
    Sha1,
    /// RIPEMD-160, marked `-rmd160`.
    Rmd160,
    /// SHAKE-128 with 160 bits of output, marked `-shake128`.
    Shake128,
}

impl Algorithm {
    const ALL: [Self; 3] = [Self::Sha1, Self::Rmd160, Self::Shake128];

    /// What stands behind the digest in text.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Sha1 => "",
            Self::Rmd160 => "-rmd160",
            Self::Shake128 => "-shake128",
        }
    }

    /// The number in bits 8–10 of a catalog entry's flags.
    pub(crate) fn from_flag_bits(bits: u32) -> Option<Self> {
        Self::ALL.get(bits as usize).copied()
    }

    /// The same, the other way round.
    pub(crate) fn flag_bits(self) -> u32 {
        self as u32
    }

    /// Starts a hash.
    pub fn hasher(self) -> Hasher {
        match self {
            Self::Sha1 => Hasher::Sha1(Sha1::new()),
            Self::Rmd160 => Hasher::Rmd160(Ripemd160::new()),
            Self::Shake128 => Hasher::Shake128(Box::default()),
        }
    }

    /// Hashes bytes at once.
    pub fn hash(self, bytes: &[u8]) -> ContentHash {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish()
    }
}

/// A hash being computed.
#[derive(Debug, Clone)]
pub enum Hasher {
    /// SHA-1.
    Sha1(Sha1),
    /// RIPEMD-160.
    Rmd160(Ripemd160),
    /// SHAKE-128, 160 bits of it.
    Shake128(Box<Shake128>),
}

impl Hasher {
    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(hash) => Digest::update(hash, bytes),
            Self::Rmd160(hash) => Digest::update(hash, bytes),
            Self::Shake128(hash) => Update::update(&mut **hash, bytes),
        }
    }

    /// Ends the hash.
    pub fn finish(self) -> ContentHash {
        match self {
            Self::Sha1(hash) => ContentHash::sha1(hash.finalize().into()),
            Self::Rmd160(hash) => ContentHash { algorithm: Algorithm::Rmd160, digest: hash.finalize().into() },
            Self::Shake128(hash) => {
                let mut digest = [0; DIGEST_BYTES];
                hash.finalize_xof().read(&mut digest);
                ContentHash { algorithm: Algorithm::Shake128, digest }
            }
        }
    }
}

/// What an object is, as the letter behind its file name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A whole file; no letter.
    File,
    /// A piece of a large file: `P`.
    Chunk,
    /// A catalog: `C`.
    Catalog,
    /// A history (tag database): `H`.
    History,
    /// A certificate: `X`.
    Certificate,
    /// The metainfo JSON: `M`.
    Metainfo,
}

impl ObjectKind {
    /// The letter.
    pub fn letter(self) -> &'static str {
        match self {
            Self::File => "",
            Self::Chunk => "P",
            Self::Catalog => "C",
            Self::History => "H",
            Self::Certificate => "X",
            Self::Metainfo => "M",
        }
    }
}

/// The hash of an object's stored bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash {
    algorithm: Algorithm,
    digest: [u8; DIGEST_BYTES],
}

impl ContentHash {
    /// A SHA-1 digest.
    pub fn sha1(digest: [u8; DIGEST_BYTES]) -> Self {
        Self { algorithm: Algorithm::Sha1, digest }
    }

    /// A digest as a catalog stores it, the algorithm being known from elsewhere.
    pub fn from_digest(algorithm: Algorithm, digest: &[u8]) -> Result<Self, Error> {
        let digest =
            digest.try_into().map_err(|_| Error::malformed("a stored digest", format!("{} bytes", digest.len())))?;
        Ok(Self { algorithm, digest })
    }

    /// Reads the text form: 40 lower-case hex digits and the algorithm's mark.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = || Error::malformed(format!("hash {text:?}"), "not 40 hex digits and a known algorithm");
        let (hexits, mark) = text.split_at_checked(2 * DIGEST_BYTES).ok_or_else(bad)?;
        let algorithm = Algorithm::ALL.into_iter().find(|known| known.mark() == mark).ok_or_else(bad)?;
        if hexits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad());
        }
        let mut digest = [0; DIGEST_BYTES];
        hex::decode_to_slice(hexits, &mut digest).map_err(|_| bad())?;
        Ok(Self { algorithm, digest })
    }

    /// Which algorithm made it.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digest's bytes.
    pub fn digest(&self) -> &[u8; DIGEST_BYTES] {
        &self.digest
    }

    /// Tells whether it is the null hash, which stands for "none".
    pub fn is_null(&self) -> bool {
        self.digest == [0; DIGEST_BYTES]
    }

    /// Where the object lies below the repository's base: `data/ab/cdef…C`.
    pub fn object_path(&self, kind: ObjectKind) -> String {
        let digest = hex::encode(self.digest);
        format!("data/{}/{}{}{}", &digest[..2], &digest[2..], self.algorithm.mark(), kind.letter())
    }

    /// The form that whitelists use: upper case, colons between the bytes (`SignatureManager::FingerprintCertificate`).
    pub fn fingerprint(&self) -> String {
        let pairs: Vec<_> = self.digest.iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":") + &self.algorithm.mark().to_uppercase()
    }

    /// Reads a whitelist's form; what follows a blank or `#` is a comment.
    pub fn parse_fingerprint(line: &str) -> Result<Self, Error> {
        let end = line.find([' ', '\t', '#']).unwrap_or(line.len());
        Self::parse(&line[..end].replace(':', "").to_lowercase())
    }
}

impl ContentHash {
    /// Reads the name of an object's file in the folder `ab` of `data`; `None` for a name that no object has.
    pub fn from_object_name(folder: &str, name: &str) -> Option<(Self, ObjectKind)> {
        use ObjectKind::{Catalog, Certificate, Chunk, File, History, Metainfo};
        let kinds = [Chunk, Catalog, History, Certificate, Metainfo];
        let kind = kinds.into_iter().find(|kind| name.ends_with(kind.letter())).unwrap_or(File);
        let digest = name.strip_suffix(kind.letter())?;
        Self::parse(&format!("{folder}{digest}")).ok().map(|hash| (hash, kind))
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", hex::encode(self.digest), self.algorithm.mark())
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn text_carries_the_algorithm() {
        for text in [
            "5564de638e6b28e81d305211f6527b399e2bcb48",
            "33e8ef7862cfd0fbf74eb71568279795d93dffed-shake128",
            "33e8ef7862cfd0fbf74eb71568279795d93dffed-rmd160",
        ] {
            assert_eq!(ContentHash::parse(text).unwrap().to_string(), text);
        }
        for bad in
            ["", "5564", "5564DE638e6b28e81d305211f6527b399e2bcb48", "5564de638e6b28e81d305211f6527b399e2bcb48-md6"]
        {
            assert!(ContentHash::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_object_lies_in_the_folder_of_its_first_byte() {
        let hash = ContentHash::parse("33e8ef7862cfd0fbf74eb71568279795d93dffed-shake128").unwrap();
        assert_eq!(hash.object_path(ObjectKind::Catalog), "data/33/e8ef7862cfd0fbf74eb71568279795d93dffed-shake128C");
    }

    #[test]
    fn the_name_of_an_object_tells_what_it_is() {
        let hash = ContentHash::parse("33e8ef7862cfd0fbf74eb71568279795d93dffed-shake128").unwrap();
        for kind in [ObjectKind::File, ObjectKind::Chunk, ObjectKind::Catalog, ObjectKind::Metainfo] {
            let path = hash.object_path(kind);
            let (folder, name) = path.strip_prefix("data/").unwrap().split_once('/').unwrap();
            assert_eq!(ContentHash::from_object_name(folder, name), Some((hash, kind)));
        }
        for name in
            ["", "C", "e8ef", "e8ef7862cfd0fbf74eb71568279795d93dffedL", "e8ef7862cfd0fbf74eb71568279795d93dffe.tmp"]
        {
            assert_eq!(ContentHash::from_object_name("33", name), None, "{name}");
        }
    }

    #[test]
    fn fingerprints_are_read_as_they_are_written() {
        let hash = Algorithm::Shake128.hash(b"x");
        assert!(hash.fingerprint().ends_with("-SHAKE128"));
        assert_eq!(ContentHash::parse_fingerprint(&format!("{} # a comment", hash.fingerprint())).unwrap(), hash);
    }

    #[test]
    fn known_answers() {
        let answer = |algorithm: Algorithm, bytes: &[u8]| algorithm.hash(bytes).to_string();
        assert_eq!(answer(Algorithm::Sha1, b""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        // Those of the function's authors (Dobbertin, Bosselaers, Preneel 1996, appendix B).
        assert_eq!(answer(Algorithm::Rmd160, b""), "9c1185a5c5e9fc54612808977ee8f548b2258d31-rmd160");
        assert_eq!(answer(Algorithm::Rmd160, b"abc"), "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc-rmd160");
        let digits = b"1234567890".repeat(8);
        assert_eq!(answer(Algorithm::Rmd160, &digits), "9b752e45573d4b39f4dbd3323cab82bf63326bfb-rmd160");
        // The empty object of a repository without compression.
        assert_eq!(answer(Algorithm::Shake128, b""), "7f9c2ba4e88f827d616045507605853ed73b8093-shake128");
    }
}
