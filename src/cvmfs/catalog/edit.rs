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
        // Links have no permissions of their own: this is what `lstat` says of them.
        let permissions = if flags & Flags::SYMLINK != 0 { 0o777 } else { self.permissions & 0o7777 };
        Entry {
            name: name.to_vec(),
            flags: Flags(flags),
            mode: file_type | permissions,
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::create_root;
    use super::*;

    fn file(content: &[u8]) -> NewEntry {
        let kind = NewKind::File { hash: Algorithm::Sha1.hash(content), size: content.len() as u64 };
        NewEntry { kind, permissions: 0o644, mtime: 0, mtime_ns: None, uid: 0, gid: 0 }
    }

    fn with_catalog(prepare: &str, test: impl FnOnce(&mut CatalogEditor)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog");
        create_root(&path, 0, 0, 240, 0).unwrap();
        let hash = Algorithm::Sha1.hash(b"");
        let mut editor = CatalogEditor::open(&path, &hash).unwrap();
        editor.put(b"file", &file(b"twelve bytes")).unwrap();
        editor.catalog.database.run(prepare).unwrap();
        editor.statistics.own = editor.catalog.recount().unwrap();
        test(&mut editor);
        editor.finish(2, &hash, 0).unwrap();
        let catalog = Catalog::open(&path, &hash).unwrap();
        assert_eq!(catalog.statistics().unwrap().own, catalog.recount().unwrap());
    }

    #[test]
    fn a_file_in_chunks_goes_with_its_chunks() {
        let chunked = "UPDATE catalog SET flags = 68, hash = NULL, xattr = x'01' WHERE name = 'file';
             INSERT INTO chunks SELECT md5path_1, md5path_2, 0, 5, x'00' FROM catalog WHERE name = 'file';
             INSERT INTO chunks SELECT md5path_1, md5path_2, 5, 7, x'00' FROM catalog WHERE name = 'file';";
        with_catalog(chunked, |editor| {
            let own = editor.statistics.own;
            assert_eq!((own.chunked, own.chunks, own.chunked_size, own.xattr), (1, 2, 12, 1));
            assert_eq!(editor.put(b"file", &file(b"new")).unwrap(), Put::Replaced);
            let own = editor.statistics.own;
            assert_eq!((own.chunked, own.chunks, own.chunked_size, own.xattr, own.file_size), (0, 0, 0, 0, 3));
        });
    }

    #[test]
    fn external_and_special_files_are_counted_out() {
        with_catalog("UPDATE catalog SET flags = 4 | 128 WHERE name = 'file'", |editor| {
            assert_eq!(editor.statistics.own.external_file_size, 12);
            assert!(editor.remove(b"file").unwrap());
        });
        with_catalog("UPDATE catalog SET flags = 4 | 16, size = 0, hash = NULL WHERE name = 'file'", |editor| {
            assert_eq!(editor.statistics.own.special, 1);
            editor.put(b"file", &NewEntry { kind: NewKind::Directory, ..file(b"") }).unwrap();
        });
    }

    #[test]
    fn what_hangs_together_with_other_entries_is_left_alone() {
        let cases = [
            ("UPDATE catalog SET hardlinks = (1 << 32) | 2 WHERE name = 'file'", "hard links"),
            ("UPDATE catalog SET flags = flags | 32768 WHERE name = 'file'", "internal"),
            ("UPDATE catalog SET flags = 1 | 2, mode = 16877 WHERE name = 'file'", "another catalog"),
        ];
        for (prepare, why) in cases {
            with_catalog(prepare, |editor| {
                let before = editor.catalog.lookup(b"file").unwrap();
                for error in [editor.put(b"file", &file(b"x")).unwrap_err(), editor.remove(b"file").unwrap_err()] {
                    assert!(error.to_string().contains(why), "{error}");
                }
                assert_eq!(editor.catalog.lookup(b"file").unwrap(), before);
            });
        }
    }

    #[test]
    fn a_directory_with_such_an_entry_stays_whole() {
        with_catalog("", |editor| {
            let directory = NewEntry { kind: NewKind::Directory, ..file(b"") };
            for path in [&b"d"[..], b"d/a", b"d/z"] {
                editor.put(path, &directory).unwrap();
            }
            editor.put(b"d/z/linked", &file(b"x")).unwrap();
            editor.catalog.database.run("UPDATE catalog SET hardlinks = (1 << 32) | 1 WHERE name = 'linked'").unwrap();
            assert!(editor.remove(b"d").unwrap_err().to_string().contains("/d/z/linked"));
            assert!(editor.put(b"d", &file(b"x")).unwrap_err().to_string().contains("/d/z/linked"));
            assert_eq!(editor.catalog.entries().unwrap(), 6);
        });
    }
}
