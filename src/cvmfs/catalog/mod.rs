//! Catalogs: the directory tree as SQLite, schema 2.5 (`cvmfs/catalog_sql.cc`).
//!
//! Paths are bytes relative to the repository's root, without leading slash; the root is the empty path.

mod edit;
mod entry;
mod path;
mod read;
mod references;
mod schema;
mod statistics;

pub use edit::{CatalogEditor, EditError, NewEntry, NewKind, Put};
pub use entry::{Compression, Entry, Flags};
pub use path::{PathHash, join};
pub use read::{Catalog, Chunk, NestedCatalog};
pub use schema::create_root;
pub use statistics::{Counters, Statistics};
