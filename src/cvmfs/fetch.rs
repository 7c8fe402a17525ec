//! Where a repository's files come from.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use super::Error;

/// Gives the files below a repository's base, such as `.cvmfspublished` or `data/ab/cdef…`.
pub trait Fetch: Send + Sync {
    /// Opens a file for reading; `None` where there is none.
    fn fetch(&self, path: &str) -> io::Result<Option<Box<dyn Read + Send>>>;

    /// Tells whether there is a file.
    fn exists(&self, path: &str) -> io::Result<bool> {
        Ok(self.fetch(path)?.is_some())
    }
}

/// A repository on this machine: the directory that holds `.cvmfspublished`.
#[derive(Debug, Clone)]
pub struct LocalDir(pub PathBuf);

impl LocalDir {
    /// The repository in this directory.
    pub fn new(directory: impl AsRef<Path>) -> Self {
        Self(directory.as_ref().to_owned())
    }
}

impl Fetch for LocalDir {
    fn fetch(&self, path: &str) -> io::Result<Option<Box<dyn Read + Send>>> {
        match File::open(self.0.join(path)) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.0.join(path).try_exists()
    }
}

/// Files that were fetched already, by their paths.
#[derive(Debug, Clone, Default)]
pub struct Fetched(pub HashMap<String, Vec<u8>>);

impl Fetch for Fetched {
    fn fetch(&self, path: &str) -> io::Result<Option<Box<dyn Read + Send>>> {
        Ok(self.0.get(path).map(|bytes| Box::new(Cursor::new(bytes.clone())) as Box<dyn Read + Send>))
    }
}

/// Reads one of the small files at a repository's base whole. More than `limit` bytes are refused: an answer that large
/// is not the file.
pub fn fetch_small(fetch: &dyn Fetch, path: &str, limit: u64) -> Result<Vec<u8>, Error> {
    let reader = fetch.fetch(path).map_err(Error::io(format!("read {path}")))?;
    let reader = reader.ok_or_else(|| Error::Missing(path.to_owned()))?;
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes).map_err(Error::io(format!("read {path}")))?;
    if bytes.len() as u64 > limit {
        return Err(Error::malformed(path, format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}
