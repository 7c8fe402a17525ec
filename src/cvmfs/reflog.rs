//! The reflog `.cvmfsreflog`: every catalog, certificate, history and metainfo that was ever published, as roots for
//! garbage collection (`cvmfs/reflog_sql.cc`).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::Error;
use super::database::Database;
use super::hash::{Algorithm, ContentHash, ObjectKind};

/// Its name below the repository's base. It is stored as it is, neither compressed nor under a hash.
pub const FILE: &str = ".cvmfsreflog";

const VERSION: f64 = 1.0;

const TABLES: &str =
    "CREATE TABLE refs (hash TEXT, type INTEGER, timestamp INTEGER, CONSTRAINT pk_refs PRIMARY KEY (hash));";

/// An open reflog.
#[derive(Debug)]
pub struct Reflog {
    database: Database,
}

impl Reflog {
    /// Makes an empty one.
    pub fn create(path: &Path, repository: &str) -> Result<Self, Error> {
        let database = Database::create(path, "the new reflog", "1.0", 0, TABLES)?;
        database.set_property("fqrn", repository)?;
        Ok(Self { database })
    }

    /// Opens a copy to add to it.
    pub fn open_for_editing(path: &Path) -> Result<Self, Error> {
        let database = Database::open_for_editing(path, "the copy of the reflog")?;
        database.schema_revision(VERSION)?;
        Ok(Self { database })
    }

    /// Opens one to read it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let database = Database::open_read_only(path, "the reflog")?;
        database.schema_revision(VERSION)?;
        Ok(Self { database })
    }

    /// Adds objects in one go. An object that is there already gets the new time.
    pub fn add(&self, objects: &[(ObjectKind, ContentHash)], now: i64) -> Result<(), Error> {
        self.database.begin()?;
        for (kind, hash) in objects {
            let Some(kind) = reference_type(*kind) else { continue };
            let sql = "INSERT OR REPLACE INTO refs (hash, type, timestamp) VALUES (?1, ?2, ?3)";
            let values = rusqlite::params![hash.to_string(), kind, now];
            self.database.connection.execute(sql, values).map_err(self.database.failed("write"))?;
        }
        self.database.commit()
    }

    /// The objects of a kind, and when each was published last, seconds since 1970.
    pub fn objects(&self, kind: ObjectKind) -> Result<Vec<(ContentHash, i64)>, Error> {
        let Some(kind) = reference_type(kind) else { return Ok(Vec::new()) };
        let list = || -> rusqlite::Result<Vec<(String, i64)>> {
            let sql = "SELECT hash, timestamp FROM refs WHERE type = ?1";
            self.database.connection.prepare(sql)?.query_map([kind], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        let rows = list().map_err(self.database.failed("read"))?;
        rows.into_iter().map(|(hash, time)| Ok((ContentHash::parse(&hash)?, time))).collect()
    }

    /// Takes objects out, in one go, and makes the file smaller by them.
    pub fn remove(&self, objects: &[ContentHash]) -> Result<(), Error> {
        self.database.begin()?;
        for hash in objects {
            let sql = "DELETE FROM refs WHERE hash = ?1";
            self.database.connection.execute(sql, [hash.to_string()]).map_err(self.database.failed("write"))?;
        }
        self.database.commit()?;
        self.database.run("VACUUM")
    }

    /// Tells whether an object is in it.
    pub fn contains(&self, hash: &ContentHash) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM refs WHERE hash = ?1)";
        let found = self.database.connection.query_row(sql, [hash.to_string()], |row| row.get(0));
        found.map_err(self.database.failed("read"))
    }

    /// Tells whether an object is in it, as what it is.
    pub fn lists(&self, kind: ObjectKind, hash: &ContentHash) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM refs WHERE hash = ?1 AND type = ?2)";
        let values = rusqlite::params![hash.to_string(), reference_type(kind)];
        self.database.connection.query_row(sql, values, |row| row.get(0)).map_err(self.database.failed("read"))
    }

    /// The repository that it belongs to.
    pub fn repository(&self) -> Result<Option<String>, Error> {
        self.database.property("fqrn")
    }

    /// Objects in it.
    pub fn count(&self) -> Result<u64, Error> {
        let count: i64 = self
            .database
            .connection
            .query_row("SELECT count(*) FROM refs", [], |row| row.get(0))
            .map_err(self.database.failed("read"))?;
        Ok(count.cast_unsigned())
    }

    /// Closes the file, with everything written to it.
    pub fn close(self) -> Result<(), Error> {
        self.database.close()
    }
}

/// The number of a kind of objects (`SqlReflog::ReferenceType`); `None` for those that are no roots.
fn reference_type(kind: ObjectKind) -> Option<i64> {
    match kind {
        ObjectKind::Catalog => Some(0),
        ObjectKind::Certificate => Some(1),
        ObjectKind::History => Some(2),
        ObjectKind::Metainfo => Some(3),
        ObjectKind::File | ObjectKind::Chunk => None,
    }
}

/// The hash of a reflog's file, which is the manifest's `Y`; `None` where there is no file.
pub fn hash_file(path: &Path, algorithm: Algorithm) -> Result<Option<ContentHash>, Error> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(format!("read {}", path.display()))(error)),
    };
    let mut hasher = algorithm.hasher();
    let mut buffer = [0; 16 * 1024];
    loop {
        match file.read(&mut buffer).map_err(Error::io(format!("read {}", path.display())))? {
            0 => return Ok(Some(hasher.finish())),
            count => hasher.update(&buffer[..count]),
        }
    }
}
