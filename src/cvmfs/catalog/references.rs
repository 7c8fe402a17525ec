//! What a catalog leads to: its objects and other catalogs, for garbage collection and rollback.

use super::super::Error;
use super::super::database::bytes;
use super::super::hash::{Algorithm, ContentHash, ObjectKind};
use super::{Catalog, Flags};

impl Catalog {
    /// Visits the objects of all files and chunks; one that several files have comes several times. External files
    /// have none.
    pub fn objects(&self, visit: &mut dyn FnMut(ContentHash, ObjectKind) -> Result<(), Error>) -> Result<(), Error> {
        // Chunks without their file belong to nobody, but are kept: the catalog is damaged, and that is not ours to judge.
        let chunks = "SELECT chunks.hash, coalesce(catalog.flags, 0) FROM chunks \
                      LEFT JOIN catalog USING (md5path_1, md5path_2)";
        self.visit("SELECT hash, flags FROM catalog WHERE length(hash) > 0", ObjectKind::File, visit)?;
        self.visit(chunks, ObjectKind::Chunk, visit)
    }

    fn visit(
        &self,
        sql: &str,
        kind: ObjectKind,
        visit: &mut dyn FnMut(ContentHash, ObjectKind) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let failed = || self.database.failed("read");
        let mut statement = self.database.connection.prepare(sql).map_err(failed())?;
        let mut rows = statement.query([]).map_err(failed())?;
        while let Some(row) = rows.next().map_err(failed())? {
            let flags = Flags(row.get(1).map_err(failed())?);
            if flags.has(Flags::EXTERNAL) {
                continue;
            }
            let algorithm = flags.algorithm().ok_or_else(|| {
                Error::Unsupported(format!("{} with a hash algorithm of another number", self.database.what))
            })?;
            visit(ContentHash::from_digest(algorithm, &bytes(row, 0).map_err(failed())?)?, kind)?;
        }
        Ok(())
    }

    /// The catalogs that it leads to, nested and bound ones.
    pub fn catalogs(&self) -> Result<Vec<ContentHash>, Error> {
        let list = || -> rusqlite::Result<Vec<String>> {
            let sql = "SELECT sha1 FROM nested_catalogs UNION SELECT sha1 FROM bind_mountpoints";
            self.database.connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
        };
        list().map_err(self.database.failed("read"))?.iter().map(|text| ContentHash::parse(text)).collect()
    }

    /// Tells whether it is the root of a repository, not of a directory in it.
    pub fn is_root(&self) -> Result<bool, Error> {
        Ok(self.database.path_property("root_prefix")?.is_none_or(|prefix| prefix.is_empty()))
    }

    /// Seconds for which clients believe a manifest with this root.
    pub fn ttl(&self) -> Result<Option<u64>, Error> {
        Ok(self.database.property("TTL")?.and_then(|text| text.parse().ok()))
    }

    /// Tells whether clients should put its files out of their caches first.
    pub fn is_volatile(&self) -> Result<bool, Error> {
        Ok(self.database.property("volatile")?.is_some_and(|text| text == "1"))
    }
}

impl Flags {
    /// The algorithm that names the entry's objects; `None` for one that this code does not know.
    pub fn algorithm(self) -> Option<Algorithm> {
        Algorithm::from_flag_bits((self.0 >> Self::HASH_SHIFT) & 7)
    }
}
