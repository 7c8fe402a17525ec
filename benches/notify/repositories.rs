//! Repositories that exist for their signatures: keys, whitelists, a certificate, and manifests of many revisions.

use std::io::Write;
use std::path::{Path, PathBuf};

use conveyor::cvmfs::hash::{Algorithm, ContentHash, ObjectKind};
use conveyor::cvmfs::keys::NewKeys;
use conveyor::cvmfs::manifest::Manifest;
use conveyor::cvmfs::whitelist::Whitelist;
use flate2::{Compression, write::ZlibEncoder};
use serde_json::json;

const DOMAIN: &str = "bench.test";

/// They share their keys, as those of a domain may.
pub(crate) struct Repositories {
    directory: tempfile::TempDir,
    keys: NewKeys,
    certificate: ContentHash,
    now: i64,
}

impl Repositories {
    pub(crate) fn new(count: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let now = jiff::Timestamp::now().as_second();
        let keys = NewKeys::generate(DOMAIN, now).unwrap();
        keys.store(&directory.path().join("keys"), DOMAIN).unwrap();
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
        packed.write_all(keys.signing.certificate.pem().as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        let certificate = Algorithm::Sha1.hash(&packed);
        let listed = [keys.signing.certificate.fingerprint(Algorithm::Sha1)];
        for number in 0..count {
            let base = directory.path().join(name(number));
            let object = base.join(certificate.object_path(ObjectKind::Certificate));
            std::fs::create_dir_all(object.parent().unwrap()).unwrap();
            std::fs::write(object, &packed).unwrap();
            let whitelist = Whitelist::seal(&name(number), &listed, now, 30, &keys.master).unwrap();
            std::fs::write(base.join(".cvmfswhitelist"), whitelist).unwrap();
        }
        Self { directory, keys, certificate, now }
    }

    /// Where their public key is.
    pub(crate) fn keys(&self) -> PathBuf {
        self.directory.path().join("keys")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The message about a revision, with a key of its own that is as long as given.
    pub(crate) fn message(&self, number: usize, revision: u64, padding: usize) -> String {
        let manifest = Manifest {
            root_hash: Algorithm::Sha1.hash(&revision.to_le_bytes()),
            root_size: 100_000,
            ttl: 240,
            revision,
            garbage_collectable: true,
            alternative_paths: false,
            repository: name(number),
            certificate: self.certificate,
            history: Some(Algorithm::Sha1.hash(b"history")),
            published_at: self.now,
            metainfo: Some(Algorithm::Sha1.hash(b"metainfo")),
            reflog: None,
            unknown: Vec::new(),
        };
        let sealed = manifest.seal(Algorithm::Sha1, &self.keys.signing.key).unwrap();
        let mut message = json!({
            "version": 1,
            "timestamp": "Sat, 21 Nov 2026 12:00:00 GMT",
            "type": "activity",
            "repository": name(number),
            "manifest": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, sealed),
        });
        if padding > 0 {
            message["padding"] = json!("x".repeat(padding));
        }
        message.to_string()
    }
}

pub(crate) fn name(number: usize) -> String {
    format!("r{number}.{DOMAIN}")
}
