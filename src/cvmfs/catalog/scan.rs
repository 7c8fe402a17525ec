//! Reading all rows of a catalog, the damaged ones too: what a check needs and a reader does not.

use super::super::Error;
use super::super::database::bytes;
use super::super::hash::ContentHash;
use super::{Catalog, Entry, NestedCatalog, PathHash};

/// A row of the main table.
#[derive(Debug)]
pub(in crate::cvmfs) struct Row {
    /// The hash of its path.
    pub(in crate::cvmfs) key: PathHash,
    /// The hash of its directory's path.
    pub(in crate::cvmfs) parent: PathHash,
    /// What it says.
    pub(in crate::cvmfs) entry: Entry,
    /// Bytes in the column `hash`: 20, or 0 for none.
    pub(in crate::cvmfs) digest_bytes: usize,
    /// Whether the column `xattr` holds anything, even nothing.
    pub(in crate::cvmfs) has_xattr: bool,
}

/// A row of the table of chunks.
#[derive(Debug)]
pub(in crate::cvmfs) struct ChunkRow {
    /// The hash of the file's path.
    pub(in crate::cvmfs) key: PathHash,
    /// Where in the file it starts.
    pub(in crate::cvmfs) offset: i64,
    /// Its bytes, uncompressed.
    pub(in crate::cvmfs) size: i64,
    /// Its digest, of any length.
    pub(in crate::cvmfs) digest: Vec<u8>,
}

/// A row of the tables of nested catalogs and bind mount points.
#[derive(Debug)]
pub(in crate::cvmfs) struct Reference {
    /// The path as it is stored, with its leading slash.
    pub(in crate::cvmfs) path: Vec<u8>,
    /// What it leads to; the text that makes no sense otherwise.
    pub(in crate::cvmfs) nested: Result<NestedCatalog, String>,
    /// Whether it stands among the bind mount points.
    pub(in crate::cvmfs) bind: bool,
}

impl Catalog {
    /// Visits all rows in the order that they are stored in, or those of directories alone. A row that holds values of
    /// a wrong type comes as its number.
    pub(in crate::cvmfs) fn scan(
        &self,
        directories_only: bool,
        visit: &mut dyn FnMut(Result<Row, i64>),
    ) -> Result<(), Error> {
        let columns = Entry::columns(self.schema_revision());
        let filter = if directories_only { "WHERE flags & 1" } else { "" };
        let sql = format!("SELECT {columns}, md5path_1, md5path_2, parent_1, parent_2, rowid FROM catalog {filter}");
        let mut scan = || -> rusqlite::Result<()> {
            let mut statement = self.database.connection.prepare(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let number: i64 = row.get(16)?;
                visit(Row::read(row).map_err(|_| number));
            }
            Ok(())
        };
        scan().map_err(self.database.failed("read"))
    }

    /// Visits the chunks of all files, those of a file together and in their order.
    pub(in crate::cvmfs) fn scan_chunks(&self, visit: &mut dyn FnMut(ChunkRow)) -> Result<(), Error> {
        let sql = "SELECT md5path_1, md5path_2, offset, size, hash FROM chunks ORDER BY md5path_1, md5path_2, offset";
        let mut scan = || -> rusqlite::Result<()> {
            let mut statement = self.database.connection.prepare(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let key = PathHash(row.get(0)?, row.get(1)?);
                visit(ChunkRow { key, offset: row.get(2)?, size: row.get(3)?, digest: bytes(row, 4)? });
            }
            Ok(())
        };
        scan().map_err(self.database.failed("read"))
    }

    /// All references to other catalogs, bind mount points among them, sorted by path.
    pub(in crate::cvmfs) fn references(&self) -> Result<Vec<Reference>, Error> {
        let sql = "SELECT path, sha1, size, 0 FROM nested_catalogs \
                   UNION ALL SELECT path, sha1, size, 1 FROM bind_mountpoints ORDER BY 1";
        let list = || -> rusqlite::Result<Vec<Reference>> {
            self.database.connection.prepare(sql)?.query_map([], Reference::read)?.collect()
        };
        list().map_err(self.database.failed("read"))
    }

    /// The path that it begins at, as it states it; empty for a root catalog.
    pub(in crate::cvmfs) fn root_prefix(&self) -> Result<Vec<u8>, Error> {
        let prefix = self.database.path_property("root_prefix")?.unwrap_or_default();
        Ok(prefix.strip_prefix(b"/").map(<[u8]>::to_vec).unwrap_or(prefix))
    }

    /// The names of the counters that it keeps.
    pub(in crate::cvmfs) fn counter_names(&self) -> Result<Vec<String>, Error> {
        let list = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.database.connection.prepare("SELECT counter FROM statistics")?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        list().map_err(self.database.failed("read"))
    }

    /// What SQLite finds wrong with the file itself, one line a fault.
    pub(in crate::cvmfs) fn damage(&self) -> Result<Vec<String>, Error> {
        let list = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.database.connection.prepare("PRAGMA integrity_check(10)")?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        let mut lines = list().map_err(self.database.failed("read"))?;
        lines.retain(|line| line != "ok");
        Ok(lines)
    }
}

impl Row {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            key: PathHash(row.get(12)?, row.get(13)?),
            parent: PathHash(row.get(14)?, row.get(15)?),
            entry: Entry::from_row(row)?,
            digest_bytes: row.get_ref(9)?.as_bytes_or_null()?.map_or(0, <[u8]>::len),
            has_xattr: row.get_ref(11)? != rusqlite::types::ValueRef::Null,
        })
    }
}

impl Reference {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let (path, text, size) = (bytes(row, 0)?, bytes(row, 1)?, row.get::<_, Option<i64>>(2)?);
        let text = String::from_utf8_lossy(&text).into_owned();
        let stripped = path.strip_prefix(b"/").unwrap_or(&path).to_vec();
        let nested = match ContentHash::parse(&text) {
            Ok(hash) => Ok(NestedCatalog { path: stripped, hash, size: size.unwrap_or(0).cast_unsigned() }),
            Err(_) => Err(text),
        };
        Ok(Self { path, nested, bind: row.get(3)? })
    }
}
