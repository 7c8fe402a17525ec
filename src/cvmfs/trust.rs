//! Who vouches for what: the public master key for the whitelist, the whitelist for the certificate, the certificate for the
//! manifest.

use rsa::RsaPublicKey;

use super::Error;
use super::certificate::SigningCertificate;
use super::manifest::Manifest;
use super::signature::{Letter, Scheme};
use super::whitelist::Whitelist;

/// What to do with a whitelist whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Refuse it, as clients do.
    Refuse {
        /// The time, seconds since 1970.
        now: i64,
    },
    /// Read all the same: for looking at one's own repository, never for serving it.
    Ignore,
}

/// Reads a whitelist that one of the keys has signed for a repository.
pub fn whitelist(bytes: &[u8], repository: &str, keys: &[RsaPublicKey], expiry: Expiry) -> Result<Whitelist, Error> {
    let letter = Letter::parse(bytes, "whitelist")?;
    letter.verify(Scheme::Text, keys)?;
    let whitelist = Whitelist::parse(&letter)?;
    check_name("whitelist", &whitelist.repository, repository)?;
    if let Expiry::Refuse { now } = expiry {
        whitelist.check_time(now)?;
    }
    Ok(whitelist)
}

/// Reads a certificate (PEM) that is on a whitelist.
pub fn certificate(pem: &[u8], whitelist: &Whitelist) -> Result<SigningCertificate, Error> {
    let certificate = SigningCertificate::from_pem(pem)?;
    check_listed(&certificate, whitelist)?;
    Ok(certificate)
}

/// Refuses a certificate that is not on the whitelist.
pub fn check_listed(certificate: &SigningCertificate, whitelist: &Whitelist) -> Result<(), Error> {
    for listed in &whitelist.fingerprints {
        if certificate.fingerprint(listed.algorithm()) == *listed {
            return Ok(());
        }
    }
    Err(Error::Untrusted { what: "certificate", why: "it is not on the whitelist".into() })
}

/// Refuses what is for another repository than it should be for.
pub(super) fn check_name(what: &'static str, found: &str, expected: &str) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Untrusted { what, why: format!("it is for the repository {found:?}, not for {expected:?}") })
}

/// A manifest that is read and not yet believed.
#[derive(Debug, Clone)]
pub struct UnverifiedManifest {
    letter: Letter,
    manifest: Manifest,
}

impl UnverifiedManifest {
    /// Reads the bytes of a manifest that must be of this repository.
    pub fn parse(bytes: &[u8], repository: &str) -> Result<Self, Error> {
        let letter = Letter::parse(bytes, "manifest")?;
        let manifest = Manifest::parse(&letter)?;
        check_name("manifest", &manifest.repository, repository)?;
        Ok(Self { letter, manifest })
    }

    /// What it says. Not to be believed, but for where to look for the certificate.
    pub fn claims(&self) -> &Manifest {
        &self.manifest
    }

    /// Checks that it was signed with the key of this certificate.
    pub fn check(&self, certificate: &SigningCertificate) -> Result<(), Error> {
        self.letter.verify(Scheme::Digest, std::slice::from_ref(certificate.public_key()))
    }

    /// What it says, once it is [checked](Self::check).
    pub fn verify(self, certificate: &SigningCertificate) -> Result<Manifest, Error> {
        self.check(certificate)?;
        Ok(self.manifest)
    }
}
