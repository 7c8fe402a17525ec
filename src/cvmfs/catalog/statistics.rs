//! The counters that a catalog keeps of itself and of the catalogs below it (`cvmfs/catalog_counters.h`).

use super::super::Error;
use super::super::database::Database;
use super::{Entry, Flags};

/// One set of counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Regular files.
    pub regular: i64,
    /// Symbolic links.
    pub symlink: i64,
    /// Devices, sockets, FIFOs.
    pub special: i64,
    /// Directories, the root among them.
    pub directory: i64,
    /// Nested catalogs.
    pub nested: i64,
    /// Files in chunks.
    pub chunked: i64,
    /// The chunks of those.
    pub chunks: i64,
    /// Bytes in all regular files.
    pub file_size: i64,
    /// Bytes in files in chunks.
    pub chunked_size: i64,
    /// Entries with extended attributes.
    pub xattr: i64,
    /// Files whose content lies elsewhere.
    pub external: i64,
    /// Bytes in those.
    pub external_file_size: i64,
}

fn add(counter: &mut i64, more: i64) {
    *counter = counter.wrapping_add(more);
}

impl Counters {
    /// The counters by the names that they have in the table, without `self_` or `subtree_`.
    pub fn named(&self) -> [(&'static str, i64); 12] {
        [
            ("regular", self.regular),
            ("symlink", self.symlink),
            ("special", self.special),
            ("dir", self.directory),
            ("nested", self.nested),
            ("chunked", self.chunked),
            ("chunks", self.chunks),
            ("file_size", self.file_size),
            ("chunked_size", self.chunked_size),
            ("xattr", self.xattr),
            ("external", self.external),
            ("external_file_size", self.external_file_size),
        ]
    }

    fn field(&mut self, name: &str) -> Option<&mut i64> {
        Some(match name {
            "regular" => &mut self.regular,
            "symlink" => &mut self.symlink,
            "special" => &mut self.special,
            "dir" => &mut self.directory,
            "nested" => &mut self.nested,
            "chunked" => &mut self.chunked,
            "chunks" => &mut self.chunks,
            "file_size" => &mut self.file_size,
            "chunked_size" => &mut self.chunked_size,
            "xattr" => &mut self.xattr,
            "external" => &mut self.external,
            "external_file_size" => &mut self.external_file_size,
            _ => return None,
        })
    }

    /// Adds other counters. Sums wrap around, here and below: sizes of others' rows can be anything, and what is added can
    /// be taken out again.
    pub fn add(&mut self, other: &Self) {
        for (name, value) in other.named() {
            if let Some(field) = self.field(name) {
                add(field, value);
            }
        }
    }

    /// Takes other counters away.
    pub fn subtract(&mut self, other: &Self) {
        for (name, value) in other.named() {
            if let Some(field) = self.field(name) {
                add(field, value.wrapping_neg());
            }
        }
    }

    /// Entries of any kind.
    pub fn entries(&self) -> i64 {
        [self.symlink, self.special, self.directory].into_iter().fold(self.regular, i64::wrapping_add)
    }

    /// Counts an entry with so many chunks, or with `sign` -1 takes it out again (`DeltaCounters::ApplyDelta`).
    pub(in crate::cvmfs) fn count(&mut self, entry: &Entry, chunks: i64, sign: i64) {
        let size = sign.wrapping_mul(entry.size.cast_signed());
        if entry.is_directory() {
            add(&mut self.directory, sign);
            add(&mut self.nested, if entry.flags.has(Flags::NESTED_MOUNTPOINT) { sign } else { 0 });
        } else if entry.is_symlink() {
            add(&mut self.symlink, sign);
        } else if entry.flags.has(Flags::SPECIAL) {
            add(&mut self.special, sign);
        } else {
            add(&mut self.regular, sign);
            add(&mut self.file_size, size);
            if entry.flags.has(Flags::CHUNKED) {
                add(&mut self.chunked, sign);
                add(&mut self.chunked_size, size);
                add(&mut self.chunks, sign.wrapping_mul(chunks));
            }
            if entry.flags.has(Flags::EXTERNAL) {
                add(&mut self.external, sign);
                add(&mut self.external_file_size, size);
            }
        }
        add(&mut self.xattr, if entry.xattr.is_some() { sign } else { 0 });
    }
}

/// What the table `statistics` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// This catalog.
    pub own: Counters,
    /// All catalogs below it, without it.
    pub subtree: Counters,
}

impl Statistics {
    pub(super) fn load(database: &Database) -> Result<Self, Error> {
        let mut statistics = Self::default();
        let mut read = || -> rusqlite::Result<()> {
            let mut statement = database.connection.prepare("SELECT counter, value FROM statistics")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (name, value): (String, i64) = (row.get(0)?, row.get(1)?);
                let field = match name.split_once('_') {
                    Some(("self", counter)) => statistics.own.field(counter),
                    Some(("subtree", counter)) => statistics.subtree.field(counter),
                    _ => None,
                };
                if let Some(field) = field {
                    *field = value;
                }
            }
            Ok(())
        };
        read().map_err(database.failed("read"))?;
        Ok(statistics)
    }

    pub(super) fn store(&self, database: &Database) -> Result<(), Error> {
        let write = || -> rusqlite::Result<()> {
            let mut statement =
                database.connection.prepare("INSERT OR REPLACE INTO statistics (counter, value) VALUES (?1, ?2)")?;
            for (scope, counters) in [("self", &self.own), ("subtree", &self.subtree)] {
                for (name, value) in counters.named() {
                    statement.execute(rusqlite::params![format!("{scope}_{name}"), value])?;
                }
            }
            Ok(())
        };
        write().map_err(database.failed("write"))
    }
}
