//! Repositories to test with.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::cvmfs::check;
use crate::cvmfs::edit::{NewEntry, NewKind};
use crate::cvmfs::keys::NewKeys;
use crate::cvmfs::manifest::Manifest;
use crate::cvmfs::reader::{Expiry, Reader};
use crate::cvmfs::stratum0::{CreateOptions, Draft, NewTag, Stratum0};
use crate::cvmfs::xattr::Xattrs;

pub(crate) const NAME: &str = "test.example.org";

/// When the golden repositories were made, and all others here are.
pub(crate) const NOW: i64 = 1_795_240_000;

/// Making keys takes longer than all else in a test.
static KEYS: LazyLock<NewKeys> = LazyLock::new(|| NewKeys::generate(NAME, NOW).unwrap());

/// A directory in memory where there is room: waiting for a disk is what a publish takes longest for.
pub(crate) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let free = nix::sys::statvfs::statvfs(memory).map_or(0, |found| found.blocks_available() * found.fragment_size());
    let in_memory = (free > 1 << 30).then(|| tempfile::tempdir_in(memory).ok()).flatten();
    in_memory.unwrap_or_else(|| tempfile::tempdir().unwrap())
}

/// Makes all objects as old as the repository: the machine's clock is ahead of it.
pub(crate) fn age(base: &Path) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.cast_unsigned());
    for entry in walkdir::WalkDir::new(base.join("data")) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            fs::File::options().write(true).open(entry.path()).unwrap().set_modified(time).unwrap();
        }
    }
}

/// A repository in a directory of its own.
pub(crate) struct Sandbox {
    pub(crate) directory: TempDir,
    pub(crate) stratum0: Stratum0,
}

impl Sandbox {
    /// An empty repository at revision 1, made at `now`.
    pub(crate) fn at(now: i64) -> Self {
        Self::of(&KEYS, now)
    }

    /// The same with keys that no other has.
    pub(crate) fn with_new_keys(now: i64) -> Self {
        Self::of(&NewKeys::generate(NAME, now).unwrap(), now)
    }

    fn of(new: &NewKeys, now: i64) -> Self {
        let directory = scratch();
        let (root, keys) = (directory.path().join("root"), directory.path().join("keys"));
        new.store(&keys, NAME).unwrap();
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

    /// Finds nothing wrong.
    pub(crate) fn check(&self) {
        check(&self.reader());
    }
}

pub(crate) fn file(draft: &mut Draft, content: &[u8]) -> NewKind {
    draft.store(&mut &content[..]).unwrap()
}

pub(crate) fn entry(kind: NewKind) -> NewEntry {
    NewEntry { kind, permissions: 0o644, mtime: 1_700_000_000, mtime_ns: None, uid: 1, gid: 2, xattrs: Xattrs::new() }
}

/// Puts a file and the directories that it needs.
pub(crate) fn put(draft: &mut Draft, path: &str, content: &str) {
    let parts: Vec<_> = path.split('/').collect();
    for end in 1..parts.len() {
        let parent = parts[..end].join("/");
        if draft.tree().lookup(parent.as_bytes()).unwrap().is_none() {
            draft.tree().put(parent.as_bytes(), &entry(NewKind::Directory)).unwrap();
        }
    }
    let kind = file(draft, content.as_bytes());
    draft.tree().put(path.as_bytes(), &entry(kind)).unwrap();
}

pub(crate) fn read(reader: &Reader, path: &str) -> String {
    std::io::read_to_string(reader.tree().unwrap().file(path.as_bytes()).unwrap()).unwrap()
}

/// Finds nothing wrong, every object read.
pub(crate) fn check(reader: &Reader) {
    let options = check::Options { data: check::Data::Verify, tags: true, now: Some(NOW), ..Default::default() };
    let report = check::check(reader, &options).unwrap();
    assert!(report.problems.is_empty(), "{report}");
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
