//! Tests of the native publisher.

mod checkout;
mod disk;
mod recover;
mod revert;
mod transaction;

use std::io;

use crate::cvmfs::catalog::Entry;
use crate::cvmfs::tests::support::{NAME, Sandbox};
use crate::domain::names::{LeasePath, RepositoryName};
use crate::domain::tree::{Attributes, EntryKind, EntryMeta, EntryPath};
use crate::publisher::native::NativePublisher;
use crate::publisher::{Publisher, PublisherError, Revision, Transaction};

struct World {
    sandbox: Sandbox,
    publisher: NativePublisher,
    scratch: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        // The publisher looks at the clock.
        let sandbox = Sandbox::at(super::now());
        let publisher = NativePublisher::new(sandbox.root(), sandbox.keys());
        Self { sandbox, publisher, scratch: tempfile::tempdir().unwrap() }
    }

    fn try_open(&self, lease: &str, key: &str) -> Result<Box<dyn Transaction>, PublisherError> {
        self.publisher.open(&name(), &LeasePath::new(lease).unwrap(), key, self.scratch.path())
    }

    fn open(&self, lease: &str, key: &str) -> Box<dyn Transaction> {
        self.try_open(lease, key).unwrap()
    }

    /// Publishes files of the whole repository; a name that ends with `/` is a directory.
    fn publish(&self, files: &[(&str, &str)], key: &str) -> Revision {
        let mut transaction = self.open("/", key);
        for (path, content) in files {
            match path.strip_suffix('/') {
                Some(path) => put(&mut *transaction, path, &EntryKind::Directory, b"").unwrap(),
                None => put_file(&mut *transaction, path, content).unwrap(),
            }
        }
        transaction.publish("").unwrap().revision
    }

    fn entry(&self, at: &str) -> Option<Entry> {
        self.sandbox.reader().tree().unwrap().lookup(at.as_bytes()).unwrap()
    }

    fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        let reader = self.sandbox.reader();
        reader
            .tree()
            .unwrap()
            .walk(b"", |path, _| {
                paths.push(String::from_utf8_lossy(path).into_owned());
                Ok(())
            })
            .unwrap();
        paths
    }

    /// Content and counters are right, and nothing temporary is left.
    fn check(&self) {
        self.sandbox.check();
        assert_eq!(std::fs::read_dir(self.sandbox.stratum0.directory().join("data/txn")).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(self.scratch.path()).unwrap().count(), 0, "scratch is not clean");
    }
}

fn name() -> RepositoryName {
    RepositoryName::new(NAME).unwrap()
}

fn path(text: &str) -> EntryPath {
    EntryPath::new(text.as_bytes()).unwrap()
}

const META: EntryMeta = EntryMeta { mode: 0o644, mtime: 1_600_000_000, uid: 7, gid: 8, attributes: Attributes::new() };

fn put(transaction: &mut dyn Transaction, at: &str, kind: &EntryKind, content: &[u8]) -> Result<(), PublisherError> {
    let meta = if *kind == EntryKind::Directory { EntryMeta { mode: 0o755, ..META } } else { META.clone() };
    transaction.put(&path(at), &meta, kind, &mut &content[..])
}

fn put_file(transaction: &mut dyn Transaction, at: &str, content: &str) -> Result<(), PublisherError> {
    put(transaction, at, &EntryKind::File { size: content.len() as u64 }, content.as_bytes())
}

fn shown(transaction: &mut dyn Transaction) -> Vec<String> {
    transaction.settle().unwrap();
    let mut shown = Vec::new();
    transaction.changes(&mut |change| shown.push(change.to_string())).unwrap();
    shown
}

fn why(result: Result<impl Sized, PublisherError>) -> String {
    match result {
        Err(error @ PublisherError::Conflict { .. }) => error.to_string(),
        Err(error) => panic!("not a conflict: {error:?}"),
        Ok(_) => panic!("not refused"),
    }
}

/// Content that ends with an error.
struct Broken;

impl io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the payload went away"))
    }
}
