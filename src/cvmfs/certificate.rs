//! The certificate that vouches for the key of the manifests. Nothing in it counts but the public key and its hash.

use rsa::pkcs8::EncodePublicKey;
use rsa::{Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};
use sha2::{Digest, Sha256};
use std::str::FromStr;
use std::time::Duration;
use x509_cert::certificate::{Certificate, TbsCertificate, Version};
use x509_cert::der::asn1::{Any, BitString, Null, UtcTime};
use x509_cert::der::pem::{LineEnding, PemLabel, decode_vec};
use x509_cert::der::{Decode, Encode, EncodePem, oid::ObjectIdentifier};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, DecodePublicKey, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};

use super::Error;
use super::hash::{Algorithm, ContentHash};

/// `sha256WithRSAEncryption` (RFC 8017).
const SHA256_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");

/// The DER prefix of a SHA-256 `DigestInfo` (RFC 8017, section 9.2, note 1).
const SHA256_PREFIX: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];

/// A certificate: the PEM text as it is stored, the hash of its DER form, its public key.
#[derive(Debug, Clone)]
pub struct SigningCertificate {
    pem: String,
    der: Vec<u8>,
    public_key: RsaPublicKey,
}

impl SigningCertificate {
    /// Reads the PEM text.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let bad = |why: String| Error::malformed("the certificate", why);
        // Not by the crate's own `from_pem`: its reader, which decodes on the way, never ends on some short texts.
        let (label, der) = decode_vec(pem).map_err(|error| bad(error.to_string()))?;
        if label != Certificate::PEM_LABEL {
            return Err(bad(format!("it is labelled {label:?}")));
        }
        let certificate = Certificate::from_der(&der).map_err(|error| bad(error.to_string()))?;
        let key =
            certificate.tbs_certificate.subject_public_key_info.to_der().map_err(|error| bad(error.to_string()))?;
        let public_key = RsaPublicKey::from_public_key_der(&key).map_err(|error| bad(error.to_string()))?;
        let der = certificate.to_der().map_err(|error| bad(error.to_string()))?;
        let pem = String::from_utf8(pem.to_vec()).map_err(|_| bad("not UTF-8".into()))?;
        Ok(Self { pem, der, public_key })
    }

    /// Makes a self-signed certificate for a repository, valid for a year (clients do not look at the validity).
    pub fn create(repository: &str, key: &RsaPrivateKey, now: i64) -> Result<Self, Error> {
        let pem = build(repository, key, now).map_err(|why| Error::Key { what: "to certify".into(), why })?;
        Self::from_pem(pem.as_bytes())
    }

    /// The PEM text, which is what the certificate's object holds.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The key that manifests are verified with.
    pub fn public_key(&self) -> &RsaPublicKey {
        &self.public_key
    }

    /// What a whitelist lists it by.
    pub fn fingerprint(&self, algorithm: Algorithm) -> ContentHash {
        algorithm.hash(&self.der)
    }
}

fn build(repository: &str, key: &RsaPrivateKey, now: i64) -> Result<String, String> {
    let text = |error: x509_cert::der::Error| error.to_string();
    let name = Name::from_str(&format!("CN={repository} CernVM-FS Release Managers")).map_err(text)?;
    let algorithm = AlgorithmIdentifierOwned { oid: SHA256_WITH_RSA, parameters: Some(Any::from(Null)) };
    let spki = key.to_public_key().to_public_key_der().map_err(|error| error.to_string())?;
    let time = |seconds: i64| {
        let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        UtcTime::from_unix_duration(since).map(Time::UtcTime).map_err(text)
    };
    // The key is new for each certificate, so the start of its hash is as good as random, and needs no source of it.
    let serial = &Sha256::digest(spki.as_bytes())[..16];
    let tbs_certificate = TbsCertificate {
        version: Version::V1,
        serial_number: SerialNumber::new(serial).map_err(text)?,
        signature: algorithm.clone(),
        issuer: name.clone(),
        validity: Validity { not_before: time(now)?, not_after: time(now + 365 * 86_400)? },
        subject: name,
        subject_public_key_info: SubjectPublicKeyInfoOwned::from_der(spki.as_bytes()).map_err(text)?,
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: None,
    };
    let hashed = Sha256::digest(tbs_certificate.to_der().map_err(text)?);
    let padding = Pkcs1v15Sign { hash_len: Some(32), prefix: SHA256_PREFIX.into() };
    let signature = key.sign(padding, &hashed).map_err(|error| error.to_string())?;
    let signature = BitString::from_bytes(&signature).map_err(text)?;
    let certificate = Certificate { tbs_certificate, signature_algorithm: algorithm, signature };
    certificate.to_pem(LineEnding::LF).map_err(text)
}
