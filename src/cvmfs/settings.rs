//! How a repository is published: what `cvmfs_server` keeps in `server.conf`, in its words.

use super::catalog::Compression;
use super::hash::Algorithm;
use super::ingest::ChunkSizes;

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
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            algorithm: None,
            compression: Compression::Zlib,
            chunking: Some(ChunkSizes::default()),
            auto_catalogs: None,
            xattrs: true,
        }
    }
}
