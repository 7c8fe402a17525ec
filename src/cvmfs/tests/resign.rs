//! Signing anew, and how a repository is made.

use std::fs;

use super::support::{NAME, NOW, Sandbox, put};
use crate::cvmfs::catalog::Compression;
use crate::cvmfs::hash::Algorithm;
use crate::cvmfs::keys::NewKeys;
use crate::cvmfs::reader::{Expiry, Reader};
use crate::cvmfs::settings::Settings;
use crate::cvmfs::stratum0::{CreateOptions, Stratum0};

#[test]
fn a_whitelist_is_signed_for_the_days_that_are_asked_for() {
    let sandbox = Sandbox::new();
    let whitelist = sandbox.stratum0.resign(7, NOW).unwrap();
    assert_eq!(whitelist.expires_at, (NOW + 7 * 86_400) / 3600 * 3600);
    for days in [0, 3651, u32::MAX] {
        let error = sandbox.stratum0.resign(days, NOW).unwrap_err().to_string();
        assert!(error.contains("1 to 3650 days"), "{error}");
    }
    assert_eq!(sandbox.reader().whitelist(), &whitelist);
}

#[test]
fn a_new_certificate_signs_whitelist_and_manifest() {
    let sandbox = Sandbox::new();
    sandbox.publish("a", "1", "two");
    let before = sandbox.reader().manifest().clone();
    let new = NewKeys::generate(NAME, NOW).unwrap();
    let other = tempfile::tempdir().unwrap();
    new.store(other.path(), NAME).unwrap();
    for extension in ["key", "crt"] {
        let file = format!("{NAME}.{extension}");
        fs::copy(other.path().join(&file), sandbox.keys().join(&file)).unwrap();
    }
    assert!(sandbox.stratum0.begin(sandbox.stratum0.lock().unwrap().unwrap(), NOW).is_err(), "it is not listed yet");
    let whitelist = sandbox.stratum0.resign(30, NOW).unwrap();
    assert_eq!(whitelist.fingerprints, [new.signing.certificate.fingerprint(Algorithm::Sha1)]);
    let reader = sandbox.reader();
    assert_eq!(reader.certificate().pem(), new.signing.certificate.pem());
    assert_eq!((reader.manifest().revision, reader.manifest().root_hash), (before.revision, before.root_hash));
    sandbox.check();
    sandbox.publish("a", "2", "three");
    sandbox.check();
}

fn create(settings: Settings, volatile: bool) -> (tempfile::TempDir, Stratum0) {
    let directory = tempfile::tempdir().unwrap();
    let (root, keys) = (directory.path().join("root"), directory.path().join("keys"));
    let options = CreateOptions { settings, volatile, ttl: 60, ..CreateOptions::default() };
    let stratum0 = Stratum0::create(root.join(NAME), NAME, keys, &options, NOW).unwrap();
    (directory, stratum0)
}

fn open(stratum0: &Stratum0) -> Reader {
    stratum0.reader(Expiry::Refuse { now: NOW }).unwrap()
}

#[test]
fn a_repository_is_made_and_published_with_its_settings() {
    for algorithm in [Algorithm::Sha1, Algorithm::Shake128, Algorithm::Rmd160] {
        let settings = Settings {
            algorithm: Some(algorithm),
            compression: Compression::None,
            garbage_collection: Some(true),
            ..Settings::default()
        };
        let (_directory, stratum0) = create(settings.clone(), true);
        assert_eq!(stratum0.settings().unwrap(), settings);
        let mut draft = stratum0.begin(stratum0.lock().unwrap().unwrap(), NOW).unwrap();
        put(&mut draft, "d/file", "content");
        draft.commit(None, NOW, &|_| {}).unwrap();
        let reader = open(&stratum0);
        super::support::check(&reader);
        let manifest = reader.manifest();
        assert!(manifest.garbage_collectable && manifest.ttl == 60);
        let print = reader.whitelist().fingerprints[0].algorithm();
        let hashes = [manifest.root_hash, manifest.certificate, manifest.history.unwrap(), manifest.reflog.unwrap()];
        assert!(hashes.iter().all(|hash| hash.algorithm() == algorithm) && print == algorithm);
        assert!(reader.catalog(&manifest.root_hash).unwrap().is_volatile().unwrap());
        assert_eq!(super::support::read(&reader, "d/file"), "content");
        assert_eq!(stratum0.resign(3, NOW).unwrap().fingerprints[0].algorithm(), algorithm);
        open(&stratum0);
    }
}

#[test]
fn what_settings_say_later_goes_out_with_the_next_publish() {
    let (_directory, stratum0) = create(Settings::default(), false);
    assert!(!open(&stratum0).catalog(&open(&stratum0).manifest().root_hash).unwrap().is_volatile().unwrap());
    let later = Settings { ttl: Some(900), garbage_collection: Some(true), ..Settings::default() };
    fs::write(crate::cvmfs::settings::file(stratum0.directory(), NAME), later.to_text()).unwrap();
    stratum0.begin(stratum0.lock().unwrap().unwrap(), NOW).unwrap().commit(None, NOW, &|_| {}).unwrap();
    let reader = open(&stratum0);
    assert!(reader.manifest().garbage_collectable && reader.manifest().ttl == 900);
    assert_eq!(reader.catalog(&reader.manifest().root_hash).unwrap().ttl().unwrap(), Some(900));
}
