//! Writing objects: everything that a revision adds is first complete in a directory of its own in `data/txn`, and gets
//! its final name only when its bytes are on stable storage. So an object that can be seen is whole, even after a power
//! failure, and a later publisher may rely on it.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use flate2::Compression as Level;
use flate2::write::ZlibEncoder;

use super::hash::{Algorithm, ContentHash, Hasher, ObjectKind};
use super::{Error, durable};

/// How our directories in `data/txn` begin: others' are never touched.
const PREFIX: &str = "conveyor-";

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
    files: u64,
    encoder: ZlibEncoder<Sink>,
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
        let encoder = ZlibEncoder::new(Sink::new(&directory)?, Level::default());
        Ok(Self { base: base.to_owned(), directory, staged: HashMap::new(), files: 0, encoder })
    }

    /// The directory, for other temporary files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Compresses and stores a content, unless the repository has it.
    pub fn add(&mut self, kind: ObjectKind, content: &mut dyn Read) -> Result<Staged, StageError> {
        let taken = self.compress(content);
        let sink = match self.restart() {
            Ok(sink) => sink,
            Err(error) => {
                // What the stream still holds must not get into the next object.
                self.encoder = ZlibEncoder::new(Sink::new(&self.directory)?, Level::default());
                return Err(error.into());
            }
        };
        let size = taken?;
        let hash = sink.hasher.clone().finish();
        self.keep(hash, kind, sink)?;
        Ok(Staged { hash, size })
    }

    fn compress(&mut self, content: &mut dyn Read) -> Result<u64, StageError> {
        let mut buffer = [0; 64 * 1024];
        let mut size = 0;
        loop {
            match content.read(&mut buffer) {
                Ok(0) => return Ok(size),
                Ok(count) => {
                    self.encoder.write_all(&buffer[..count]).map_err(self.failed())?;
                    size += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StageError::Content(error)),
            }
        }
    }

    /// Ends the stream and starts the next one; allocating an encoder for each small file would cost more than its data.
    fn restart(&mut self) -> Result<Sink, Error> {
        let next = Sink::new(&self.directory)?;
        let failed = self.failed();
        self.encoder.reset(next).map_err(failed)
    }

    fn keep(&mut self, hash: ContentHash, kind: ObjectKind, sink: Sink) -> Result<(), Error> {
        if self.staged.contains_key(&(hash, kind)) {
            return Ok(());
        }
        // A file of another length was cut short by some crash, or by a full disk, under another tool: replace it.
        match fs::symlink_metadata(self.base.join(hash.object_path(kind))) {
            Ok(there) if there.is_file() && there.len() == sink.stored => return Ok(()),
            _ => {}
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

    /// Makes all staged objects durable and gives them their names, which are durable too when this returns, as is all
    /// else that was written to the repository before.
    pub fn publish(&mut self) -> Result<(), Error> {
        let data = self.base.join("data");
        // Two barriers: bytes before names. One sync of the file system each costs less than one for every file, and
        // covers objects which others stored and did not sync.
        self.sync(&data)?;
        for ((hash, kind), path) in &self.staged {
            let target = self.base.join(hash.object_path(*kind));
            rename(path, &target).map_err(Error::io(format!("move an object to {}", target.display())))?;
        }
        self.staged.clear();
        self.sync(&data)
    }

    fn sync(&self, data: &Path) -> Result<(), Error> {
        durable::sync_file_system(data)?;
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
        if device(data) != device(&self.base) {
            durable::sync_file_system(&self.base)?;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next one that begins.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Renames into a folder of `data` that an older or foreign repository may not have yet.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::rename(from, to)
        }
        done => done,
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
        let hasher = Algorithm::Sha1.hasher()?;
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
