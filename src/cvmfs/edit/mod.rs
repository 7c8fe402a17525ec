//! Editing the tree of a repository across its catalogs. The cost grows with the change, not with the repository: only
//! the catalogs that a change leads into are fetched, and only those that it touches are written.
//!
//! What hangs together is kept together: the two rows of a nested catalog's first directory, the link counts of
//! directories, hard-link groups, chunks, and the counters of every catalog above a change.
//!
//! Counters: at any time, `subtree` of a catalog is the sum of what its parent last heard of each child (`contained`).
//! Changes go into `own` alone; `TreeEditor::finish` passes the differences up.

mod catalogs;
mod dirtab;
mod entry;
mod finish;
mod links;
mod nested;
mod split;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::path::PathBuf;

use self::catalogs::{Catalogs, ROOT};
pub use self::entry::{NewEntry, NewKind};
pub(crate) use self::finish::NextTree;
use self::links::Names;
use super::Error;
use super::catalog::{Chunk, Entry, Flags, PathHash, join, split as split_path};
use super::ingest::Staged;
use super::reader::Reader;
use super::settings::AutoCatalogs;
use super::xattr::Xattrs;

/// The file that asks for a nested catalog at its directory.
pub const MARKER: &[u8] = b".cvmfscatalog";

/// The file that tells that a nested catalog was not asked for by anybody.
pub const AUTO_MARKER: &[u8] = b".cvmfsautocatalog";

/// The file in the root that says where nested catalogs are to be.
pub const DIRTAB: &[u8] = b".cvmfsdirtab";

/// Bytes that a name can have, as everywhere on Linux.
const LONGEST_NAME: usize = 255;

/// Why an edit was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The repository holds something that is in the way. Nothing was changed.
    #[error("cannot change /{}: {why}", String::from_utf8_lossy(path))]
    Conflict {
        /// What is in the way.
        path: Vec<u8>,
        /// Why it is.
        why: String,
    },
    /// A catalog could not be read or written. The edits so far must be thrown away.
    #[error(transparent)]
    Store(#[from] Error),
}

/// What finishing a tree needs of the objects of a revision.
pub(crate) trait Objects {
    /// Stores a catalog's file; gives its object, and the file's size.
    fn store_catalog(&mut self, file: &std::path::Path) -> Result<Staged, Error>;
    /// Stores an empty file.
    fn empty_file(&mut self) -> Result<NewKind, Error>;
    /// Reads a small file of the tree.
    fn read_small(&mut self, entry: &Entry, chunks: &[Chunk]) -> Result<Vec<u8>, Error>;
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

/// The tree of a revision in the making. Dropping it changes nothing.
pub struct TreeEditor {
    catalogs: Catalogs,
    names: Names,
    /// Directories that are new, for `.cvmfsdirtab`.
    new_directories: Vec<Vec<u8>>,
    dirtab_changed: bool,
    auto_catalogs: Option<AutoCatalogs>,
}

impl TreeEditor {
    /// The tree of a reader's revision. Copies of catalogs are made in `directory`.
    pub fn open(reader: &Reader, directory: PathBuf, auto_catalogs: Option<AutoCatalogs>) -> Result<Self, Error> {
        let catalogs = Catalogs::open(reader.shared_fetch(), directory, &reader.manifest().root_hash)?;
        let names = Names::default();
        Ok(Self { catalogs, names, new_directories: Vec::new(), dirtab_changed: false, auto_catalogs })
    }

    /// The entry at a path.
    pub fn lookup(&mut self, path: &[u8]) -> Result<Option<Entry>, Error> {
        let at = match split_path(path) {
            Some((parent, _)) => self.catalogs.of_directory(parent)?,
            None => ROOT,
        };
        self.catalogs.editor(at)?.catalog().lookup(path)
    }

    /// The visible entries of a directory, sorted by name.
    pub fn list(&mut self, directory: &[u8]) -> Result<Vec<Entry>, Error> {
        let at = self.catalogs.of_directory(directory)?;
        let mut entries = self.catalogs.editor(at)?.catalog().list(directory)?;
        entries.retain(|entry| !entry.flags.has(Flags::HIDDEN));
        Ok(entries)
    }

    /// The chunks of a file, in their order; none where it is stored whole.
    pub fn chunks(&mut self, path: &[u8], entry: &Entry) -> Result<Vec<Chunk>, Error> {
        let (Some((parent, _)), true) = (split_path(path), entry.flags.has(Flags::CHUNKED)) else {
            return Ok(Vec::new());
        };
        let at = self.catalogs.of_directory(parent)?;
        let unknown = || Error::Unsupported(format!("the hash algorithm of /{}", String::from_utf8_lossy(path)));
        let algorithm = entry.algorithm().ok_or_else(unknown)?;
        self.catalogs.editor(at)?.catalog().chunks(path, algorithm)
    }

    /// Writes an entry. A directory over a directory changes its metadata alone; everything else replaces what stood
    /// there with all below it. The directory that it goes in must exist; the root can only stay a directory.
    pub fn put(&mut self, path: &[u8], new: &NewEntry) -> Result<Put, EditError> {
        let name = split_path(path).map_or(&b""[..], |(_, name)| name);
        if matches!(&new.kind, NewKind::Symlink { target } if target.is_empty() || target.contains(&0)) {
            return Err(conflict(path, "the target of a symbolic link has at least one byte, and none that is NUL"));
        }
        if new.mtime_ns.is_some_and(|nanoseconds| nanoseconds >= 1_000_000_000) {
            return Err(conflict(path, "its time has more nanoseconds than a second"));
        }
        self.place(path, new.row(name), new.chunks())
    }

    /// Gives a file a second name. In the same directory they become hard links of each other; CernVM-FS has none across
    /// directories, so elsewhere the second name gets content and metadata of the first.
    pub fn link(&mut self, path: &[u8], target: &[u8]) -> Result<Put, EditError> {
        let missing = || conflict(path, &format!("it is a hard link to /{}, which is not here", shown(target)));
        let entry = self.lookup(target)?.ok_or_else(missing)?;
        if entry.is_directory() || entry.flags.has(Flags::EXTERNAL) {
            return Err(conflict(path, &format!("it is a hard link to /{}, which cannot have any", shown(target))));
        }
        let Some((parent, name)) = split_path(path) else {
            return Err(conflict(path, "the root of the repository can only be a directory"));
        };
        let chunks = self.chunks(target, &entry)?;
        let origin = match self.names.origin(target) {
            Some(origin) if self.same_file(&origin, &entry, &chunks)?.is_some() => origin,
            _ => target.to_vec(),
        };
        let first = match self.names.first_in(parent, target, &origin) {
            Some(first) => self.same_file(&first, &entry, &chunks)?.map(|entry| (first, entry)),
            None => None,
        };
        if path == target || path == origin || first.as_ref().is_some_and(|(first, _)| first == path) {
            return Ok(Put::Unchanged);
        }
        let row = Entry { name: name.to_vec(), hardlinks: 1, ..entry };
        let Some((first, first_entry)) = first else {
            let put = self.place(path, row, &chunks)?;
            self.names.note_first(parent, path, &origin);
            return Ok(put);
        };
        // They may be links of each other already.
        let there = self.lookup(path)?;
        let group = first_entry.hardlink_group();
        if group != 0 && there.as_ref().is_some_and(|there| there.hardlink_group() == group) {
            self.names.note(path, &origin);
            return Ok(Put::Unchanged);
        }
        let put = self.place(path, row, &chunks)?;
        self.names.note(path, &origin);
        self.join(parent, &first, path)?;
        Ok(if put == Put::Unchanged { Put::Replaced } else { put })
    }

    /// Removes an entry with all below it; tells whether it was there.
    pub fn remove(&mut self, path: &[u8]) -> Result<bool, EditError> {
        let Some((parent, name)) = split_path(path) else {
            return Err(conflict(path, "the root of the repository cannot be removed"));
        };
        let Some(old) = self.lookup(path)? else { return Ok(false) };
        check_editable(path, &old)?;
        let at = self.catalogs.of_directory(parent)?;
        if old.is_directory() {
            self.clear(at, path, &old)?;
            self.catalogs.editor_mut(at)?.delete(path, &as_plain(&old))?;
            self.count_directories(parent, -1)?;
        } else {
            self.leave_group(at, parent, &old);
            self.catalogs.editor_mut(at)?.delete(path, &old)?;
            if is_marker(&old) {
                self.merge_nested(parent)?;
                // The rules may want it back.
                self.new_directories.push(parent.to_vec());
            }
        }
        self.note(path, name);
        Ok(true)
    }

    /// Writes a row with its chunks in place of whatever is there.
    fn place(&mut self, path: &[u8], row: Entry, chunks: &[Chunk]) -> Result<Put, EditError> {
        let Some((parent, name)) = split_path(path) else {
            if !row.is_directory() {
                return Err(conflict(path, "the root of the repository can only be a directory"));
            }
            let old = self.lookup(b"")?.ok_or_else(|| Error::malformed("the root catalog", "it has no root"))?;
            return Ok(self.change_directory(b"", &old, &row)?);
        };
        check_name(path, name)?;
        if name == MARKER && !row.is_file() {
            // `cvmfs_swissknife check` takes everything of that name for a marker, and the catalog for missing.
            return Err(conflict(path, "only a regular file can have this name, which asks for a nested catalog"));
        }
        self.check_directory(parent)?;
        let at = self.catalogs.of_directory(parent)?;
        let old = self.catalogs.editor(at)?.catalog().lookup(path)?;
        if let Some(old) = &old {
            check_editable(path, old)?;
            if row.is_directory() && old.is_directory() {
                return Ok(self.change_directory(path, old, &row)?);
            }
            if *old == row && (!row.flags.has(Flags::CHUNKED) || self.chunks(path, old)? == chunks) {
                return Ok(Put::Unchanged);
            }
        }
        let mut replaced = old.clone();
        if let Some(old) = &old {
            if old.is_directory() {
                self.clear(at, path, old)?;
                replaced = Some(as_plain(old));
            }
            self.leave_group(at, parent, old);
        }
        self.catalogs.editor_mut(at)?.write(path, replaced.as_ref(), &row, chunks)?;
        let was_directory = old.as_ref().is_some_and(Entry::is_directory);
        self.count_directories(parent, i64::from(row.is_directory()) - i64::from(was_directory))?;
        self.note(path, name);
        if row.is_directory() {
            self.new_directories.push(path.to_vec());
        }
        match (old.as_ref().is_some_and(is_marker), is_marker(&row)) {
            (false, true) => self.make_nested(parent)?,
            (true, false) => self.merge_nested(parent)?,
            _ => {}
        }
        Ok(if old.is_some() { Put::Replaced } else { Put::Added })
    }

    /// Refuses a parent that is no directory.
    fn check_directory(&mut self, path: &[u8]) -> Result<(), EditError> {
        match self.lookup(path)? {
            Some(entry) if entry.flags.has(Flags::BIND_MOUNTPOINT) => {
                Err(conflict(path, "another revision is mounted there, which cannot be changed"))
            }
            Some(entry) if entry.flags.has(Flags::HIDDEN) => {
                Err(conflict(path, "it is an internal directory of CernVM-FS"))
            }
            Some(entry) if entry.is_directory() => Ok(()),
            Some(entry) if entry.is_symlink() => Err(conflict(path, "it is a symbolic link, not a directory")),
            Some(_) => Err(conflict(path, "it is a file, not a directory")),
            None => Err(conflict(path, "there is no such directory")),
        }
    }

    /// Removes everything below a directory, nested catalogs among it, but not the directory's own row, which is in `at`.
    fn clear(&mut self, at: usize, path: &[u8], entry: &Entry) -> Result<(), EditError> {
        if entry.flags.has(Flags::NESTED_MOUNTPOINT) {
            return Ok(self.drop_nested(at, path)?);
        }
        let kept = self.catalogs.editor(at)?.below(path, Flags::HIDDEN | Flags::BIND_MOUNTPOINT)?;
        if let Some(kept) = kept {
            let why = format!(
                "{:?} below it is internal to CernVM-FS, or another revision is mounted there",
                shown(&kept.name)
            );
            return Err(conflict(path, &why));
        }
        self.catalogs.editor_mut(at)?.delete_below()?;
        for mount in self.nested_below(at, path) {
            self.drop_nested(at, &mount)?;
        }
        let directory = PathHash::of(path);
        self.catalogs.node_mut(at).groups.retain(|(parent, _)| *parent != directory);
        Ok(())
    }

    /// Changes the metadata of a directory, in both catalogs where one begins there.
    fn change_directory(&mut self, path: &[u8], old: &Entry, new: &Entry) -> Result<Put, Error> {
        let xattr = new.xattr.clone();
        let (mode, mtime, mtime_ns, uid, gid) = (new.mode, new.mtime, new.mtime_ns, new.uid, new.gid);
        let changed = |row: &Entry| Entry { mode, mtime, mtime_ns, uid, gid, xattr: xattr.clone(), ..row.clone() };
        if changed(old) == *old {
            return Ok(Put::Unchanged);
        }
        self.update_directory(path, changed)?;
        Ok(Put::Replaced)
    }

    /// Changes the row of a directory, in both catalogs where one begins there.
    fn update_directory(&mut self, path: &[u8], change: impl Fn(&Entry) -> Entry) -> Result<(), Error> {
        let at = self.catalogs.of_directory(path)?;
        let mut places = vec![at];
        if at != ROOT && self.catalogs.node(at).mount == path {
            places.push(self.catalogs.node(at).parent);
        }
        for at in places {
            let editor = self.catalogs.editor_mut(at)?;
            let missing = || Error::malformed("a catalog", format!("it has no row for /{}", shown(path)));
            let old = editor.catalog().lookup(path)?.ok_or_else(missing)?;
            editor.update(path, &old, &change(&old))?;
        }
        Ok(())
    }

    /// Adds to a directory's link count, which counts the directories in it.
    fn count_directories(&mut self, path: &[u8], more: i64) -> Result<(), Error> {
        if more == 0 {
            return Ok(());
        }
        self.update_directory(path, |row| Entry { hardlinks: row.hardlinks.saturating_add_signed(more), ..row.clone() })
    }

    fn note(&mut self, path: &[u8], name: &[u8]) {
        self.dirtab_changed |= path == DIRTAB && name == DIRTAB;
    }
}

/// A former mount point's row as the counters have it after its catalog went.
fn as_plain(entry: &Entry) -> Entry {
    let flags = Flags(entry.flags.0 & !Flags::NESTED_MOUNTPOINT);
    Entry { flags, ..entry.clone() }
}

/// Refuses a name that no file can have.
fn check_name(path: &[u8], name: &[u8]) -> Result<(), EditError> {
    let why = match name {
        _ if path.starts_with(b"/") => "paths begin at the root, without a slash",
        b"" => "an entry must have a name",
        b"." | b".." => "its name stands for a directory",
        name if name.contains(&0) => "its name has a zero byte in it",
        name if name.len() > LONGEST_NAME => "its name is longer than 255 bytes",
        _ => return Ok(()),
    };
    Err(conflict(path, why))
}

fn is_marker(entry: &Entry) -> bool {
    // Other publishers may have put a link there, which counts for them and for their check.
    entry.name == MARKER && (entry.is_file() || entry.is_symlink())
}

/// Refuses an entry that is not for people to change.
fn check_editable(path: &[u8], entry: &Entry) -> Result<(), EditError> {
    if entry.flags.has(Flags::BIND_MOUNTPOINT) {
        return Err(conflict(path, "another revision is mounted there"));
    }
    if entry.flags.has(Flags::HIDDEN) {
        return Err(conflict(path, "it is an internal entry of CernVM-FS"));
    }
    Ok(())
}

/// An edit of our own that the tree refuses all the same.
fn unexpected(error: EditError) -> Error {
    match error {
        EditError::Conflict { path, why } => Error::malformed(format!("/{}", shown(&path)), why),
        EditError::Store(error) => error,
    }
}

fn conflict(path: &[u8], why: &str) -> EditError {
    EditError::Conflict { path: path.to_vec(), why: why.to_owned() }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
