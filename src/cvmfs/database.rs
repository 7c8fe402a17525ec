//! What catalogs, histories and reflogs have in common: SQLite files with a table `properties` (`cvmfs/sql_impl.h`).

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, OptionalExtension, ToSql};

use super::Error;

/// Most bytes of a row: ours stay below 200 KiB, of which extended attributes are nearly all.
const MOST_ROW_BYTES: i32 = 16 << 20;

/// Bytes of a page of the files that we make; the real tools have the same.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// Bytes of pages that a file being edited has in memory.
pub(crate) const CACHE_BYTES: u64 = 32 << 20;

/// TEXT of any bytes. CernVM-FS binds names with their length and never looks at the encoding, so a name that is not
/// UTF-8 stands in the column as it is.
pub(crate) struct Text<'a>(pub(crate) &'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

/// The bytes of a TEXT or BLOB column; NULL is empty.
pub(crate) fn bytes(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Vec<u8>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
        _ => Vec::new(),
    })
}

/// One such file.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) connection: Connection,
    /// Names the file in errors: "the catalog …".
    pub(crate) what: String,
}

impl Database {
    /// Opens a file that nobody writes.
    pub(crate) fn open_read_only(path: &Path, what: impl Into<String>) -> Result<Self, Error> {
        let database = Self::open(path, OpenFlags::SQLITE_OPEN_READ_ONLY, what.into())?;
        database.check_plain()?;
        Ok(database)
    }

    /// Opens a private copy for editing. Neither journal nor syncs: after a crash the copy is thrown away.
    pub(crate) fn open_for_editing(path: &Path, what: impl Into<String>) -> Result<Self, Error> {
        let database = Self::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE, what.into())?;
        database.check_plain()?;
        database.no_journal()?;
        Ok(database)
    }

    /// Makes a new file with its properties and runs `schema`.
    pub(crate) fn create(
        path: &Path,
        what: impl Into<String>,
        schema_version: &str,
        schema_revision: u32,
        schema: &str,
    ) -> Result<Self, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let database = Self::open(path, flags, what.into())?;
        // Before the first table: the size of a page cannot change later.
        database.run(&format!("PRAGMA page_size = {PAGE_BYTES};"))?;
        database.no_journal()?;
        database.begin()?;
        database.run("CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));")?;
        database.set_property("schema", schema_version)?;
        database.set_property("schema_revision", &schema_revision.to_string())?;
        database.run(schema)?;
        database.commit()?;
        Ok(database)
    }

    fn open(path: &Path, flags: OpenFlags, what: String) -> Result<Self, Error> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connect = || {
            let connection = Connection::open_with_flags(path, flags)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
            connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MOST_ROW_BYTES)?;
            Ok(connection)
        };
        let connection = connect().map_err(Error::database(format!("open {what}")))?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self { connection, what })
    }

    /// Refuses a file in which a query of ours would run somebody else's program: a view can go on for ever, a computed
    /// column can ask for any amount of memory. No tool writes those.
    fn check_plain(&self) -> Result<(), Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM pragma_table_list AS t, pragma_table_xinfo(t.name) AS c \
                   WHERE t.type <> 'table' OR c.hidden <> 0)";
        if self.connection.query_row(sql, [], |row| row.get(0)).map_err(self.failed("read"))? {
            return Err(Error::Unsupported(format!("{} with views, virtual tables or computed columns", self.what)));
        }
        Ok(())
    }

    fn no_journal(&self) -> Result<(), Error> {
        let cache = CACHE_BYTES >> 10;
        self.run(&format!(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE; \
             PRAGMA temp_store = MEMORY; PRAGMA cache_size = -{cache}; PRAGMA foreign_keys = OFF;",
        ))
    }

    /// Runs statements that give no rows that matter.
    pub(crate) fn run(&self, sql: &str) -> Result<(), Error> {
        self.connection.execute_batch(sql).map_err(self.failed("write"))
    }

    /// Starts a transaction.
    pub(crate) fn begin(&self) -> Result<(), Error> {
        self.run("BEGIN")
    }

    /// Ends it.
    pub(crate) fn commit(&self) -> Result<(), Error> {
        self.run("COMMIT")
    }

    /// Closes the file, with everything written to it.
    pub(crate) fn close(self) -> Result<(), Error> {
        let what = format!("close {}", self.what);
        self.connection.close().map_err(|(_, error)| Error::database(what)(error))
    }

    /// A property's text.
    pub(crate) fn property(&self, key: &str) -> Result<Option<String>, Error> {
        // Numbers stand there as text or as integers, depending on which tool wrote them.
        self.connection
            .query_row("SELECT CAST(value AS TEXT) FROM properties WHERE key = ?1", [key], |row| row.get(0))
            .optional()
            .map_err(self.failed("read"))
    }

    /// The same for a path, which can have any bytes.
    pub(crate) fn path_property(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.connection
            .query_row("SELECT value FROM properties WHERE key = ?1", [key], |row| bytes(row, 0))
            .optional()
            .map_err(self.failed("read"))
    }

    /// Sets a property.
    pub(crate) fn set_property(&self, key: &str, value: &str) -> Result<(), Error> {
        self.connection
            .execute("INSERT OR REPLACE INTO properties (key, value) VALUES (?1, ?2)", [key, value])
            .map(drop)
            .map_err(self.failed("write"))
    }

    /// Refuses another schema than the one expected; gives the revision within it.
    pub(crate) fn schema_revision(&self, version: f64) -> Result<u32, Error> {
        let found = self.property("schema")?.unwrap_or_default();
        if found.parse::<f64>().is_ok_and(|found| (found - version).abs() < 0.01) {
            let revision = self.property("schema_revision")?;
            return Ok(revision.and_then(|text| text.parse().ok()).unwrap_or(0));
        }
        Err(Error::Unsupported(format!("{} of schema {found:?}", self.what)))
    }

    /// Wraps an SQLite error about this file.
    pub(crate) fn failed(&self, verb: &str) -> impl FnOnce(rusqlite::Error) -> Error {
        Error::database(format!("{verb} {}", self.what))
    }
}
