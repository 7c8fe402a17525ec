//! The objects of a revision in the making: files in a directory of their own in `data/txn`, which get their names when
//! their bytes are on stable storage. So an object that can be seen is whole, even after a power failure, and a later
//! publisher may rely on it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::hash::{ContentHash, ObjectKind};
use super::super::{Error, durable};

/// How our directories in `data/txn` begin: others' are never touched.
const PREFIX: &str = "conveyor-";

/// All threads share it. Dropping it removes the directory.
#[derive(Debug)]
pub(super) struct Objects {
    base: PathBuf,
    directory: PathBuf,
    table: Mutex<Table>,
    files: AtomicU32,
    /// Whether an object that is there is read before it is relied on.
    verify_known: bool,
    pub(super) counters: Counters,
}

/// Small, for there may be millions.
#[derive(Debug, Default)]
struct Table {
    /// The number of the file of each staged object.
    staged: HashMap<(ContentHash, ObjectKind), u32>,
    /// Objects that were there: whoever stored them may not have synced them.
    relied_on: HashSet<(ContentHash, ObjectKind)>,
}

/// What was done so far.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) bytes_stored: AtomicU64,
    pub(super) objects_new: AtomicU64,
    pub(super) objects_known: AtomicU64,
}

/// A file for an object whose name is not known yet. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct NewFile {
    pub(super) file: File,
    path: PathBuf,
    number: u32,
    kept: bool,
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            // The whole directory is removed in the end.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Objects {
    /// Makes the directory, after removing what crashed processes left.
    pub(super) fn begin(base: &Path, verify_known: bool) -> Result<Self, Error> {
        let txn = base.join("data/txn");
        remove_leftovers(&txn)?;
        let directory = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&txn)
            .map_err(Error::io(format!("make a directory in {}", txn.display())))?
            .keep();
        let (table, files, counters) = (Mutex::default(), AtomicU32::new(0), Counters::default());
        Ok(Self { base: base.to_owned(), directory, table, files, verify_known, counters })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn create(&self) -> io::Result<NewFile> {
        // Four thousand million files are more than a file system has room for, and a name in use is an error.
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let path = self.path(number);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
        let new = NewFile { file, path, number, kept: false };
        // Whatever the umask says: a web server reads it.
        new.file.set_permissions(fs::Permissions::from_mode(0o644))?;
        Ok(new)
    }

    fn path(&self, number: u32) -> PathBuf {
        self.directory.join(number.to_string())
    }

    /// Tells whether an object of that many stored bytes is staged or in the repository, which is then relied on.
    pub(super) fn has(&self, hash: ContentHash, kind: ObjectKind, stored: u64) -> bool {
        if self.table().staged.contains_key(&(hash, kind)) {
            self.counters.objects_known.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        // A file of another length was cut short by some crash, or by a full disk, under another tool: replace it.
        let place = self.base.join(hash.object_path(kind));
        let there = fs::symlink_metadata(&place).is_ok_and(|there| there.is_file() && there.len() == stored)
            && (!self.verify_known || has_hash(&place, &hash));
        if there {
            self.table().relied_on.insert((hash, kind));
            self.counters.objects_known.fetch_add(1, Ordering::Relaxed);
        }
        there
    }

    /// Gives a complete file to its object.
    pub(super) fn keep(&self, hash: ContentHash, kind: ObjectKind, mut new: NewFile, stored: u64) {
        // Two threads may have had the same content at the same time: the second file goes.
        if let std::collections::hash_map::Entry::Vacant(entry) = self.table().staged.entry((hash, kind)) {
            entry.insert(new.number);
            new.kept = true;
            self.counters.objects_new.fetch_add(1, Ordering::Relaxed);
            self.counters.bytes_stored.fetch_add(stored, Ordering::Relaxed);
        } else {
            self.counters.objects_known.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn staged(&self, hash: ContentHash, kind: ObjectKind) -> Option<PathBuf> {
        let number = self.table().staged.get(&(hash, kind)).copied();
        number.map(|number| self.path(number))
    }

    pub(super) fn failed(&self) -> impl FnOnce(io::Error) -> Error + use<> {
        Error::io(format!("write an object in {}", self.directory.display()))
    }

    /// See [`super::Ingest::publish`].
    pub(super) fn publish(&self, also: &[&Path]) -> Result<(), Error> {
        let Table { staged, relied_on } = std::mem::take(&mut *self.table());
        let data = self.base.join("data");
        let roots = [data.as_path(), self.base.as_path()];
        // Two barriers: bytes before names.
        let place = |(hash, kind): &(ContentHash, ObjectKind)| self.base.join(hash.object_path(*kind));
        let files = staged.values().map(|number| self.path(*number)).chain(relied_on.iter().map(place));
        durable::sync_all(files.chain(also.iter().map(|path| path.to_path_buf())), &roots)?;
        let folder = |path: &Path| path.parent().map(Path::to_owned);
        let mut folders: BTreeSet<_> = relied_on.iter().filter_map(|object| folder(&place(object))).collect();
        folders.insert(self.base.clone());
        for (object, number) in &staged {
            let target = place(object);
            let made = rename(&self.path(*number), &target)
                .map_err(Error::io(format!("move an object to {}", target.display())))?;
            folders.extend(folder(&target));
            folders.extend(made.then(|| data.clone()));
        }
        durable::sync_all(folders, &roots)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next one that begins.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Renames into a folder of `data`; tells whether that had to be made, as in some foreign repositories.
fn rename(from: &Path, to: &Path) -> io::Result<bool> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::rename(from, to).map(|()| true)
        }
        done => done.map(|()| false),
    }
}

/// Removes the directories that killed processes left behind.
pub(in crate::cvmfs) fn remove_leftovers(txn: &Path) -> Result<(), Error> {
    let failed = || Error::io(format!("clean {}", txn.display()));
    for entry in fs::read_dir(txn).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            fs::remove_dir_all(entry.path()).map_err(failed())?;
        }
    }
    Ok(())
}

/// Tells whether a file has the bytes that its name promises. One that cannot be read has not.
fn has_hash(path: &Path, hash: &ContentHash) -> bool {
    let read = || -> io::Result<ContentHash> {
        let (mut file, mut hasher) = (File::open(path)?, hash.algorithm().hasher());
        let mut buffer = vec![0; 128 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.finish()),
                count => hasher.update(&buffer[..count]),
            }
        }
    };
    read().is_ok_and(|found| found == *hash)
}
