//! Editing a private copy of one catalog in place: the cost grows with the change, not with the catalog.
//!
//! Here are rows and their counters; what a row means for other rows and other catalogs is [`super::super::edit`]'s.

use std::collections::HashSet;
use std::path::Path;

use rusqlite::params;

use super::super::Error;
use super::super::database::{CACHE_BYTES, Database, PAGE_BYTES};
use super::super::hash::ContentHash;
use super::path::split;
use super::{Catalog, Chunk, Counters, Entry, Flags, NestedCatalog, PathHash, Statistics, schema};

/// Free pages that are not worth the time that it takes to write the file anew: 256 KiB.
const MOST_FREE_PAGES: i64 = 64;

/// Entries below a directory, as a temporary table.
const SUBTREE: &str =
    "CREATE TEMP TABLE IF NOT EXISTS subtree (a INTEGER, b INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID;
DELETE FROM temp.subtree;";

/// The names of the main table's columns, for copying rows.
const COLUMNS: &str = "md5path_1, md5path_2, parent_1, parent_2, hardlinks, hash, size, mode, mtime, mtimens, flags, \
                       name, symlink, uid, gid, xattr";

/// Hard-link groups whose counts must be put right, by directory.
pub(crate) type Groups = HashSet<(PathHash, u32)>;

/// A catalog being edited, in one SQLite transaction. Dropping it leaves the copy in any state.
#[derive(Debug)]
pub(crate) struct CatalogEditor {
    catalog: Catalog,
    statistics: Statistics,
    /// The highest hard-link group in use, once it was asked for.
    last_group: Option<u32>,
}

impl CatalogEditor {
    /// Opens a copy of a catalog. One of a schema that cannot be written is refused, by name.
    pub(crate) fn open(path: &Path, what: &str) -> Result<Self, Error> {
        let catalog = Catalog::over(Database::open_for_editing(path, what)?)?;
        if catalog.schema_revision() != schema::REVISION {
            let revision = catalog.schema_revision();
            return Err(Error::Unsupported(format!("publishing on a catalog of schema revision {revision}")));
        }
        let statistics = catalog.statistics()?;
        catalog.database.begin()?;
        Ok(Self { catalog, statistics, last_group: None })
    }

    /// The catalog as it is now.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The counters as they are now.
    pub(crate) fn statistics_mut(&mut self) -> &mut Statistics {
        &mut self.statistics
    }

    /// Bytes of its pages that may be in memory.
    pub(crate) fn cached(&self) -> Result<u64, Error> {
        let database = &self.catalog.database;
        let pages =
            || database.connection.prepare_cached("PRAGMA page_count")?.query_row([], |row| row.get::<_, i64>(0));
        let pages = pages().map_err(database.failed("read"))?;
        Ok((pages.cast_unsigned() * PAGE_BYTES).min(CACHE_BYTES))
    }

    /// Everything in it and below it.
    pub(crate) fn total(&self) -> Counters {
        let mut total = self.statistics.own;
        total.add(&self.statistics.subtree);
        total
    }

    /// Writes a row in place of `old`, which is the row of the same path if there is one.
    pub(crate) fn write(
        &mut self,
        path: &[u8],
        old: Option<&Entry>,
        row: &Entry,
        chunks: &[Chunk],
    ) -> Result<(), Error> {
        if let Some(old) = old {
            self.forget(path, old)?;
        }
        self.store(path, row)?;
        if !chunks.is_empty() {
            self.store_chunks(path, chunks)?;
        }
        self.statistics.own.count(row, chunks.len() as i64, 1);
        Ok(())
    }

    /// Changes the metadata of a row that has no chunks to lose: a directory, or a file whose content stays.
    pub(crate) fn update(&mut self, path: &[u8], old: &Entry, row: &Entry) -> Result<(), Error> {
        // The same number of chunks is taken out and put in.
        self.statistics.own.count(old, 0, -1);
        self.statistics.own.count(row, 0, 1);
        self.store(path, row)
    }

    /// Removes a row.
    pub(crate) fn delete(&mut self, path: &[u8], old: &Entry) -> Result<(), Error> {
        self.forget(path, old)?;
        let key = PathHash::of(path);
        let sql = "DELETE FROM catalog WHERE md5path_1 = ?1 AND md5path_2 = ?2";
        self.execute(sql, params![key.0, key.1]).map(drop)
    }

    /// Removes all rows below a directory, but not its own; `below` must have been called for it.
    pub(crate) fn delete_below(&mut self) -> Result<(), Error> {
        let gone = self.count_below()?;
        self.statistics.own.subtract(&gone);
        self.catalog.database.run(
            "DELETE FROM chunks WHERE (md5path_1, md5path_2) IN (SELECT a, b FROM temp.subtree);
             DELETE FROM catalog WHERE (md5path_1, md5path_2) IN (SELECT a, b FROM temp.subtree);
             DELETE FROM temp.subtree;",
        )
    }

    /// Finds all rows below a directory, as far as they are in this catalog, and gives the first that has one of `flags`.
    pub(crate) fn below(&mut self, top: &[u8], flags: u32) -> Result<Option<Entry>, Error> {
        let (key, database) = (PathHash::of(top), &self.catalog.database);
        database.run(SUBTREE)?;
        // UNION, not UNION ALL: a made-up catalog must not send us in circles.
        let sql = "INSERT INTO temp.subtree WITH RECURSIVE below(a, b) AS (
                     SELECT md5path_1, md5path_2 FROM catalog WHERE parent_1 = ?1 AND parent_2 = ?2
                     UNION SELECT c.md5path_1, c.md5path_2 FROM catalog c JOIN below ON c.parent_1 = a AND c.parent_2 = b)
                   SELECT a, b FROM below WHERE NOT (a = ?1 AND b = ?2)";
        self.execute(sql, params![key.0, key.1])?;
        let columns = Entry::columns(schema::REVISION);
        let sql = format!(
            "SELECT {columns} FROM catalog JOIN temp.subtree ON md5path_1 = a AND md5path_2 = b
             WHERE flags & ?1 <> 0 LIMIT 1"
        );
        let found = || {
            let mut statement = database.connection.prepare_cached(&sql)?;
            statement.query_map([flags], Entry::from_row)?.next().transpose()
        };
        found().map_err(database.failed("read"))
    }

    fn count_below(&self) -> Result<Counters, Error> {
        self.catalog.count("JOIN temp.subtree ON md5path_1 = a AND md5path_2 = b")
    }

    /// Moves all rows below a directory to a new catalog, which begins there; `below` must have been called for it.
    /// References to nested catalogs are the caller's.
    pub(crate) fn move_below(&mut self, mount: &[u8], root: &Entry, target: &Path) -> Result<(), Error> {
        schema::create_nested(target, mount, root)?;
        let moved = self.count_below()?;
        self.statistics.own.subtract(&moved);
        let columns = COLUMNS;
        // The byte behind the slash is the zero.
        let (first, end) = (text_literal(&[b"/", mount, b"/"].concat()), text_literal(&[b"/", mount, b"0"].concat()));
        self.attached(
            target,
            &format!(
                "INSERT INTO other.bind_mountpoints (path, sha1, size) SELECT path, sha1, size FROM main.bind_mountpoints
               WHERE path > {first} AND path < {end};
             DELETE FROM main.bind_mountpoints WHERE path > {first} AND path < {end};
             INSERT INTO other.catalog ({columns}) SELECT {columns} FROM main.catalog
               WHERE (md5path_1, md5path_2) IN (SELECT a, b FROM temp.subtree);
             INSERT INTO other.chunks (md5path_1, md5path_2, offset, size, hash)
               SELECT md5path_1, md5path_2, offset, size, hash FROM main.chunks
               WHERE (md5path_1, md5path_2) IN (SELECT a, b FROM temp.subtree);
             DELETE FROM main.chunks WHERE (md5path_1, md5path_2) IN (SELECT a, b FROM temp.subtree);
             DELETE FROM main.catalog WHERE (md5path_1, md5path_2) IN (SELECT a, b FROM temp.subtree);
             DELETE FROM temp.subtree;"
            ),
        )
    }

    /// Takes in all rows of a nested catalog's file but its root's. Its hard-link groups get new numbers.
    pub(crate) fn take_in(&mut self, nested: &Path, mount: &[u8]) -> Result<(), Error> {
        let offset = i64::from(self.last_group()?) << 32;
        let (key, columns) = (PathHash::of(mount), COLUMNS);
        let taken = columns.replace("hardlinks", &format!("hardlinks + (hardlinks >> 32 > 0) * {offset}"));
        self.last_group = None;
        let (a, b) = (key.0, key.1);
        self.attached(
            nested,
            &format!(
                "INSERT INTO main.catalog ({columns}) SELECT {taken} FROM other.catalog
               WHERE NOT (md5path_1 = {a} AND md5path_2 = {b});
             INSERT INTO main.chunks (md5path_1, md5path_2, offset, size, hash)
               SELECT md5path_1, md5path_2, offset, size, hash FROM other.chunks;
             INSERT INTO main.bind_mountpoints (path, sha1, size) SELECT path, sha1, size FROM other.bind_mountpoints;"
            ),
        )
    }

    /// Runs statements with another catalog's file attached, which is impossible within a transaction.
    fn attached(&self, other: &Path, sql: &str) -> Result<(), Error> {
        let database = &self.catalog.database;
        database.commit()?;
        use std::os::unix::ffi::OsStrExt;
        let path = other.as_os_str().as_bytes();
        database
            .connection
            .execute("ATTACH ?1 AS other", [super::super::database::Text(path)])
            .map_err(database.failed("attach another catalog to"))?;
        database.run("PRAGMA other.journal_mode = OFF; PRAGMA other.synchronous = OFF;")?;
        database.begin()?;
        database.run(sql)?;
        database.commit()?;
        database.run("DETACH other")?;
        database.begin()
    }

    /// A hard-link group that no entry has yet.
    pub(crate) fn new_group(&mut self) -> Result<u32, Error> {
        let next = self.last_group()? + 1;
        self.last_group = Some(next);
        Ok(next)
    }

    fn last_group(&mut self) -> Result<u32, Error> {
        if let Some(last) = self.last_group {
            return Ok(last);
        }
        let database = &self.catalog.database;
        let sql = "SELECT coalesce(max(hardlinks >> 32), 0) FROM catalog";
        let last: i64 = database.connection.query_row(sql, [], |row| row.get(0)).map_err(database.failed("read"))?;
        let last = u32::try_from(last).map_err(|_| Error::malformed(&database.what, "a negative hard-link group"))?;
        self.last_group = Some(last);
        Ok(last)
    }

    /// Puts the link counts of hard-link groups right. What is alone in its group is no hard link any more.
    pub(crate) fn settle_groups(&mut self, groups: &Groups) -> Result<(), Error> {
        for (directory, group) in groups {
            let (group, key) = (i64::from(*group), params![directory.0, directory.1, i64::from(*group)]);
            let database = &self.catalog.database;
            let sql = "SELECT count(*) FROM catalog WHERE parent_1 = ?1 AND parent_2 = ?2 AND hardlinks >> 32 = ?3";
            let links: i64 = database
                .connection
                .prepare_cached(sql)
                .and_then(|mut statement| statement.query_row(key, |row| row.get(0)))
                .map_err(database.failed("read"))?;
            let hardlinks = if links == 1 { 1 } else { group << 32 | links };
            let sql =
                "UPDATE catalog SET hardlinks = ?4 WHERE parent_1 = ?1 AND parent_2 = ?2 AND hardlinks >> 32 = ?3";
            self.execute(sql, params![directory.0, directory.1, group, hardlinks])?;
        }
        Ok(())
    }

    /// Names a nested catalog, or names its new state.
    pub(crate) fn set_nested(&mut self, nested: &NestedCatalog) -> Result<(), Error> {
        let path = [b"/", &nested.path[..]].concat();
        let values = params![super::super::database::Text(&path), nested.hash.to_string(), nested.size.cast_signed()];
        self.execute("INSERT OR REPLACE INTO nested_catalogs (path, sha1, size) VALUES (?1, ?2, ?3)", values).map(drop)
    }

    /// Makes a directory one at which another revision is mounted: nothing but tests does so.
    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    pub(crate) fn bind_for_tests(&mut self, path: &[u8]) {
        let old = self.catalog.lookup(path).unwrap().unwrap();
        self.update(path, &old, &Entry { flags: Flags(old.flags.0 | Flags::BIND_MOUNTPOINT), ..old.clone() }).unwrap();
        let path = [b"/", path].concat();
        let sql = "INSERT INTO bind_mountpoints (path, sha1, size) VALUES (?1, ?2, 0)";
        self.execute(sql, params![super::super::database::Text(&path), "0".repeat(40)]).unwrap();
    }

    /// Takes the reference to a nested catalog out.
    pub(crate) fn remove_nested(&mut self, mount: &[u8]) -> Result<(), Error> {
        let path = [b"/", mount].concat();
        let sql = "DELETE FROM nested_catalogs WHERE path = ?1";
        self.execute(sql, params![super::super::database::Text(&path)]).map(drop)
    }

    /// Writes everything to the file and closes it, to be opened again later.
    pub(crate) fn park(self) -> Result<(), Error> {
        let database = self.catalog.database;
        self.statistics.store(&database)?;
        database.commit()?;
        database.close()
    }

    /// Sets for how many seconds clients believe a manifest: they go by the root catalog.
    pub(crate) fn set_ttl(&self, seconds: u64) -> Result<(), Error> {
        self.catalog.database.set_property("TTL", &seconds.to_string())
    }

    /// Makes it the catalog of a revision and closes the file. A nested catalog counts revisions of its own.
    pub(crate) fn finish(self, revision: Option<u64>, previous: Option<&ContentHash>, now: i64) -> Result<(), Error> {
        let revision = match revision {
            Some(revision) => revision,
            None => self.catalog.revision()? + 1,
        };
        let database = self.catalog.database;
        self.statistics.store(&database)?;
        database.set_property("revision", &revision.to_string())?;
        if let Some(previous) = previous {
            database.set_property("previous_revision", &previous.to_string())?;
        }
        database.set_property("last_modified", &now.to_string())?;
        database.commit()?;
        // Rows that went leave free pages, which clients would download for ever.
        let count = |pragma: &str| database.connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        let free = count("freelist_count").map_err(database.failed("read"))?;
        let pages = count("page_count").map_err(database.failed("read"))?;
        if free > MOST_FREE_PAGES && free * 4 > pages {
            database.run("VACUUM")?;
        }
        database.close()
    }

    /// Takes an entry out of the counters, and its chunks out of their table.
    fn forget(&mut self, path: &[u8], entry: &Entry) -> Result<(), Error> {
        let mut chunks = 0;
        if entry.flags.has(Flags::CHUNKED) {
            let key = PathHash::of(path);
            let sql = "DELETE FROM chunks WHERE md5path_1 = ?1 AND md5path_2 = ?2";
            chunks = self.execute(sql, params![key.0, key.1])?;
        }
        self.statistics.own.count(entry, chunks as i64, -1);
        Ok(())
    }

    fn store(&self, path: &[u8], row: &Entry) -> Result<(), Error> {
        let parent = split(path).map_or(PathHash::NONE, |(parent, _)| PathHash::of(parent));
        let database = &self.catalog.database;
        row.store(&database.connection, PathHash::of(path), parent).map_err(database.failed("write"))
    }

    fn store_chunks(&self, path: &[u8], chunks: &[Chunk]) -> Result<(), Error> {
        let key = PathHash::of(path);
        let sql = "INSERT INTO chunks (md5path_1, md5path_2, offset, size, hash) VALUES (?1, ?2, ?3, ?4, ?5)";
        for chunk in chunks {
            let (offset, size) = (chunk.offset.cast_signed(), chunk.size.cast_signed());
            self.execute(sql, params![key.0, key.1, offset, size, chunk.hash.digest()])?;
        }
        Ok(())
    }

    fn execute(&self, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<usize, Error> {
        let database = &self.catalog.database;
        let execute = || database.connection.prepare_cached(sql)?.execute(values);
        execute().map_err(database.failed("write"))
    }
}

/// A path as it stands in an SQL statement, whatever its bytes are.
fn text_literal(path: &[u8]) -> String {
    format!("CAST(x'{}' AS TEXT)", hex::encode(path))
}
