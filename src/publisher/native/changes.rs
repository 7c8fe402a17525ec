//! What a transaction touched, as evidence: the net effect against the revision that it started from.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, ToSql, params};

use crate::domain::tree::{ChangedPath, EntryPath};
use crate::publisher::PublisherError;

const ADDED: u8 = 0;
const MODIFIED: u8 = 1;
const REMOVED: u8 = 2;

/// Nothing is written to the file before 4 MiB of paths have come together.
const SCHEMA: &str = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA cache_size = -4096;
    BEGIN;
    CREATE TABLE changes (path BLOB PRIMARY KEY, change INTEGER) WITHOUT ROWID;";

/// The touched paths, in a file: there may be millions. Below a removed directory that is made anew, what is put counts as
/// added.
#[derive(Debug)]
pub(super) struct Changes(Connection);

impl Changes {
    /// None yet. The file is in a directory of the transaction's, without a name.
    pub(super) fn open(scratch: &Path) -> Result<Self, PublisherError> {
        let path = scratch.join("changes");
        let connect = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(&path)?;
            connection.execute_batch(SCHEMA)?;
            Ok(connection)
        };
        let connection = connect().map_err(failed)?;
        let gone = fs::remove_file(&path);
        gone.map_err(|source| PublisherError::Io { what: format!("remove {}", path.display()), source })?;
        Ok(Self(connection))
    }

    pub(super) fn added(&self, path: &EntryPath) -> Result<(), PublisherError> {
        let sql = "INSERT INTO changes VALUES (?1, ?2)
                   ON CONFLICT (path) DO UPDATE SET change = iif(change = ?3, ?4, ?2)";
        self.run(sql, params![path.as_bytes(), ADDED, REMOVED, MODIFIED]).map(drop)
    }

    /// Another entry or other metadata; with it, all below a former directory went unless it is still one.
    pub(super) fn modified(&self, path: &EntryPath, is_directory: bool) -> Result<(), PublisherError> {
        if !is_directory {
            self.forget_below(path)?;
        }
        let sql = "INSERT INTO changes VALUES (?1, ?2) ON CONFLICT (path) DO NOTHING";
        self.run(sql, params![path.as_bytes(), MODIFIED]).map(drop)
    }

    pub(super) fn removed(&self, path: &EntryPath) -> Result<(), PublisherError> {
        self.forget_below(path)?;
        let sql = "DELETE FROM changes WHERE path = ?1 AND change = ?2";
        if self.run(sql, params![path.as_bytes(), ADDED])? > 0 {
            return Ok(());
        }
        let sql = "INSERT OR REPLACE INTO changes VALUES (?1, ?2)";
        self.run(sql, params![path.as_bytes(), REMOVED]).map(drop)
    }

    fn forget_below(&self, path: &EntryPath) -> Result<(), PublisherError> {
        // The byte behind the slash is the zero.
        let (first, end) = ([path.as_bytes(), b"/"].concat(), [path.as_bytes(), b"0"].concat());
        self.run("DELETE FROM changes WHERE path > ?1 AND path < ?2", params![first, end]).map(drop)
    }

    /// Calls with each, sorted by path.
    pub(super) fn each(&self, visit: &mut dyn FnMut(ChangedPath)) -> Result<(), PublisherError> {
        let mut read = || -> rusqlite::Result<()> {
            let mut statement = self.0.prepare_cached("SELECT path, change FROM changes ORDER BY path")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let bad = |error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, error);
                let path = EntryPath::new(row.get_ref(0)?.as_blob()?).map_err(|error| bad(error.into()))?;
                visit(match row.get(1)? {
                    ADDED => ChangedPath::Added(path),
                    MODIFIED => ChangedPath::Modified(path),
                    _ => ChangedPath::Removed(path),
                });
            }
            Ok(())
        };
        read().map_err(failed)
    }

    fn run(&self, sql: &str, values: &[&dyn ToSql]) -> Result<usize, PublisherError> {
        let run = || self.0.prepare_cached(sql)?.execute(values);
        run().map_err(failed)
    }
}

fn failed(error: rusqlite::Error) -> PublisherError {
    let source = std::io::Error::other(error);
    PublisherError::Io {
        what: "note the changed paths in the worker's temporary directory (is it full?)".into(),
        source,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn changes() -> Changes {
        Changes::open(tempfile::tempdir().unwrap().path()).unwrap()
    }

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    fn shown(changes: &Changes) -> String {
        let mut shown = Vec::new();
        changes.each(&mut |change| shown.push(change.to_string())).unwrap();
        shown.join(", ")
    }

    #[test]
    fn only_the_net_effect_is_listed() {
        let changes = changes();
        changes.added(&path("new")).unwrap();
        changes.modified(&path("new"), false).unwrap();
        changes.modified(&path("old"), false).unwrap();
        changes.removed(&path("old")).unwrap();
        changes.added(&path("gone")).unwrap();
        changes.removed(&path("gone")).unwrap();
        changes.removed(&path("again")).unwrap();
        changes.added(&path("again")).unwrap();
        assert_eq!(shown(&changes), "M /again, A /new, D /old");
    }

    #[test]
    fn what_lay_below_goes_with_its_directory() {
        let changes = changes();
        for added in ["a", "a-b", "a/b", "a/b/c", "a0"] {
            changes.added(&path(added)).unwrap();
        }
        changes.modified(&path("a"), true).unwrap();
        changes.removed(&path("a/b")).unwrap();
        assert_eq!(shown(&changes), "A /a, A /a-b, A /a0");
        changes.added(&path("a/x")).unwrap();
        changes.modified(&path("a"), false).unwrap();
        assert_eq!(shown(&changes), "A /a, A /a-b, A /a0");
    }

    #[test]
    fn more_than_memory_holds_comes_back_sorted() {
        let changes = changes();
        for number in 0..60_000_u32 {
            let name = format!("{:08x}/{}", number.wrapping_mul(2_654_435_769), "x".repeat(100));
            changes.added(&path(&name)).unwrap();
        }
        let (mut last, mut count) = (String::new(), 0);
        changes
            .each(&mut |change| {
                let next = change.to_string();
                assert!(last < next);
                (last, count) = (next, count + 1);
            })
            .unwrap();
        assert_eq!(count, 60_000);
    }
}
