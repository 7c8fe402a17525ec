//! Digests that name and verify payloads. Hashing of streams is the adapters' business.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// Why a text is not a digest. The message names the text, the rule it breaks and the forms that are accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// An algorithm that is not known here.
    #[error("checksum {text:?} names the unknown algorithm {algorithm:?}: use md5, sha1 or sha256")]
    Algorithm {
        /// What was given, shortened.
        text: String,
        /// The part before the colon, shortened.
        algorithm: String,
    },
    /// A character that is not a hexadecimal digit.
    #[error("checksum {text:?} is not hexadecimal: use digits 0-9 and letters a-f after the algorithm")]
    NotHex {
        /// What was given, shortened.
        text: String,
    },
    /// The number of digits does not fit the algorithm that is named.
    #[error("checksum {text:?} has {digits} digits, but {algorithm} has {expected}: copy it again in full")]
    Length {
        /// What was given, shortened.
        text: String,
        /// The algorithm named.
        algorithm: &'static str,
        /// How many digits were given.
        digits: usize,
        /// How many digits the algorithm has.
        expected: usize,
    },
    /// No algorithm is named and the number of digits fits none.
    #[error("checksum {text:?} has {digits} digits: md5 has 32, sha1 has 40, sha256 has 64")]
    UnknownLength {
        /// What was given, shortened.
        text: String,
        /// How many digits were given.
        digits: usize,
    },
    /// A digest that must be written with its algorithm came without, or with another one.
    #[error("digest {text:?} is not a sha256 digest: write it as sha256: and 64 hexadecimal digits")]
    NotSha256 {
        /// What was given, shortened.
        text: String,
    },
}

/// Enough of a text to recognise it by in an error message.
fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

/// Decodes exactly `N` bytes; the caller has checked neither digits nor length.
fn decode<const N: usize>(text: &str, digits: &str, algorithm: &'static str) -> Result<[u8; N], DigestError> {
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(DigestError::NotHex { text: shortened(text) });
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| DigestError::Length {
        text: shortened(text),
        algorithm,
        digits: digits.len(),
        expected: N * 2,
    })?;
    Ok(bytes)
}

/// A SHA-256 digest: what names a blob. As text `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Digest([u8; 32]);

impl Sha256Digest {
    /// Takes the digest's bytes as they are.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Hashes bytes that are in memory.
    pub fn of(content: &[u8]) -> Self {
        Self(sha2::Sha256::digest(content).into())
    }

    /// The digest's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 digits without the algorithm, as they serve for a file's name.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.to_hex())
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256Digest {
    type Err = DigestError;

    /// Reads `sha256:<64 digits>`, in either case. The algorithm must be named: blobs are addressed in one way only.
    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text.split_once(':') {
            Some(("sha256", digits)) => decode(text, digits, "sha256").map(Self),
            _ => Err(DigestError::NotSha256 { text: shortened(text) }),
        }
    }
}

/// What a payload's bytes must hash to, as the user gave it: `[md5|sha1|sha256:]<hex>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Checksum {
    /// 32 digits. Detects accidents, not malice.
    Md5([u8; 16]),
    /// 40 digits. Detects accidents, not malice.
    Sha1([u8; 20]),
    /// 64 digits.
    Sha256(Sha256Digest),
}

impl Checksum {
    /// The algorithm's name, as it stands before the colon.
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Self::Md5(_) => "md5",
            Self::Sha1(_) => "sha1",
            Self::Sha256(_) => "sha256",
        }
    }

    /// The digest's bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Md5(bytes) => bytes,
            Self::Sha1(bytes) => bytes,
            Self::Sha256(digest) => digest.as_bytes(),
        }
    }
}

impl From<Sha256Digest> for Checksum {
    fn from(digest: Sha256Digest) -> Self {
        Self::Sha256(digest)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Checksum {
    type Err = DigestError;

    /// Reads `algorithm:hex`, or bare digits whose number tells the algorithm, as the old client's `?checksum=` did.
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, digits) = match text.split_once(':') {
            Some((algorithm, digits)) => (algorithm, digits),
            None => match text.len() {
                32 => ("md5", text),
                40 => ("sha1", text),
                64 => ("sha256", text),
                digits => return Err(DigestError::UnknownLength { text: shortened(text), digits }),
            },
        };
        match algorithm {
            "md5" => decode(text, digits, "md5").map(Self::Md5),
            "sha1" => decode(text, digits, "sha1").map(Self::Sha1),
            "sha256" => decode(text, digits, "sha256").map(|bytes| Self::Sha256(Sha256Digest(bytes))),
            _ => Err(DigestError::Algorithm { text: shortened(text), algorithm: shortened(algorithm) }),
        }
    }
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl From<$name> for String {
            fn from(digest: $name) -> Self {
                digest.to_string()
            }
        }
        impl TryFrom<String> for $name {
            type Error = DigestError;
            fn try_from(text: String) -> Result<Self, DigestError> {
                text.parse()
            }
        }
    };
}

serde_as_text!(Sha256Digest);
serde_as_text!(Checksum);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_blob_is_named_by_its_sha256_and_in_one_way_only() {
        assert_eq!(Sha256Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Sha256Digest>().unwrap(), Sha256Digest::of(b""));
        assert_eq!(EMPTY.to_uppercase().replace("SHA", "sha").parse::<Sha256Digest>().unwrap().to_string(), EMPTY);
        for bad in
            ["", &EMPTY[7..], "sha256:", &EMPTY[..70], &format!("{EMPTY}0"), "md5:d41d8cd98f00b204e9800998ecf8427e"]
        {
            assert!(bad.parse::<Sha256Digest>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_algorithm_is_guessed_by_the_number_of_digits() {
        for (digits, want) in [(32, "md5"), (40, "sha1"), (64, "sha256")] {
            let bare = "a5".repeat(digits / 2);
            let checksum: Checksum = bare.parse().unwrap();
            assert_eq!(checksum.algorithm(), want);
            assert_eq!(checksum.to_string(), format!("{want}:{bare}"));
            assert_eq!(checksum.to_string().parse::<Checksum>().unwrap(), checksum);
        }
    }

    #[test]
    fn a_wrong_checksum_is_refused_with_its_reason() {
        let error = |text: &str| text.parse::<Checksum>().unwrap_err();
        assert!(matches!(error("crc32:00000000"), DigestError::Algorithm { algorithm, .. } if algorithm == "crc32"));
        assert!(matches!(error("md5:abc"), DigestError::Length { digits: 3, expected: 32, .. }));
        assert!(matches!(error(&"zz".repeat(16)), DigestError::NotHex { .. }));
        assert!(matches!(error(&"é".repeat(16)), DigestError::NotHex { .. }));
        assert!(matches!(error("abcd"), DigestError::UnknownLength { digits: 4, .. }));
        assert!(matches!(error(""), DigestError::UnknownLength { digits: 0, .. }));
        assert!(error(&"a".repeat(100_000)).to_string().len() < 300);
    }

    #[test]
    fn digests_travel_as_text() {
        let checksum: Checksum = EMPTY.parse().unwrap();
        assert_eq!(serde_json::to_string(&checksum).unwrap(), format!("{EMPTY:?}"));
        assert_eq!(serde_json::from_str::<Checksum>(&format!("{EMPTY:?}")).unwrap(), checksum);
        assert_eq!(serde_json::from_str::<Sha256Digest>(&format!("{EMPTY:?}")).unwrap(), Sha256Digest::of(b""));
        assert!(serde_json::from_str::<Sha256Digest>("\"sha256:00\"").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_checksum_or_an_error(text in "\\PC*|(md5|sha1|sha256)?:?[0-9a-fA-F]{0,70}") {
            if let Ok(checksum) = text.parse::<Checksum>() {
                prop_assert_eq!(checksum.to_string().parse::<Checksum>().unwrap(), checksum);
            }
        }
    }
}
