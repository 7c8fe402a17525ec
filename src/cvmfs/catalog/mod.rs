//! Catalogs: the directory tree as SQLite, schema 2.5 (`cvmfs/catalog_sql.cc`).
//!
//! Paths are bytes relative to the repository's root, without leading slash; the root is the empty path.

mod edit;
mod entry;
mod path;
mod read;
mod references;
mod scan;
mod schema;
mod statistics;

pub(crate) use edit::{CatalogEditor, Groups};
pub use entry::{Compression, Entry, Flags};
pub(crate) use path::split;
pub use path::{PathHash, join};
pub use read::{Catalog, Chunk, Content, NestedCatalog};
pub(in crate::cvmfs) use scan::{ChunkRow, Row};
pub use schema::create_root;
pub use statistics::{Counters, Statistics};
