//! Editing a private copy of a catalog in place: the cost grows with the change, not with the catalog.

use std::path::Path;

use super::super::Error;
use super::super::database::Database;
use super::super::hash::{Algorithm, ContentHash};
use super::path::split;
use super::{Catalog, Entry, Flags, PathHash, Statistics, join, schema};

/// Free pages that are not worth the time that it takes to write the file anew: 256 KiB.
const MOST_FREE_PAGES: i64 = 64;

/// Why an edit was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The catalog holds something that is in the way. Nothing was changed.
    #[error("cannot change /{}: {why}", String::from_utf8_lossy(path))]
    Conflict {
        /// What is in the way.
        path: Vec<u8>,
        /// Why it is.
        why: String,
    },
    /// The copy could not be read or written. It must be thrown away.
    #[error(transparent)]
    Store(#[from] Error),
}

/// What a new entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewKind {
    /// A directory.
    Directory,
    /// A file whose content is stored already, in one piece, compressed with zlib.
    File {
        /// The object.
        hash: ContentHash,
        /// Bytes of content.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
}

/// An entry to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// What it is.
    pub kind: NewKind,
    /// Permission bits, `0o7777`.
    pub permissions: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// The nanoseconds of it, if they are to be kept.
    pub mtime_ns: Option<u32>,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl NewEntry {
    fn row(&self, name: &[u8]) -> Entry {
        let (file_type, flags, size) = match &self.kind {
            NewKind::Directory => (0o040_000, Flags::DIRECTORY, 4096),
            NewKind::File { size, .. } => (0o100_000, Flags::FILE, *size),
            NewKind::Symlink { target } => (0o120_000, Flags::FILE | Flags::SYMLINK, target.len() as u64),
        };
        Entry {
            name: name.to_vec(),
            flags: Flags(flags),
            mode: file_type | (self.permissions & 0o7777),
            size,
            mtime: self.mtime,
            mtime_ns: self.mtime_ns,
            uid: self.uid,
            gid: self.gid,
            hardlinks: if flags == Flags::DIRECTORY { 2 } else { 1 },
            hash: if let NewKind::File { hash, .. } = &self.kind { Some(*hash) } else { None },
            symlink: if let NewKind::Symlink { target } = &self.kind { target.clone() } else { Vec::new() },
            xattr: None,
        }
    }
}

/// What writing an entry did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// There was none.
    Added,
    /// There was another one.
    Replaced,
    /// It was there as it is.
    Unchanged,
}

/// A catalog being edited. Dropping it leaves the copy in any state.
#[derive(Debug)]
pub struct CatalogEditor {
    catalog: Catalog,
    statistics: Statistics,
}

impl CatalogEditor {
    /// Opens a copy of a root catalog. One that holds what cannot be edited yet is refused, by name.
    pub fn open(path: &Path, hash: &ContentHash) -> Result<Self, Error> {
        if hash.algorithm() != Algorithm::Sha1 {
            let name = hash.algorithm().mark().trim_start_matches('-');
            return Err(Error::Unsupported(format!("publishing with the hash algorithm {name}")));
        }
        let catalog = Catalog::over(Database::open_for_editing(path, format!("the copy of catalog {hash}"))?)?;
        if catalog.schema_revision() != schema::REVISION {
            let revision = catalog.schema_revision();
            return Err(Error::Unsupported(format!("publishing on a catalog of schema revision {revision}")));
        }
        if let Some(nested) = catalog.nested()?.first() {
            let path = String::from_utf8_lossy(&nested.path).into_owned();
            return Err(Error::Unsupported(format!("publishing on nested catalogs (there is one at /{path})")));
        }
        if catalog.has_bind_mountpoints()? {
            return Err(Error::Unsupported("publishing on a catalog with bind mount points".into()));
        }
        let statistics = catalog.statistics()?;
        catalog.database.begin()?;
        Ok(Self { catalog, statistics })
    }

    /// The catalog as it is now.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Writes an entry. A directory over a directory changes its metadata alone; everything else replaces what stood
    /// there with all below it. The directory that it goes in must exist; the root can only stay a directory.
    pub fn put(&mut self, path: &[u8], new: &NewEntry) -> Result<Put, EditError> {
        let is_directory = new.kind == NewKind::Directory;
        let Some((parent, name)) = split(path) else {
            if !is_directory {
                return Err(conflict(path, "the root of the repository can only be a directory"));
            }
            let old = self.catalog.lookup(b"")?.ok_or_else(|| Error::malformed("the catalog", "it has no root"))?;
            return Ok(self.change_directory(b"", &old, new)?);
        };
        if name == b".cvmfscatalog" && !parent.is_empty() {
            let why = "`.cvmfscatalog` asks for a nested catalog, which is not supported yet: leave the file out";
            return Err(conflict(path, why));
        }
        let parent_row = self.directory(parent)?;
        let old = self.catalog.lookup(path)?;
        if let Some(old) = &old {
            self.check_editable(path, old)?;
            if is_directory && old.is_directory() {
                return Ok(self.change_directory(path, old, new)?);
            }
        }
        let row = new.row(name);
        if old.as_ref() == Some(&row) {
            return Ok(Put::Unchanged);
        }
        let was_directory = old.as_ref().is_some_and(Entry::is_directory);
        if was_directory {
            self.remove_tree(path)?;
        } else if let Some(old) = &old {
            self.forget(path, old)?;
        }
        self.store(path, &row)?;
        self.statistics.own.count(&row, 0, 1);
        self.link(parent, parent_row, i64::from(is_directory) - i64::from(was_directory))?;
        Ok(if old.is_some() { Put::Replaced } else { Put::Added })
    }

    /// Removes an entry with all below it; tells whether it was there.
    pub fn remove(&mut self, path: &[u8]) -> Result<bool, EditError> {
        let Some((parent, _)) = split(path) else {
            return Err(conflict(path, "the root of the repository cannot be removed"));
        };
        let Some(old) = self.catalog.lookup(path)? else { return Ok(false) };
        self.check_editable(path, &old)?;
        let parent_row = self.directory(parent)?;
        if old.is_directory() {
            self.remove_tree(path)?;
            self.link(parent, parent_row, -1)?;
        } else {
            self.forget(path, &old)?;
            self.delete_row(path)?;
        }
        Ok(true)
    }

    /// Makes it the catalog of a revision and closes the file.
    pub fn finish(self, revision: u64, previous: &ContentHash, now: i64) -> Result<(), Error> {
        let database = self.catalog.database;
        self.statistics.store(&database)?;
        database.set_property("revision", &revision.to_string())?;
        database.set_property("previous_revision", &previous.to_string())?;
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

    fn directory(&self, path: &[u8]) -> Result<Entry, EditError> {
        match self.catalog.lookup(path)? {
            Some(entry) if entry.is_directory() => Ok(entry),
            Some(entry) if entry.is_symlink() => Err(conflict(path, "it is a symbolic link, not a directory")),
            Some(_) => Err(conflict(path, "it is a file, not a directory")),
            None => Err(conflict(path, "there is no such directory")),
        }
    }

    /// Refuses an entry that can only be changed together with others, which is not supported yet.
    fn check_editable(&self, path: &[u8], entry: &Entry) -> Result<(), EditError> {
        let why = if Catalog::is_transition(entry) {
            "another catalog begins there, which is not supported yet"
        } else if entry.flags.has(Flags::HIDDEN) {
            "it is an internal entry of CernVM-FS"
        } else if entry.hardlink_group() != 0 {
            "it has hard links, which are not supported yet"
        } else {
            return Ok(());
        };
        Err(conflict(path, why))
    }

    fn change_directory(&mut self, path: &[u8], old: &Entry, new: &NewEntry) -> Result<Put, Error> {
        let changed = Entry {
            mode: 0o040_000 | (new.permissions & 0o7777),
            mtime: new.mtime,
            mtime_ns: new.mtime_ns,
            uid: new.uid,
            gid: new.gid,
            ..old.clone()
        };
        if changed == *old {
            return Ok(Put::Unchanged);
        }
        self.store(path, &changed)?;
        Ok(Put::Replaced)
    }

    /// Removes a directory and all below it. Looks at everything first, so that a conflict changes nothing.
    fn remove_tree(&mut self, top: &[u8]) -> Result<(), EditError> {
        let mut doomed = Vec::new();
        let mut directories = vec![top.to_vec()];
        while let Some(directory) = directories.pop() {
            for entry in self.catalog.list(&directory)? {
                let path = join(&directory, &entry.name);
                self.check_editable(&path, &entry)?;
                if entry.is_directory() {
                    directories.push(path.clone());
                }
                doomed.push((path, entry));
            }
        }
        if let Some(entry) = self.catalog.lookup(top)? {
            doomed.push((top.to_vec(), entry));
        }
        for (path, entry) in &doomed {
            self.forget(path, entry)?;
            self.delete_row(path)?;
        }
        Ok(())
    }

    /// Takes an entry out of the counters, and its chunks out of their table.
    fn forget(&mut self, path: &[u8], entry: &Entry) -> Result<(), Error> {
        let mut chunks = 0;
        if entry.flags.has(Flags::CHUNKED) {
            let key = PathHash::of(path);
            let sql = "DELETE FROM chunks WHERE md5path_1 = ?1 AND md5path_2 = ?2";
            let database = &self.catalog.database;
            chunks = database.connection.execute(sql, [key.0, key.1]).map_err(database.failed("write"))?;
        }
        self.statistics.own.count(entry, chunks as i64, -1);
        Ok(())
    }

    fn delete_row(&self, path: &[u8]) -> Result<(), Error> {
        let key = PathHash::of(path);
        let database = &self.catalog.database;
        let delete = || {
            let sql = "DELETE FROM catalog WHERE md5path_1 = ?1 AND md5path_2 = ?2";
            database.connection.prepare_cached(sql)?.execute([key.0, key.1])
        };
        delete().map(drop).map_err(database.failed("write"))
    }

    fn store(&self, path: &[u8], row: &Entry) -> Result<(), Error> {
        let parent = split(path).map_or(PathHash::NONE, |(parent, _)| PathHash::of(parent));
        let database = &self.catalog.database;
        row.store(&database.connection, PathHash::of(path), parent).map_err(database.failed("write"))
    }

    /// Adds to a directory's link count, which counts the directories in it.
    fn link(&self, path: &[u8], row: Entry, more: i64) -> Result<(), Error> {
        if more == 0 {
            return Ok(());
        }
        self.store(path, &Entry { hardlinks: row.hardlinks.saturating_add_signed(more), ..row })
    }
}

fn conflict(path: &[u8], why: &str) -> EditError {
    EditError::Conflict { path: path.to_vec(), why: why.to_owned() }
}
