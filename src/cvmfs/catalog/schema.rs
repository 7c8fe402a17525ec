//! Making a catalog.

use std::path::Path;

use super::super::Error;
use super::super::database::{Database, Text};
use super::path::split;
use super::{Counters, Entry, Flags, PathHash, Statistics};

/// The only schema of catalogs that are written today.
pub(super) const VERSION: f64 = 2.5;

/// Its latest revision, which brought the nanoseconds of mtime (`CatalogDatabase::kLatestSchemaRevision`).
pub(super) const REVISION: u32 = 7;

const TABLES: &str = "
CREATE TABLE catalog (md5path_1 INTEGER, md5path_2 INTEGER, parent_1 INTEGER, parent_2 INTEGER, hardlinks INTEGER, \
  hash BLOB, size INTEGER, mode INTEGER, mtime INTEGER, mtimens INTEGER, flags INTEGER, name TEXT, symlink TEXT, \
  uid INTEGER, gid INTEGER, xattr BLOB, CONSTRAINT pk_catalog PRIMARY KEY (md5path_1, md5path_2));
CREATE INDEX idx_catalog_parent ON catalog (parent_1, parent_2);
CREATE TABLE chunks (md5path_1 INTEGER, md5path_2 INTEGER, offset INTEGER, size INTEGER, hash BLOB, \
  CONSTRAINT pk_chunks PRIMARY KEY (md5path_1, md5path_2, offset, size), \
  FOREIGN KEY (md5path_1, md5path_2) REFERENCES catalog(md5path_1, md5path_2));
CREATE TABLE nested_catalogs (path TEXT, sha1 TEXT, size INTEGER, CONSTRAINT pk_nested_catalogs PRIMARY KEY (path));
CREATE TABLE bind_mountpoints (path TEXT, sha1 TEXT, size INTEGER, CONSTRAINT pk_bind_mountpoints PRIMARY KEY (path));
CREATE TABLE statistics (counter TEXT, value INTEGER, CONSTRAINT pk_statistics PRIMARY KEY (counter));
";

/// Writes the catalog that begins at a directory other than the root: empty but for its root entry.
pub(super) fn create_nested(path: &Path, mount: &[u8], root: &Entry) -> Result<(), Error> {
    let database = Database::create(path, "a new nested catalog", "2.5", REVISION, TABLES)?;
    database.begin()?;
    database.set_property("revision", "0")?;
    let prefix = [b"/", mount].concat();
    let set = "INSERT OR REPLACE INTO properties (key, value) VALUES ('root_prefix', ?1)";
    database.connection.execute(set, [Text(&prefix)]).map_err(database.failed("write"))?;
    let parent = split(mount).map_or(PathHash::NONE, |(parent, _)| PathHash::of(parent));
    root.store(&database.connection, PathHash::of(mount), parent).map_err(database.failed("write"))?;
    Statistics::default().store(&database)?;
    database.commit()?;
    database.close()
}

/// Writes the root catalog of a new repository: revision 1, one empty directory (mode 0755).
pub fn create_root(path: &Path, uid: u32, gid: u32, ttl: u64, now: i64) -> Result<(), Error> {
    let database = Database::create(path, "the new root catalog", "2.5", REVISION, TABLES)?;
    database.begin()?;
    database.set_property("revision", "1")?;
    database.set_property("TTL", &ttl.to_string())?;
    database.set_property("last_modified", &now.to_string())?;
    let root = Entry {
        name: Vec::new(),
        flags: Flags(Flags::DIRECTORY),
        mode: 0o040_755,
        size: 4096,
        mtime: now,
        mtime_ns: None,
        uid,
        gid,
        hardlinks: 2,
        hash: None,
        symlink: Vec::new(),
        xattr: None,
    };
    root.store(&database.connection, PathHash::of(b""), PathHash::NONE).map_err(database.failed("write"))?;
    Statistics { own: Counters { directory: 1, ..Counters::default() }, subtree: Counters::default() }
        .store(&database)?;
    database.commit()?;
    database.close()
}
