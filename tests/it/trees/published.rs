//! A repository of its own that holds one tree.

use std::fs;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use conveyor::cvmfs::reader::{Expiry, Reader};
use conveyor::cvmfs::stratum0::{CreateOptions, Stratum0};
use conveyor::domain::ids::BatchId;
use conveyor::domain::names::{LeasePath, RepositoryName};
use conveyor::domain::tree::EntryPath;
use conveyor::payload::archive::{self, ArchiveItem, ArchiveLimits};
use conveyor::publisher::Publisher;
use conveyor::publisher::native::NativePublisher;

use super::source::Source;

pub(super) const REPOSITORY: &str = "trees.example.org";
/// Where the tree goes. No such path may exist on this machine: the independent client would look there.
const LEASE: &str = "conveyor-judge/tree";

/// The repository; it goes when it is dropped.
pub(super) struct Published {
    repositories: PathBuf,
    publisher: NativePublisher,
    repository: RepositoryName,
    folder: tempfile::TempDir,
}

impl Published {
    /// Publishes a tree as one archive.
    pub(super) fn new(tree: &Source) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (repositories, keys) = (path("repositories"), path("keys"));
        let directory = repositories.join(REPOSITORY);
        for directory in [&directory, &keys, &path("scratch")] {
            fs::create_dir_all(directory).unwrap();
        }
        let now = jiff::Timestamp::now().as_second();
        Stratum0::create(directory, REPOSITORY, &keys, &CreateOptions::default(), now).unwrap();
        let publisher = NativePublisher::new(&repositories, keys);
        let repository = RepositoryName::new(REPOSITORY).unwrap();
        let published = Self { repositories, publisher, repository, folder };
        published.publish(tree);
        published
    }

    /// Streams the archive from one thread to another, since it may be larger than a temporary directory.
    fn publish(&self, tree: &Source) {
        let (reading, writing) = io::pipe().unwrap();
        std::thread::scope(|scope| {
            let packer = scope.spawn(move || tree.pack(BufWriter::with_capacity(1 << 20, writing)));
            self.unpack(reading);
            packer.join().unwrap().unwrap();
        });
    }

    fn unpack(&self, archive: impl io::Read) {
        let (key, scratch) = (BatchId(uuid::Uuid::now_v7()).key(), self.folder.path().join("scratch"));
        let lease = LeasePath::new(&format!("/{LEASE}")).unwrap();
        let base = EntryPath::new(LEASE.as_bytes()).unwrap();
        let mut transaction = self.publisher.open(&self.repository, &lease, &key, &scratch).unwrap();
        let absolute_root = format!("/cvmfs/{REPOSITORY}");
        archive::read(archive, &ArchiveLimits::default(), &base, &absolute_root, &mut |entry, content| {
            let ArchiveItem::Node(kind) = &entry.item else { panic!("{:?}: a hard link", entry.path) };
            transaction.put(&base.join(&entry.path), &entry.meta, kind, content)
        })
        .unwrap();
        transaction.publish("a real tree").unwrap();
    }

    /// The directory that holds the repository, to serve it.
    pub(super) fn repositories(&self) -> &Path {
        &self.repositories
    }

    pub(super) fn reader(&self) -> Reader {
        self.publisher.stratum0(&self.repository).reader(Expiry::Ignore).unwrap()
    }

    /// The tree's path in the repository, as a catalog has it.
    pub(super) fn base(&self) -> &'static str {
        LEASE
    }

    /// Where the tree is when the repository is mounted.
    pub(super) fn in_mount(&self, mountpoint: &Path) -> PathBuf {
        mountpoint.join(LEASE)
    }
}
