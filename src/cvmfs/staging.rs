//! Writing objects: everything that a revision adds is first complete in a directory of its own in `data/txn`, and gets
//! its final name only when its bytes are on stable storage. So an object that can be seen is whole, even after a power
//! failure, and a later publisher may rely on it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use flate2::Compression as Level;
use flate2::write::ZlibEncoder;

use super::hash::{Algorithm, ContentHash, Hasher, ObjectKind};
use super::{Error, durable};

/// How our directories in `data/txn` begin: others' are never touched.
const PREFIX: &str = "conveyor-";

/// The level for the content of files, as the real tools have it.
const CONTENT: Level = Level::new(6);

/// The level for catalogs and histories, which each publish compresses whole: half the time, 7 % more bytes.
const DATABASES: Level = Level::new(1);

/// What is kept in memory of an object before it gets a file: most are never written, because they exist.
const SPILL_BYTES: usize = 1 << 20;

/// An object that is staged or was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staged {
    /// Its name.
    pub hash: ContentHash,
    /// Bytes of content.
    pub size: u64,
}

/// Why an object was not staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Its content could not be read.
    #[error("cannot read the content")]
    Content(#[source] io::Error),
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] Error),
}

/// The objects of a revision in the making. Dropping it removes those that were not moved to their place.
pub struct Staging {
    base: PathBuf,
    directory: PathBuf,
    staged: HashMap<(ContentHash, ObjectKind), PathBuf>,
    relied_on: HashSet<PathBuf>,
    files: u64,
    content: ZlibEncoder<Sink>,
    databases: ZlibEncoder<Sink>,
}

impl Staging {
    /// Makes the directory, after removing what crashed processes left. The caller holds the repository's lock.
    pub fn begin(base: &Path) -> Result<Self, Error> {
        let txn = base.join("data/txn");
        remove_leftovers(&txn)?;
        let directory = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&txn)
            .map_err(Error::io(format!("make a directory in {}", txn.display())))?
            .keep();
        let content = ZlibEncoder::new(Sink::new(&directory)?, CONTENT);
        let databases = ZlibEncoder::new(Sink::new(&directory)?, DATABASES);
        let (staged, relied_on) = (HashMap::new(), HashSet::new());
        Ok(Self { base: base.to_owned(), directory, staged, relied_on, files: 0, content, databases })
    }

    /// The directory, for other temporary files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Compresses and stores a content, unless the repository has it.
    pub fn add(&mut self, kind: ObjectKind, content: &mut dyn Read) -> Result<Staged, StageError> {
        let next = Sink::new(&self.directory)?;
        let failed = self.failed();
        let (encoder, level) = match kind {
            ObjectKind::Catalog | ObjectKind::History => (&mut self.databases, DATABASES),
            _ => (&mut self.content, CONTENT),
        };
        let taken = compress(content, encoder);
        // Ends the stream and starts the next: allocating an encoder for each small file would cost more than its data.
        let sink = match encoder.reset(next) {
            Ok(sink) => sink,
            Err(error) => {
                // What the stream still holds must not get into the next object.
                *encoder = ZlibEncoder::new(Sink::new(&self.directory)?, level);
                return Err(failed(error).into());
            }
        };
        let size = match taken {
            Ok(size) => size,
            Err(CopyError::Read(error)) => return Err(StageError::Content(error)),
            Err(CopyError::Write(error)) => return Err(failed(error).into()),
        };
        let hash = sink.hasher.clone().finish();
        self.keep(hash, kind, sink)?;
        Ok(Staged { hash, size })
    }

    fn keep(&mut self, hash: ContentHash, kind: ObjectKind, sink: Sink) -> Result<(), Error> {
        if self.staged.contains_key(&(hash, kind)) {
            return Ok(());
        }
        // A file of another length was cut short by some crash, or by a full disk, under another tool: replace it.
        let place = self.base.join(hash.object_path(kind));
        if fs::symlink_metadata(&place).is_ok_and(|there| there.is_file() && there.len() == sink.stored) {
            // Whoever stored it may not have synced it.
            self.relied_on.insert(place);
            return Ok(());
        }
        self.files += 1;
        let path = self.directory.join(self.files.to_string());
        sink.save(&path).map_err(self.failed())?;
        self.staged.insert((hash, kind), path);
        Ok(())
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> Error + use<> {
        Error::io(format!("write an object in {}", self.directory.display()))
    }

    /// The file of a staged object.
    pub fn staged(&self, hash: &ContentHash, kind: ObjectKind) -> Option<&Path> {
        self.staged.get(&(*hash, kind)).map(PathBuf::as_path)
    }

    /// Makes all staged objects durable and gives them their names, which are durable too when this returns. So are the
    /// objects that were there already, the files `also`, and the base's own entries.
    pub fn publish(&mut self, also: &[&Path]) -> Result<(), Error> {
        let data = self.base.join("data");
        let roots = [data.as_path(), self.base.as_path()];
        // Two barriers: bytes before names.
        let mut files: BTreeSet<PathBuf> = self.staged.values().cloned().collect();
        files.extend(self.relied_on.iter().cloned());
        files.extend(also.iter().map(|path| path.to_path_buf()));
        durable::sync_all(&files, &roots)?;
        let mut folders = BTreeSet::from([self.base.clone()]);
        for ((hash, kind), path) in &self.staged {
            let target = self.base.join(hash.object_path(*kind));
            let made = rename(path, &target).map_err(Error::io(format!("move an object to {}", target.display())))?;
            folders.extend(target.parent().map(Path::to_owned));
            folders.extend(made.then(|| data.clone()));
        }
        folders.extend(self.relied_on.iter().filter_map(|path| path.parent().map(Path::to_owned)));
        self.staged.clear();
        self.relied_on.clear();
        durable::sync_all(&folders, &roots)
    }
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

fn compress(content: &mut dyn Read, encoder: &mut ZlibEncoder<Sink>) -> Result<u64, CopyError> {
    let mut buffer = [0; 64 * 1024];
    let mut size = 0;
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(count) => {
                encoder.write_all(&buffer[..count]).map_err(CopyError::Write)?;
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CopyError::Read(error)),
        }
    }
}

impl Drop for Staging {
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
pub(super) fn remove_leftovers(txn: &Path) -> Result<(), Error> {
    let failed = || Error::io(format!("clean {}", txn.display()));
    for entry in fs::read_dir(txn).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            fs::remove_dir_all(entry.path()).map_err(failed())?;
        }
    }
    Ok(())
}

/// Takes in compressed bytes: hashes them, keeps the first in memory and, if there are more, all in a file.
struct Sink {
    hasher: Hasher,
    stored: u64,
    memory: Vec<u8>,
    file: Option<File>,
    spill: PathBuf,
}

impl Sink {
    fn new(directory: &Path) -> Result<Self, Error> {
        let hasher = Algorithm::Sha1.hasher();
        Ok(Self { hasher, stored: 0, memory: Vec::new(), file: None, spill: directory.join("spill") })
    }

    fn create(path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
        // Whatever the umask says: a web server reads it.
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        Ok(file)
    }

    /// Gives what was taken in a file of its own.
    fn save(self, path: &Path) -> io::Result<()> {
        match self.file {
            Some(mut file) => {
                file.write_all(&self.memory)?;
                fs::rename(&self.spill, path)
            }
            None => Self::create(path)?.write_all(&self.memory),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.memory.extend_from_slice(bytes);
        if self.memory.len() > SPILL_BYTES {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(Self::create(&self.spill)?),
            };
            file.write_all(&self.memory)?;
            self.memory.clear();
        }
        self.hasher.update(bytes);
        self.stored += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
