//! Repositories with one thing wrong: whatever else depends on it is written and signed anew.

use std::io::Write;
use std::path::PathBuf;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::cvmfs::check::{Code, Data, Options, Report, check};
use crate::cvmfs::hash::{Algorithm, ContentHash, ObjectKind};
use crate::cvmfs::keys::SigningKeys;
use crate::cvmfs::manifest::{self, Manifest};
use crate::cvmfs::reader::{Expiry, Reader};
use crate::cvmfs::reflog;
use crate::cvmfs::stratum0::Stratum0;
use crate::cvmfs::tests::support::{NOW, golden};
use crate::cvmfs::{fetch::LocalDir, object};

pub(in crate::cvmfs::tests) const NAME: &str = "sample.example.org";

/// A copy of a golden repository, to be damaged.
pub(in crate::cvmfs::tests) struct Patient {
    _directory: TempDir,
    pub(in crate::cvmfs::tests) base: PathBuf,
    keys: PathBuf,
    name: &'static str,
    signing: SigningKeys,
}

impl Patient {
    pub(in crate::cvmfs::tests) fn new(name: &'static str) -> Self {
        let (directory, base, keys) = golden(name);
        let signing = SigningKeys::load(&keys, name).unwrap();
        Self { _directory: directory, base, keys, name, signing }
    }

    /// Manifest and reflog, which lead to all else. Objects are only ever added.
    pub(in crate::cvmfs::tests) fn state(&self) -> [Vec<u8>; 2] {
        [manifest::FILE, reflog::FILE].map(|file| std::fs::read(self.base.join(file)).unwrap())
    }

    /// Goes back to an earlier state.
    pub(in crate::cvmfs::tests) fn restore(&self, state: &[Vec<u8>; 2]) {
        std::fs::write(self.base.join(manifest::FILE), &state[0]).unwrap();
        std::fs::write(self.base.join(reflog::FILE), &state[1]).unwrap();
    }

    pub(in crate::cvmfs::tests) fn reader(&self) -> Reader {
        Stratum0::at(&self.base, self.name, &self.keys).reader(Expiry::Ignore).unwrap()
    }

    pub(in crate::cvmfs::tests) fn report(&self, data: Data) -> Report {
        self.report_with(&Options { data, tags: true, now: Some(NOW), threads: 2, ..Options::default() })
    }

    pub(in crate::cvmfs::tests) fn report_with(&self, options: &Options) -> Report {
        check(&self.reader(), options).unwrap()
    }

    pub(in crate::cvmfs::tests) fn codes(&self, data: Data) -> Vec<Code> {
        let mut codes: Vec<_> = self.report(data).problems.into_iter().map(|problem| problem.code).collect();
        codes.sort_unstable();
        codes.dedup();
        codes
    }

    /// Changes the manifest and signs it.
    pub(in crate::cvmfs::tests) fn manifest(&self, change: impl FnOnce(&mut Manifest)) {
        let mut manifest = self.reader().manifest().clone();
        change(&mut manifest);
        let sealed = manifest.seal(self.algorithm(), &self.signing.key).unwrap();
        std::fs::write(self.base.join(manifest::FILE), sealed).unwrap();
    }

    /// Changes the catalog that is mounted at a path by SQL; those above it follow, as do history, reflog and manifest.
    pub(in crate::cvmfs::tests) fn catalog(&self, path: &str, sql: &str) {
        self.manifest(|manifest| {
            let old = manifest.root_hash;
            (manifest.root_hash, manifest.root_size) = self.rebuild(&old, "", path, sql);
            let (root, size) = (manifest.root_hash, manifest.root_size);
            let sql = format!("UPDATE tags SET hash = '{root}', size = {size} WHERE hash = '{old}'");
            manifest.history = Some(self.edit(&manifest.history.unwrap(), ObjectKind::History, &sql).0);
            self.refer(manifest);
        });
    }

    /// Changes the history by SQL.
    pub(in crate::cvmfs::tests) fn history(&self, sql: &str) {
        self.manifest(|manifest| {
            manifest.history = Some(self.edit(&manifest.history.unwrap(), ObjectKind::History, sql).0);
            self.refer(manifest);
        });
    }

    /// Changes the reflog by SQL.
    pub(in crate::cvmfs::tests) fn reflog(&self, sql: &str) {
        self.manifest(|manifest| self.edit_reflog(manifest, sql));
    }

    /// Replaces the metainfo.
    pub(in crate::cvmfs::tests) fn metainfo(&self, text: &[u8]) {
        self.manifest(|manifest| {
            manifest.metainfo = Some(self.store(text, ObjectKind::Metainfo));
            self.refer(manifest);
        });
    }

    fn edit_reflog(&self, manifest: &mut Manifest, sql: &str) {
        let path = self.base.join(reflog::FILE);
        execute(&path, sql);
        manifest.reflog = reflog::hash_file(&path, self.algorithm()).unwrap();
    }

    /// Puts what the manifest names in the reflog.
    fn refer(&self, manifest: &mut Manifest) {
        let (root, history, metainfo) = (manifest.root_hash, manifest.history.unwrap(), manifest.metainfo.unwrap());
        let sql = format!("REPLACE INTO refs VALUES ('{root}', 0, 0), ('{history}', 2, 0), ('{metainfo}', 3, 0)");
        self.edit_reflog(manifest, &sql);
    }

    fn rebuild(&self, hash: &ContentHash, at: &str, target: &str, sql: &str) -> (ContentHash, u64) {
        let nested = self.reader().catalog(hash).unwrap().nested().unwrap();
        let nested = nested.iter().map(|nested| (String::from_utf8(nested.path.clone()).unwrap(), nested.hash));
        let next = nested.into_iter().find(|(path, _)| target == path || target.starts_with(&format!("{path}/")));
        match next {
            Some((path, inner)) if path != at => {
                let (inner, size) = self.rebuild(&inner, &path, target, sql);
                let sql = format!("UPDATE nested_catalogs SET sha1 = '{inner}', size = {size} WHERE path = '/{path}'");
                self.edit(hash, ObjectKind::Catalog, &sql)
            }
            _ => self.edit(hash, ObjectKind::Catalog, sql),
        }
    }

    fn algorithm(&self) -> Algorithm {
        if self.name == NAME { Algorithm::Sha1 } else { Algorithm::Shake128 }
    }

    fn edit(&self, hash: &ContentHash, kind: ObjectKind, sql: &str) -> (ContentHash, u64) {
        let copy = tempfile::NamedTempFile::new().unwrap();
        object::unpack(&LocalDir::new(&self.base), hash, kind, copy.path()).unwrap();
        execute(copy.path(), sql);
        let bytes = std::fs::read(copy.path()).unwrap();
        (self.store(&bytes, kind), bytes.len() as u64)
    }

    pub(in crate::cvmfs::tests) fn store(&self, content: &[u8], kind: ObjectKind) -> ContentHash {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        let stored = encoder.finish().unwrap();
        let hash = self.algorithm().hash(&stored);
        std::fs::write(self.base.join(hash.object_path(kind)), stored).unwrap();
        hash
    }

    /// Where the object of a file lies.
    pub(in crate::cvmfs::tests) fn object(&self, path: &str) -> PathBuf {
        let hash = self.reader().tree().unwrap().lookup(path.as_bytes()).unwrap().unwrap().hash.unwrap();
        self.base.join(hash.object_path(ObjectKind::File))
    }
}

fn execute(path: &std::path::Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA foreign_keys = OFF").unwrap();
    connection.execute_batch(sql).unwrap();
}
