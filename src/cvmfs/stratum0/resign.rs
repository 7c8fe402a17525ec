//! Signing anew: the whitelist in time, and everything when the certificate was changed (`cvmfs_server resign`).

use super::super::Error;
use super::super::certificate::SigningCertificate;
use super::super::fetch::{LocalDir, fetch_small};
use super::super::hash::ObjectKind;
use super::super::keys::{self, SigningKeys};
use super::super::manifest::{self, Manifest};
use super::super::object;
use super::super::signature::{Letter, Scheme};
use super::super::whitelist::{self, Whitelist};
use super::change::{Change, Next};
use super::{Held, Stratum0, replace};

/// Bytes that a manifest or a certificate may have.
const SMALL: u64 = 1 << 20;

impl Stratum0 {
    /// Signs the whitelist anew with the master key, for so many days from now; gives the new one.
    ///
    /// If the certificate in the directory of keys is not the one that the manifest is signed with, the manifest is
    /// signed anew, too, while the whitelist holds both: at each moment clients accept what they find.
    pub fn resign(&self, valid_days: u32, now: i64) -> Result<Whitelist, Error> {
        let lock = self.lock()?.map_err(Held::into_error)?;
        let master = keys::load_master(&self.keys, &self.name)?;
        let new = SigningKeys::load(&self.keys, &self.name)?.certificate;
        let (old, manifest) = self.present_certificate()?;
        let algorithm = self.settings()?.algorithm.unwrap_or(manifest.root_hash.algorithm());
        let print = |certificate: &SigningCertificate| certificate.fingerprint(algorithm);
        let sign = |fingerprints: &[_]| -> Result<Vec<u8>, Error> {
            let bytes = Whitelist::seal(&self.name, fingerprints, now, valid_days, &master)?;
            replace(&self.directory.join(whitelist::FILE), &bytes)?;
            Ok(bytes)
        };
        let mut _lock = lock;
        if old.pem() != new.pem() {
            sign(&[print(&old), print(&new)])?;
            let change = Change::begin(self, _lock, now)?;
            _lock = change.commit_and_hold(Next::default(), now, &|_| {})?.1;
        }
        Whitelist::parse(&Letter::parse(&sign(&[print(&new)])?, "whitelist")?)
    }

    /// The certificate that the manifest is signed with, whether the whitelist knows it or not: who has the master key
    /// decides about that.
    fn present_certificate(&self) -> Result<(SigningCertificate, Manifest), Error> {
        let fetch = LocalDir::new(&self.directory);
        let letter = Letter::parse(&fetch_small(&fetch, manifest::FILE, SMALL)?, "manifest")?;
        let manifest = Manifest::parse(&letter)?;
        let pem = object::read_small(&fetch, &manifest.certificate, ObjectKind::Certificate, SMALL)?;
        let certificate = SigningCertificate::from_pem(&pem)?;
        letter.verify(Scheme::Digest, std::slice::from_ref(certificate.public_key()))?;
        Ok((certificate, manifest))
    }
}
