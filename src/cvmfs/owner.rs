//! Whose the files of a repository are: what root makes there must stay its owner's, who publishes next.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

use super::Error;

/// Whom new files are given to; nobody unless we are root and the directory is another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner(Option<(u32, u32)>);

impl Owner {
    /// The owner of a directory.
    pub fn of(directory: &Path) -> Result<Self, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(Self(None));
        }
        let metadata = fs::metadata(directory).map_err(Error::io(format!("look at {}", directory.display())))?;
        Ok(Self(Some((metadata.uid(), metadata.gid())).filter(|(uid, _)| *uid != 0)))
    }

    /// Gives a file or directory to the owner.
    pub fn give(self, path: &Path) -> Result<(), Error> {
        let Some((uid, gid)) = self.0 else { return Ok(()) };
        lchown(path, Some(uid), Some(gid)).map_err(Error::io(format!("chown {}", path.display())))
    }

    /// Gives what a directory holds to the owner, to any depth.
    pub fn give_contents(self, directory: &Path) -> Result<(), Error> {
        if self.0.is_none() {
            return Ok(());
        }
        for entry in walkdir::WalkDir::new(directory).min_depth(1) {
            let failed = || Error::io(format!("list {}", directory.display()));
            self.give(entry.map_err(|error| failed()(error.into()))?.path())?;
        }
        Ok(())
    }

    /// Gives the folders of a directory to the owner where they are another's.
    pub fn give_folders(self, directory: &Path) -> Result<(), Error> {
        let Some((uid, _)) = self.0 else { return Ok(()) };
        let failed = || Error::io(format!("list {}", directory.display()));
        for entry in fs::read_dir(directory).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let metadata = entry.metadata().map_err(failed())?;
            if metadata.is_dir() && metadata.uid() != uid {
                self.give(&entry.path())?;
            }
        }
        Ok(())
    }
}
