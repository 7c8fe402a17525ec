//! How a repository is published: what `cvmfs_server` keeps in `server.conf`, in its words.
//!
//! The file `.NAME.conf` beside a repository's directory holds them. For a repository that `cvmfs_server` made it is a
//! symbolic link to its `server.conf`, so that what the administrator changes there counts here.

mod node;
mod read;
mod shell;

use std::path::PathBuf;

use super::catalog::Compression;
use super::hash::Algorithm;
use super::ingest::ChunkSizes;

pub use node::{Node, Upstream};
pub use read::file;

/// When catalogs are split and merged without being asked (`CVMFS_AUTOCATALOGS`), in entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoCatalogs {
    /// A directory with fewer entries below it never gets a catalog of its own, and loses one that was made by itself.
    pub min_weight: u64,
    /// A catalog with more entries is split.
    pub max_weight: u64,
}

impl Default for AutoCatalogs {
    fn default() -> Self {
        Self { min_weight: 1_000, max_weight: 100_000 }
    }
}

/// What must not be published (`CVMFS_ENFORCE_LIMITS`); zero is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a file (`CVMFS_FILE_MBYTE_LIMIT`).
    pub file_bytes: u64,
    /// Entries of the root catalog (`CVMFS_ROOT_KCATALOG_LIMIT`).
    pub root_entries: u64,
    /// Entries of any other catalog (`CVMFS_NESTED_KCATALOG_LIMIT`).
    pub nested_entries: u64,
}

impl Default for Limits {
    /// Those of `swissknife_sync.h`.
    fn default() -> Self {
        Self { file_bytes: 1024 << 20, root_entries: 200_000, nested_entries: 500_000 }
    }
}

/// What `cvmfs_server` keeps on the machine for a repository that it made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `CVMFS_SPOOL_DIR`: its locks, and the reflog's hash.
    pub spool: PathBuf,
    /// The directory that holds `.cvmfspublished`, from `CVMFS_UPSTREAM_STORAGE`.
    pub storage: PathBuf,
    /// `CVMFS_USER`: who owns it all.
    pub user: String,
}

/// How a repository is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Names new objects; `None` goes on with the algorithm of the present root catalog.
    pub algorithm: Option<Algorithm>,
    /// Of the content of files; catalogs and histories are always compressed.
    pub compression: Compression,
    /// `None` stores every file whole.
    pub chunking: Option<ChunkSizes>,
    /// `None` leaves catalogs to `.cvmfscatalog` and `.cvmfsdirtab`.
    pub auto_catalogs: Option<AutoCatalogs>,
    /// Keeps extended attributes.
    pub xattrs: bool,
    /// Keeps the nanoseconds of modification times.
    pub mtime_ns: bool,
    /// `None` enforces none.
    pub limits: Option<Limits>,
    /// Seconds for which clients believe a manifest; `None` leaves it as it is.
    pub ttl: Option<u64>,
    /// A publish without a tag gets one by itself, `generic-…`.
    pub auto_tag: bool,
    /// Seconds after which such tags go; `None` keeps them.
    pub auto_tag_span: Option<u64>,
    /// How many tags of Conveyor's batches are kept at least (`CONVEYOR_KEEP_BATCH_TAGS`).
    pub keep_batch_tags: u64,
    /// Garbage may be collected: the manifest's `G`. `None` leaves that as it is.
    pub garbage_collection: Option<bool>,
    /// Seconds of revisions that a garbage collection keeps if it is not told otherwise (`CVMFS_AUTO_GC_TIMESPAN`).
    pub garbage_collection_span: u64,
    /// `None` for a repository that `cvmfs_server` knows nothing of.
    pub server: Option<Server>,
}

/// Batch tags that are kept if nothing else is said.
const KEEP_BATCH_TAGS: u64 = 200;

/// Seconds of revisions that a garbage collection keeps: three days, as `cvmfs_server gc` has it.
const GARBAGE_COLLECTION_SPAN: u64 = 3 * 86_400;

impl Default for Settings {
    fn default() -> Self {
        Self {
            algorithm: None,
            compression: Compression::Zlib,
            chunking: Some(ChunkSizes::default()),
            auto_catalogs: None,
            xattrs: true,
            mtime_ns: true,
            limits: None,
            ttl: None,
            auto_tag: false,
            auto_tag_span: None,
            keep_batch_tags: KEEP_BATCH_TAGS,
            garbage_collection: None,
            garbage_collection_span: GARBAGE_COLLECTION_SPAN,
            server: None,
        }
    }
}
