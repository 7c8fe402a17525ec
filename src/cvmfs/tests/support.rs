//! Repositories to test with.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use tempfile::TempDir;

use crate::cvmfs::catalog::{NewEntry, NewKind};
use crate::cvmfs::keys::NewKeys;
use crate::cvmfs::manifest::Manifest;
use crate::cvmfs::reader::{Expiry, Reader};
use crate::cvmfs::stratum0::{CreateOptions, Draft, NewTag, Stratum0};

pub(crate) const NAME: &str = "test.example.org";

/// When the golden repositories were made, and all others here are.
pub(crate) const NOW: i64 = 1_795_240_000;

/// Making keys takes longer than all else in a test.
static KEYS: LazyLock<NewKeys> = LazyLock::new(|| NewKeys::generate(NAME, NOW).unwrap());

/// A repository in a directory of its own.
pub(crate) struct Sandbox {
    pub(crate) directory: TempDir,
    pub(crate) stratum0: Stratum0,
}

impl Sandbox {
    /// An empty repository at revision 1, made at `now`.
    pub(crate) fn at(now: i64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (root, keys) = (directory.path().join("root"), directory.path().join("keys"));
        KEYS.store(&keys, NAME).unwrap();
        let stratum0 = Stratum0::create(root.join(NAME), NAME, keys, &CreateOptions::default(), now).unwrap();
        Self { directory, stratum0 }
    }

    pub(crate) fn new() -> Self {
        Self::at(NOW)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.directory.path().join("keys")
    }

    pub(crate) fn reader(&self) -> Reader {
        self.stratum0.reader(Expiry::Refuse { now: NOW }).unwrap()
    }

    pub(crate) fn begin(&self) -> Draft {
        self.stratum0.begin(self.stratum0.lock().unwrap().unwrap(), NOW).unwrap()
    }

    /// Publishes one file.
    pub(crate) fn publish(&self, path: &str, content: &str, tag: &str) -> Manifest {
        let mut draft = self.begin();
        put(&mut draft, path, content);
        draft.commit(Some(NewTag { name: tag, description: "" }), NOW, &|_| {}).unwrap()
    }

    pub(crate) fn content(&self, path: &str) -> String {
        read(&self.reader(), path)
    }

    /// Checks all that `cvmfs_swissknife check` would find wrong, as far as this code can make it wrong.
    pub(crate) fn check(&self) {
        check(&self.reader(), self.stratum0.directory());
    }
}

pub(crate) fn file(draft: &mut Draft, content: &[u8]) -> NewKind {
    let staged = draft.store(&mut &content[..]).unwrap();
    NewKind::File { hash: staged.hash, size: staged.size }
}

pub(crate) fn entry(kind: NewKind) -> NewEntry {
    NewEntry { kind, permissions: 0o644, mtime: 1_700_000_000, mtime_ns: None, uid: 1, gid: 2 }
}

/// Puts a file and the directories that it needs.
pub(crate) fn put(draft: &mut Draft, path: &str, content: &str) {
    let parts: Vec<_> = path.split('/').collect();
    for end in 1..parts.len() {
        let parent = parts[..end].join("/");
        if draft.catalog().catalog().lookup(parent.as_bytes()).unwrap().is_none() {
            draft.catalog_mut().put(parent.as_bytes(), &entry(NewKind::Directory)).unwrap();
        }
    }
    let kind = file(draft, content.as_bytes());
    draft.catalog_mut().put(path.as_bytes(), &entry(kind)).unwrap();
}

pub(crate) fn read(reader: &Reader, path: &str) -> String {
    std::io::read_to_string(reader.tree().unwrap().file(path.as_bytes()).unwrap()).unwrap()
}

pub(crate) fn check(reader: &Reader, directory: &Path) {
    use crate::cvmfs::reflog::{self, Reflog};
    let manifest = reader.manifest();
    let catalog = reader.catalog(&manifest.root_hash).unwrap();
    assert_eq!(catalog.revision().unwrap(), manifest.revision);
    assert_eq!(catalog.statistics().unwrap().own, catalog.recount().unwrap());
    let mut tree = reader.tree().unwrap();
    let mut entries = Vec::new();
    tree.walk(b"", |path, entry| {
        entries.push((path.to_vec(), entry.clone()));
        Ok(())
    })
    .unwrap();
    assert_eq!(entries.len() as u64, catalog.entries().unwrap(), "rows that no directory leads to");
    for (path, entry) in &entries {
        if entry.is_directory() {
            let children = tree.list(path).unwrap();
            let directories = children.iter().filter(|child| child.is_directory()).count();
            assert_eq!(entry.link_count() as usize, 2 + directories, "links of {:?}", String::from_utf8_lossy(path));
        } else if entry.is_file() {
            let size = std::io::copy(&mut tree.file(path).unwrap(), &mut std::io::sink()).unwrap();
            assert_eq!(size, entry.size);
        }
    }
    let reflog_file = directory.join(reflog::FILE);
    let algorithm = manifest.root_hash.algorithm();
    assert_eq!(reflog::hash_file(&reflog_file, algorithm).unwrap(), manifest.reflog, "the reflog is stale");
    let copy = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(&reflog_file, copy.path()).unwrap();
    let reflog = Reflog::open_for_editing(copy.path()).unwrap();
    for hash in [Some(manifest.root_hash), Some(manifest.certificate), manifest.history, manifest.metainfo] {
        assert!(reflog.contains(&hash.unwrap()).unwrap());
    }
}

/// Unpacks a golden repository; gives its base and its keys.
pub(crate) fn golden(name: &str) -> (TempDir, PathBuf, PathBuf) {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/golden/{name}.tar.xz"));
    let directory = tempfile::tempdir().unwrap();
    let stream = liblzma::read::XzDecoder::new(std::fs::File::open(archive).unwrap());
    tar::Archive::new(stream).unpack(directory.path()).unwrap();
    let base = directory.path().join(name);
    (directory, base.join("storage"), base.join("keys"))
}

/// Copies a directory with all in it.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}
