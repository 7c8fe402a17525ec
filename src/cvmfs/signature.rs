//! Letters: lines, `--`, the hash of the lines, a signature of that hash (`cvmfs/crypto/signature.cc`).
//!
//! Manifest and whitelist are letters that differ in the signature. The manifest's is an ordinary RSA PKCS#1 v1.5
//! signature with SHA-1 of the hash's *text*, by the key of the certificate. The whitelist's is the text itself,
//! encrypted by the private master key with PKCS#1 v1.5 block type 1 and without a `DigestInfo`.

use rsa::{Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};
use sha1::{Digest, Sha1};

use super::Error;
use super::hash::{Algorithm, ContentHash};

/// The DER prefix of a SHA-1 `DigestInfo` (RFC 8017, section 9.2, note 1).
const SHA1_PREFIX: [u8; 15] =
    [0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14];

/// How a letter's hash is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// RSA PKCS#1 v1.5 with SHA-1: manifests.
    Digest,
    /// RSA PKCS#1 v1.5 of the text as it is: whitelists.
    Text,
}

impl Scheme {
    fn padding(self, text: &str) -> (Pkcs1v15Sign, Vec<u8>) {
        match self {
            Self::Digest => (
                Pkcs1v15Sign { hash_len: Some(20), prefix: SHA1_PREFIX.into() },
                Sha1::digest(text.as_bytes()).to_vec(),
            ),
            Self::Text => (Pkcs1v15Sign::new_unprefixed(), text.as_bytes().to_vec()),
        }
    }
}

/// A letter, taken apart and not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    body: String,
    hash_text: String,
    signature: Vec<u8>,
    what: &'static str,
}

impl Letter {
    /// Takes a letter apart and compares its hash with its text. `what` names it in errors.
    pub fn parse(bytes: &[u8], what: &'static str) -> Result<Self, Error> {
        let bad = |why: &str| Error::malformed(format!("the {what}"), why);
        let mark = bytes.windows(4).position(|window| window == b"\n--\n").ok_or_else(|| bad("no line `--`"))?;
        let (body, rest) = (&bytes[..mark + 1], &bytes[mark + 4..]);
        let end = rest.iter().position(|b| *b == b'\n').ok_or_else(|| bad("no signature"))?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| bad("not UTF-8"));
        let letter =
            Self { body: text(body)?, hash_text: text(&rest[..end])?, signature: rest[end + 1..].to_vec(), what };
        let printed = ContentHash::parse(&letter.hash_text)?;
        if printed.algorithm().hash(body) != printed {
            return Err(Error::Untrusted { what, why: "its text has another hash than the one it carries".into() });
        }
        Ok(letter)
    }

    /// The lines that are signed.
    pub fn lines(&self) -> std::str::Lines<'_> {
        self.body.lines()
    }

    /// The text that is signed, up to and with the last newline before `--`.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// Verifies the signature with the first key that fits.
    pub fn verify(&self, scheme: Scheme, keys: &[RsaPublicKey]) -> Result<(), Error> {
        let (padding, hashed) = scheme.padding(&self.hash_text);
        if keys.iter().any(|key| key.verify(padding.clone(), &hashed, &self.signature).is_ok()) {
            return Ok(());
        }
        Err(Error::Untrusted { what: self.what, why: "its signature was made by another key".into() })
    }
}

/// Writes and signs a letter. `body` ends with a newline.
pub fn seal(body: &str, algorithm: Algorithm, scheme: Scheme, key: &RsaPrivateKey) -> Result<Vec<u8>, Error> {
    let hash_text = algorithm.hash(body.as_bytes()).to_string();
    let (padding, hashed) = scheme.padding(&hash_text);
    let signature = key
        .sign(padding, &hashed)
        .map_err(|error| Error::Key { what: "to sign with".into(), why: error.to_string() })?;
    Ok([body.as_bytes(), b"--\n", hash_text.as_bytes(), b"\n", &signature].concat())
}
