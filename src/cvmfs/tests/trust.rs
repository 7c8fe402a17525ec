//! Everything that was tampered with is refused.

use std::fs;

use super::support::{NAME, NOW, Sandbox};
use crate::cvmfs::Error;
use crate::cvmfs::fetch::LocalDir;
use crate::cvmfs::hash::{Algorithm, ObjectKind};
use crate::cvmfs::keys::{self, NewKeys, SigningKeys};
use crate::cvmfs::manifest::Manifest;
use crate::cvmfs::reader::{Expiry, Reader};

fn open(sandbox: &Sandbox) -> Result<Reader, Error> {
    sandbox.stratum0.reader(Expiry::Refuse { now: NOW })
}

/// Changes one byte of a file and expects the repository to be refused.
fn assert_guarded(sandbox: &Sandbox, file: &str, at: impl Fn(&[u8]) -> usize) {
    let path = sandbox.stratum0.directory().join(file);
    let whole = fs::read(&path).unwrap();
    let mut changed = whole.clone();
    let at = at(&whole);
    changed[at] ^= 1;
    fs::write(&path, &changed).unwrap();
    assert!(open(sandbox).is_err(), "{file} with byte {at} changed was believed");
    fs::write(&path, &whole).unwrap();
    assert!(open(sandbox).is_ok());
}

fn find(text: &'static str) -> impl Fn(&[u8]) -> usize {
    move |bytes| bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap() + text.len()
}

#[test]
fn a_changed_byte_anywhere_in_manifest_or_whitelist_is_noticed() {
    let sandbox = Sandbox::new();
    for file in [".cvmfspublished", ".cvmfswhitelist"] {
        assert_guarded(&sandbox, file, |_| 3);
        assert_guarded(&sandbox, file, find("\n--\n"));
        assert_guarded(&sandbox, file, |bytes| bytes.len() - 1);
        assert_guarded(&sandbox, file, |bytes| bytes.len() - 256);
    }
}

#[test]
fn a_truncated_letter_is_refused() {
    let sandbox = Sandbox::new();
    for file in [".cvmfspublished", ".cvmfswhitelist"] {
        let path = sandbox.stratum0.directory().join(file);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(open(&sandbox).is_err(), "{file} cut to {length} bytes was believed");
        }
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn another_public_key_another_name_and_another_certificate_are_refused() {
    let sandbox = Sandbox::new();
    let local = || Box::new(LocalDir::new(sandbox.stratum0.directory()));
    let expiry = Expiry::Refuse { now: NOW };
    let other = NewKeys::generate(NAME, NOW).unwrap();
    let error = Reader::open(local(), NAME, &[other.master.to_public_key()], expiry).err().unwrap();
    assert!(matches!(error, Error::Untrusted { what: "whitelist", .. }), "{error}");

    let right = keys::load_public(&sandbox.keys(), NAME).unwrap();
    let error = Reader::open(local(), "other.example.org", std::slice::from_ref(&right), expiry).err().unwrap();
    assert!(matches!(error, Error::Untrusted { what: "whitelist", .. }), "{error}");
    assert!(Reader::open(local(), NAME, &[other.master.to_public_key(), right.clone()], expiry).is_ok());

    // A manifest signed, correctly, by a certificate that nobody listed.
    let manifest = open(&sandbox).unwrap().manifest().clone();
    let sealed = manifest.seal(Algorithm::Sha1, &other.signing.key).unwrap();
    let path = sandbox.stratum0.directory().join(".cvmfspublished");
    fs::write(&path, sealed).unwrap();
    let error = open(&sandbox).err().unwrap();
    assert!(matches!(error, Error::Untrusted { what: "manifest", .. }), "{error}");

    let mut staging = crate::cvmfs::ingest::Ingest::begin(sandbox.stratum0.directory(), Default::default()).unwrap();
    let staged = staging.add(ObjectKind::Certificate, &mut other.signing.certificate.pem().as_bytes()).unwrap();
    staging.publish(&[]).unwrap();
    let manifest = Manifest { certificate: staged.hash, ..manifest };
    fs::write(&path, manifest.seal(Algorithm::Sha1, &other.signing.key).unwrap()).unwrap();
    let error = open(&sandbox).err().unwrap();
    assert!(matches!(error, Error::Untrusted { what: "certificate", .. }), "{error}");
}

#[test]
fn a_key_that_is_not_the_certificate_s_cannot_publish() {
    let sandbox = Sandbox::new();
    let other = NewKeys::generate(NAME, NOW).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    other.store(elsewhere.path(), NAME).unwrap();
    fs::copy(elsewhere.path().join(format!("{NAME}.key")), sandbox.keys().join(format!("{NAME}.key"))).unwrap();
    assert!(matches!(SigningKeys::load(&sandbox.keys(), NAME), Err(Error::Key { .. })));
    // Key and certificate fit, but the certificate is not on the whitelist.
    fs::copy(elsewhere.path().join(format!("{NAME}.crt")), sandbox.keys().join(format!("{NAME}.crt"))).unwrap();
    let error = sandbox.stratum0.begin(sandbox.stratum0.lock().unwrap().unwrap(), NOW).err().unwrap();
    assert!(matches!(error, Error::Untrusted { what: "certificate", .. }), "{error}");
    // Signing the whitelist anew is what lists it.
    fs::copy(elsewhere.path().join(format!("{NAME}.masterkey")), sandbox.keys().join(format!("{NAME}.masterkey")))
        .unwrap();
    fs::copy(elsewhere.path().join(format!("{NAME}.pub")), sandbox.keys().join(format!("{NAME}.pub"))).unwrap();
    sandbox.stratum0.resign(30, NOW).unwrap();
}

#[test]
fn an_object_with_another_s_bytes_is_refused() {
    let sandbox = Sandbox::new();
    let old = sandbox.publish("a", "content", "one").root_hash;
    let new = sandbox.publish("b", "CONTENT", "two").root_hash;
    let reader = open(&sandbox).unwrap();
    let mut tree = reader.tree().unwrap();
    let mut hash = |path: &[u8]| tree.lookup(path).unwrap().unwrap().hash.unwrap();
    let (a, b) = (hash(b"a"), hash(b"b"));
    let place =
        |hash: &crate::cvmfs::hash::ContentHash, kind| sandbox.stratum0.directory().join(hash.object_path(kind));
    // Both are whole zlib streams of the right length: only the name tells.
    fs::copy(place(&a, ObjectKind::File), place(&b, ObjectKind::File)).unwrap();
    let error = std::io::read_to_string(tree.file(b"b").unwrap()).unwrap_err();
    assert!(error.to_string().contains("corrupt"), "{error}");
    fs::copy(place(&old, ObjectKind::Catalog), place(&new, ObjectKind::Catalog)).unwrap();
    assert!(reader.catalog(&new).is_err());
    assert!(sandbox.stratum0.begin(sandbox.stratum0.lock().unwrap().unwrap(), NOW).is_err());
}

#[test]
fn private_keys_are_for_the_owner_alone() {
    use std::os::unix::fs::MetadataExt;
    let sandbox = Sandbox::new();
    let mode = |extension| fs::metadata(sandbox.keys().join(format!("{NAME}.{extension}"))).unwrap().mode() & 0o777;
    assert_eq!((mode("masterkey"), mode("key")), (0o600, 0o600));
    let keys = NewKeys::generate(NAME, NOW).unwrap();
    assert!(matches!(keys.store(&sandbox.keys(), NAME), Err(Error::Exists(_))));
}
