//! The history: named revisions, SQLite schema 1.0 revision 3 (`cvmfs/history_sql.cc`).

use std::path::Path;

use rusqlite::OptionalExtension;

use super::Error;
use super::database::Database;
use super::hash::ContentHash;

/// The tag of the current revision.
pub const TRUNK: &str = "trunk";

/// The tag of the revision before, to which an undo goes.
pub const TRUNK_PREVIOUS: &str = "trunk-previous";

const VERSION: f64 = 1.0;
const REVISION: u32 = 3;

const TABLES: &str = "
CREATE TABLE branches (branch TEXT, parent TEXT, initial_revision INTEGER, CONSTRAINT pk_branch PRIMARY KEY (branch), \
  FOREIGN KEY (parent) REFERENCES branches (branch), CHECK ((branch <> '') OR (parent IS NULL)), \
  CHECK ((branch = '') OR (parent IS NOT NULL)));
INSERT INTO branches (branch, parent, initial_revision) VALUES ('', NULL, 0);
CREATE TABLE tags (name TEXT, hash TEXT, revision INTEGER, timestamp INTEGER, channel INTEGER, description TEXT, \
  size INTEGER, branch TEXT, CONSTRAINT pk_tags PRIMARY KEY (name), FOREIGN KEY (branch) REFERENCES branches (branch));
CREATE TABLE recycle_bin (hash TEXT, flags INTEGER, CONSTRAINT pk_hash PRIMARY KEY (hash));
";

/// Refuses a name that CernVM-FS refuses for a tag, too (`Publisher::CheckTagName`): the names of the tags that move
/// by themselves, and all but letters, digits and `-_./:`.
pub fn check_tag_name(name: &str) -> Result<(), Error> {
    let why = if name == TRUNK || name == TRUNK_PREVIOUS {
        "this tag moves by itself"
    } else if name.is_empty() {
        "it is empty"
    } else if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:".contains(&b)) {
        "only A-Z a-z 0-9 - _ . / : are allowed"
    } else {
        return Ok(());
    };
    Err(Error::malformed(format!("tag name {name:?}"), why))
}

/// How many of these tags somebody gave: all but those that move by themselves.
pub fn named(tags: &[Tag]) -> u64 {
    tags.iter().filter(|tag| tag.name != TRUNK && tag.name != TRUNK_PREVIOUS).count() as u64
}

/// A named revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// The root catalog.
    pub root_hash: ContentHash,
    /// The size of that, uncompressed, in bytes.
    pub size: u64,
    /// The revision.
    pub revision: u64,
    /// When the revision was made, seconds since 1970.
    pub timestamp: i64,
    /// Free text.
    pub description: String,
}

/// An open history.
#[derive(Debug)]
pub struct History {
    database: Database,
}

impl History {
    /// Makes the history of a new repository, without tags.
    pub fn create(path: &Path, repository: &str) -> Result<Self, Error> {
        let database = Database::create(path, "the new history", "1.0", REVISION, TABLES)?;
        database.set_property("fqrn", repository)?;
        Ok(Self { database })
    }

    /// Opens a history's (uncompressed) file; `hash` names it in errors.
    pub fn open(path: &Path, hash: &ContentHash) -> Result<Self, Error> {
        Self::check(Database::open_read_only(path, format!("the history {hash}"))?)
    }

    /// Opens a copy of a history to change it.
    pub fn open_for_editing(path: &Path, hash: &ContentHash) -> Result<Self, Error> {
        Self::check(Database::open_for_editing(path, format!("the copy of history {hash}"))?)
    }

    fn check(database: Database) -> Result<Self, Error> {
        let revision = database.schema_revision(VERSION)?;
        if revision != REVISION {
            return Err(Error::Unsupported(format!("{} of schema revision {revision}", database.what)));
        }
        Ok(Self { database })
    }

    /// All tags, the newest revision first.
    pub fn tags(&self) -> Result<Vec<Tag>, Error> {
        let list = || -> rusqlite::Result<Vec<_>> {
            let sql =
                "SELECT name, hash, size, revision, timestamp, description FROM tags ORDER BY revision DESC, name";
            self.database.connection.prepare(sql)?.query_map([], tag_columns)?.collect()
        };
        list().map_err(self.database.failed("read"))?.into_iter().map(Columns::tag).collect()
    }

    /// One tag.
    pub fn tag(&self, name: &str) -> Result<Option<Tag>, Error> {
        let sql = "SELECT name, hash, size, revision, timestamp, description FROM tags WHERE name = ?1";
        let columns = self.database.connection.query_row(sql, [name], tag_columns).optional();
        columns.map_err(self.database.failed("read"))?.map(Columns::tag).transpose()
    }

    /// The branches, each with the revision that it began at.
    pub fn branches(&self) -> Result<Vec<(String, u64)>, Error> {
        let list = || -> rusqlite::Result<Vec<(String, i64)>> {
            let mut statement = self.database.connection.prepare("SELECT branch, initial_revision FROM branches")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        let rows = list().map_err(self.database.failed("read"))?;
        Ok(rows.into_iter().map(|(branch, revision)| (branch, revision.cast_unsigned())).collect())
    }

    /// The branch of each tag, as pairs of a tag's name and a branch's.
    pub fn tags_of_branches(&self) -> Result<Vec<(String, String)>, Error> {
        let list = || -> rusqlite::Result<Vec<(String, String)>> {
            let mut statement = self.database.connection.prepare("SELECT name, branch FROM tags ORDER BY name")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        list().map_err(self.database.failed("read"))
    }

    /// Adds a tag. A name that is in use is refused, and nothing changes.
    pub fn insert(&self, tag: &Tag) -> Result<(), Error> {
        if self.tag(&tag.name)?.is_some() {
            return Err(Error::Exists(format!("tag {}", tag.name)));
        }
        let sql = "INSERT INTO tags (name, hash, revision, timestamp, channel, description, size, branch) \
                   VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, '')";
        let values = rusqlite::params![
            tag.name,
            tag.root_hash.to_string(),
            tag.revision.cast_signed(),
            tag.timestamp,
            tag.description,
            tag.size.cast_signed(),
        ];
        self.database.connection.execute(sql, values).map(drop).map_err(self.database.failed("write"))
    }

    /// Removes a tag; tells whether it was there.
    pub fn remove(&self, name: &str) -> Result<bool, Error> {
        let removed = self.database.connection.execute("DELETE FROM tags WHERE name = ?1", [name]);
        Ok(removed.map_err(self.database.failed("write"))? > 0)
    }

    /// The names of the tags of revisions after this one, the newest first. Those of other branches than the first are
    /// not among them.
    pub fn tags_after(&self, revision: u64) -> Result<Vec<String>, Error> {
        let list = || -> rusqlite::Result<Vec<String>> {
            let sql = "SELECT name FROM tags WHERE revision > ?1 AND branch = '' ORDER BY revision DESC, name";
            let mut statement = self.database.connection.prepare(sql)?;
            statement.query_map([revision.cast_signed()], |row| row.get(0))?.collect()
        };
        list().map_err(self.database.failed("read"))
    }

    /// Makes the file smaller by what was removed.
    pub fn compact(&self) -> Result<(), Error> {
        self.database.run("VACUUM")
    }

    /// Moves `trunk` to a revision, and `trunk-previous` to where it stood (`CommandTag::UpdateUndoTags`).
    pub fn advance_trunk(&self, head: &Tag) -> Result<(), Error> {
        let rename = |from: &str, to: &str, description: &str| {
            self.database
                .connection
                .execute("UPDATE tags SET name = ?2, description = ?3 WHERE name = ?1", [from, to, description])
                .map(drop)
                .map_err(self.database.failed("write"))
        };
        if self.tag(TRUNK)?.is_some() {
            let sql = "DELETE FROM tags WHERE name = ?1";
            self.database.connection.execute(sql, [TRUNK_PREVIOUS]).map_err(self.database.failed("write"))?;
            rename(TRUNK, TRUNK_PREVIOUS, "default undo target")?;
        }
        self.insert(&Tag { name: TRUNK.into(), description: "current HEAD".into(), ..head.clone() })
    }

    /// Names the history before this one.
    pub fn set_previous(&self, hash: &ContentHash) -> Result<(), Error> {
        self.database.set_property("previous_revision", &hash.to_string())
    }

    /// The history before this one.
    pub fn previous(&self) -> Result<Option<ContentHash>, Error> {
        let text = self.database.property("previous_revision")?.filter(|text| !text.is_empty());
        Ok(text.map(|text| ContentHash::parse(&text)).transpose()?.filter(|hash| !hash.is_null()))
    }

    /// The repository that it belongs to.
    pub fn repository(&self) -> Result<Option<String>, Error> {
        self.database.property("fqrn")
    }

    /// Closes the file, with everything written to it.
    pub fn close(self) -> Result<(), Error> {
        self.database.close()
    }
}

struct Columns(String, String, i64, i64, i64, String);

fn tag_columns(row: &rusqlite::Row<'_>) -> rusqlite::Result<Columns> {
    let size: Option<i64> = row.get(2)?;
    Ok(Columns(row.get(0)?, row.get(1)?, size.unwrap_or(0), row.get(3)?, row.get(4)?, row.get(5)?))
}

impl Columns {
    fn tag(self) -> Result<Tag, Error> {
        let Self(name, hash, size, revision, timestamp, description) = self;
        let root_hash = ContentHash::parse(&hash)?;
        let (size, revision) = (size.cast_unsigned(), revision.cast_unsigned());
        Ok(Tag { name, root_hash, size, revision, timestamp, description })
    }
}
