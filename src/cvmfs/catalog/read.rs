//! Reading a catalog.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::OptionalExtension;

use super::super::Error;
use super::super::database::{Database, Text, bytes};
use super::super::hash::{Algorithm, ContentHash};
use super::schema::VERSION;
use super::{Counters, Entry, PathHash, Statistics};

/// A piece of a large file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where in the file it starts.
    pub offset: u64,
    /// Its bytes, uncompressed.
    pub size: u64,
    /// Its object.
    pub hash: ContentHash,
}

/// Where a file's content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// In one object.
    Whole(ContentHash),
    /// In several, in their order.
    Chunks(Vec<Chunk>),
}

/// Another catalog that continues this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NestedCatalog {
    /// The directory at which it does.
    pub path: Vec<u8>,
    /// Its object.
    pub hash: ContentHash,
    /// Its size, uncompressed.
    pub size: u64,
}

/// An open catalog.
#[derive(Debug)]
pub struct Catalog {
    pub(super) database: Database,
    schema_revision: u32,
}

impl Catalog {
    /// Opens a catalog's (uncompressed) file; `hash` names it in errors. Revisions of the schema before 4 are refused.
    pub fn open(path: &Path, hash: &ContentHash) -> Result<Self, Error> {
        Self::over(Database::open_read_only(path, format!("the catalog {hash}"))?)
    }

    pub(super) fn over(database: Database) -> Result<Self, Error> {
        let schema_revision = database.schema_revision(VERSION)?;
        if schema_revision < 4 {
            return Err(Error::Unsupported(format!("{} of schema revision {schema_revision}", database.what)));
        }
        Ok(Self { database, schema_revision })
    }

    /// The revision of the schema, 4 to 7.
    pub fn schema_revision(&self) -> u32 {
        self.schema_revision
    }

    /// The entry at a path.
    pub fn lookup(&self, path: &[u8]) -> Result<Option<Entry>, Error> {
        let key = PathHash::of(path);
        let columns = Entry::columns(self.schema_revision);
        let sql = format!("SELECT {columns} FROM catalog WHERE md5path_1 = ?1 AND md5path_2 = ?2");
        let look =
            || self.database.connection.prepare_cached(&sql)?.query_row([key.0, key.1], Entry::from_row).optional();
        look().map_err(self.database.failed("read"))
    }

    /// The entries of a directory, sorted by name.
    pub fn list(&self, directory: &[u8]) -> Result<Vec<Entry>, Error> {
        let key = PathHash::of(directory);
        let columns = Entry::columns(self.schema_revision);
        let sql = format!("SELECT {columns} FROM catalog WHERE parent_1 = ?1 AND parent_2 = ?2");
        let list = || -> rusqlite::Result<Vec<Entry>> {
            let mut statement = self.database.connection.prepare_cached(&sql)?;
            statement.query_map([key.0, key.1], Entry::from_row)?.collect()
        };
        let mut entries = list().map_err(self.database.failed("read"))?;
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.check_names(directory, &entries)?;
        Ok(entries)
    }

    /// Refuses what no directory can hold: whoever makes files of the entries would be led out of it, or through a link
    /// that has the name of a directory.
    fn check_names(&self, directory: &[u8], entries: &[Entry]) -> Result<(), Error> {
        let leads_elsewhere =
            |name: &[u8]| matches!(name, b"" | b"." | b"..") || name.iter().any(|b| matches!(b, 0 | b'/'));
        let bad = entries.iter().find(|entry| leads_elsewhere(&entry.name)).map(|entry| ("cannot be a name", entry));
        let twice =
            || entries.windows(2).find(|pair| pair[0].name == pair[1].name).map(|pair| ("is there twice", &pair[0]));
        let Some((why, entry)) = bad.or_else(twice) else { return Ok(()) };
        let (name, directory) = (String::from_utf8_lossy(&entry.name), String::from_utf8_lossy(directory));
        Err(Error::malformed(&self.database.what, format!("{name:?} in /{directory} {why}")))
    }

    /// The chunks of a file, in their order.
    pub fn chunks(&self, path: &[u8], algorithm: Algorithm) -> Result<Vec<Chunk>, Error> {
        let key = PathHash::of(path);
        let list = || -> rusqlite::Result<Vec<(i64, i64, Vec<u8>)>> {
            let sql = "SELECT offset, size, hash FROM chunks WHERE md5path_1 = ?1 AND md5path_2 = ?2 ORDER BY offset";
            let mut statement = self.database.connection.prepare_cached(sql)?;
            statement.query_map([key.0, key.1], |row| Ok((row.get(0)?, row.get(1)?, bytes(row, 2)?)))?.collect()
        };
        let rows = list().map_err(self.database.failed("read"))?;
        rows.into_iter()
            .map(|(offset, size, digest)| {
                let hash = ContentHash::from_digest(algorithm, &digest)?;
                Ok(Chunk { offset: offset.cast_unsigned(), size: size.cast_unsigned(), hash })
            })
            .collect()
    }

    /// The catalogs that continue this one, sorted by path. Bind mount points are not among them.
    pub fn nested(&self) -> Result<Vec<NestedCatalog>, Error> {
        let list = || -> rusqlite::Result<Vec<(Vec<u8>, String, i64)>> {
            let sql = "SELECT path, sha1, size FROM nested_catalogs ORDER BY path";
            let mut statement = self.database.connection.prepare_cached(sql)?;
            statement.query_map([], |row| Ok((bytes(row, 0)?, row.get(1)?, row.get(2)?)))?.collect()
        };
        let rows = list().map_err(self.database.failed("read"))?;
        rows.into_iter()
            .map(|(path, hash, size)| {
                let path = path.strip_prefix(b"/").unwrap_or(&path).to_vec();
                Ok(NestedCatalog { path, hash: ContentHash::parse(&hash)?, size: size.cast_unsigned() })
            })
            .collect()
    }

    /// The nested catalog that begins at a path.
    pub fn nested_at(&self, path: &[u8]) -> Result<Option<NestedCatalog>, Error> {
        self.reference("SELECT sha1, size FROM nested_catalogs WHERE path = ?1", path)
    }

    /// The catalog that is bound to a path.
    pub fn bound_at(&self, path: &[u8]) -> Result<Option<NestedCatalog>, Error> {
        self.reference("SELECT sha1, size FROM bind_mountpoints WHERE path = ?1", path)
    }

    /// The nested catalog that this one continues in on the way to a path: at the path itself or at a directory above
    /// it. One look into an index for each directory of the path below `from`, the length of the path that this catalog
    /// is mounted at.
    pub fn nested_towards(&self, path: &[u8], from: usize) -> Result<Option<NestedCatalog>, Error> {
        for end in from + 1..=path.len() {
            if matches!(path.get(end), None | Some(b'/'))
                && let Some(nested) = self.nested_at(&path[..end])?
            {
                return Ok(Some(nested));
            }
        }
        Ok(None)
    }

    fn reference(&self, sql: &str, path: &[u8]) -> Result<Option<NestedCatalog>, Error> {
        let stored = [b"/", path].concat();
        let find = || -> rusqlite::Result<Option<(String, Option<i64>)>> {
            let mut statement = self.database.connection.prepare_cached(sql)?;
            statement.query_row([Text(&stored)], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        };
        let Some((hash, size)) = find().map_err(self.database.failed("read"))? else { return Ok(None) };
        let (hash, size) = (ContentHash::parse(&hash)?, size.unwrap_or(0).cast_unsigned());
        Ok(Some(NestedCatalog { path: path.to_vec(), hash, size }))
    }

    /// Tells whether other revisions are mounted in it.
    pub fn has_bind_mountpoints(&self) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM bind_mountpoints)";
        self.database.connection.query_row(sql, [], |row| row.get(0)).map_err(self.database.failed("read"))
    }

    /// The revision of the repository that it was last changed in.
    pub fn revision(&self) -> Result<u64, Error> {
        self.number("revision").map(|revision| revision.unwrap_or(0).cast_unsigned())
    }

    /// When it was last changed, seconds since 1970.
    pub fn last_modified(&self) -> Result<i64, Error> {
        self.number("last_modified").map(|time| time.unwrap_or(0))
    }

    /// The catalog before it; `None` for the first.
    pub fn previous_revision(&self) -> Result<Option<ContentHash>, Error> {
        let text = self.database.property("previous_revision")?.filter(|text| !text.is_empty());
        Ok(text.map(|text| ContentHash::parse(&text)).transpose()?.filter(|hash| !hash.is_null()))
    }

    /// The counters as the catalog states them.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        Statistics::load(&self.database)
    }

    /// The counters of this catalog alone as its rows state them: what `statistics().own` must be.
    pub fn recount(&self) -> Result<Counters, Error> {
        self.count("")
    }

    /// Counts the rows that a join selects.
    pub(super) fn count(&self, join: &str) -> Result<Counters, Error> {
        let columns = Entry::columns(self.schema_revision);
        let sql = format!(
            "SELECT {columns}, (SELECT count(*) FROM chunks \
             WHERE chunks.md5path_1 = catalog.md5path_1 AND chunks.md5path_2 = catalog.md5path_2) FROM catalog {join}"
        );
        let count = || -> rusqlite::Result<Counters> {
            let mut counters = Counters::default();
            let mut statement = self.database.connection.prepare_cached(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                counters.count(&Entry::from_row(row)?, row.get(12)?, 1);
            }
            Ok(counters)
        };
        count().map_err(self.database.failed("read"))
    }

    /// Directories and the number of entries directly in each, by the directory's key.
    pub(in super::super) fn children_by_directory(&self) -> Result<HashMap<PathHash, u64>, Error> {
        let count = || -> rusqlite::Result<HashMap<PathHash, u64>> {
            let sql = "SELECT parent_1, parent_2, count(*) FROM catalog GROUP BY parent_1, parent_2";
            let mut statement = self.database.connection.prepare(sql)?;
            let rows = statement
                .query_map([], |row| Ok((PathHash(row.get(0)?, row.get(1)?), row.get::<_, i64>(2)?.cast_unsigned())))?;
            rows.collect()
        };
        count().map_err(self.database.failed("read"))
    }

    /// The directories in a directory.
    pub(in super::super) fn directories(&self, directory: &[u8]) -> Result<Vec<Entry>, Error> {
        let key = PathHash::of(directory);
        let columns = Entry::columns(self.schema_revision);
        let sql =
            format!("SELECT {columns} FROM catalog WHERE parent_1 = ?1 AND parent_2 = ?2 AND flags & 1 ORDER BY name");
        let list = || -> rusqlite::Result<Vec<Entry>> {
            let mut statement = self.database.connection.prepare_cached(&sql)?;
            statement.query_map([key.0, key.1], Entry::from_row)?.collect()
        };
        list().map_err(self.database.failed("read"))
    }

    /// Entries in it, hidden ones among them.
    pub fn entries(&self) -> Result<u64, Error> {
        let count: i64 = self
            .database
            .connection
            .query_row("SELECT count(*) FROM catalog", [], |row| row.get(0))
            .map_err(self.database.failed("read"))?;
        Ok(count.cast_unsigned())
    }

    fn number(&self, key: &str) -> Result<Option<i64>, Error> {
        Ok(self.database.property(key)?.and_then(|text| text.parse().ok()))
    }
}
