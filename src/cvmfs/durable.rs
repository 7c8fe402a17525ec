//! Putting files on stable storage.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::Error;

/// Makes a directory's entries durable.
pub fn sync_directory(directory: &Path) -> Result<(), Error> {
    File::open(directory)
        .and_then(|opened| opened.sync_all())
        .map_err(Error::io(format!("sync the directory {}", directory.display())))
}

/// Makes everything on a directory's file system durable, in one go.
pub fn sync_file_system(directory: &Path) -> Result<(), Error> {
    File::open(directory)
        .and_then(|opened| nix::unistd::syncfs(&opened).map_err(io::Error::from))
        .map_err(Error::io(format!("sync the file system of {}", directory.display())))
}

/// Removes a file that may be gone already.
pub fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}
