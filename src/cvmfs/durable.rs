//! Putting files on stable storage.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Error;

/// Makes a file's bytes, or a directory's entries, durable.
pub fn sync(path: &Path) -> Result<(), Error> {
    #[cfg(test)]
    barrier::passed(Some(&BTreeSet::from([path.to_owned()])));
    sync_one(path)
}

/// Makes a directory and those above it that are missing, durably.
pub fn create_directories(directory: &Path) -> Result<(), Error> {
    let missing: Vec<_> = directory.ancestors().take_while(|above| !above.exists()).collect();
    fs::create_dir_all(directory).map_err(Error::io(format!("create {}", directory.display())))?;
    let parent = |made: &&Path| made.parent().filter(|parent| !parent.as_os_str().is_empty()).map(Path::to_owned);
    // A relative path of one part lies in the present directory.
    missing.iter().try_for_each(|made| sync(&parent(made).unwrap_or_else(|| ".".into())))
}

/// How many files are synced one by one; above that, syncing the whole file system costs less.
const FEW: usize = 48;

/// Makes files and directories durable, all of them on the file systems of `roots`.
///
/// Few are synced each by itself, side by side, so that they share the disk's flushes: syncing the file system would wait
/// for whatever else the machine is writing.
pub fn sync_all(paths: impl IntoIterator<Item: Into<PathBuf>>, roots: &[&Path]) -> Result<(), Error> {
    let mut few = BTreeSet::new();
    for path in paths {
        few.insert(path.into());
        // There may be millions, which are not even looked at.
        if few.len() > FEW {
            #[cfg(test)]
            barrier::passed(None);
            return sync_file_systems(roots);
        }
    }
    #[cfg(test)]
    barrier::passed(Some(&few));
    std::thread::scope(|scope| {
        let threads: Vec<_> = few.iter().map(|path| scope.spawn(move || sync_one(path))).collect();
        let ended =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(Error::Missing("a thread".into()))));
        ended.collect::<Result<Vec<_>, _>>().map(drop)
    })
}

fn sync_one(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|opened| opened.sync_all()).map_err(Error::io(format!("sync {}", path.display())))
}

/// Syncs the file systems of some directories, each once.
fn sync_file_systems(roots: &[&Path]) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for root in roots {
        let device = fs::metadata(root).map_err(Error::io(format!("look at {}", root.display())))?.dev();
        if seen.insert(device) {
            sync_file_system(root)?;
        }
    }
    Ok(())
}

/// Makes everything on a directory's file system durable, in one go.
fn sync_file_system(directory: &Path) -> Result<(), Error> {
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

/// Lets a test see each barrier of its own thread, just before it takes effect.
#[cfg(test)]
pub(super) mod barrier {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    /// Is given the files and directories that become durable; `None` stands for everything.
    pub(crate) type Observer = Box<dyn FnMut(Option<&BTreeSet<PathBuf>>)>;

    thread_local! {
        static OBSERVER: RefCell<Option<Observer>> = const { RefCell::new(None) };
    }

    /// Sets or, with `None`, removes this thread's observer.
    pub(crate) fn observe(observer: Option<Observer>) {
        OBSERVER.set(observer);
    }

    pub(super) fn passed(paths: Option<&BTreeSet<PathBuf>>) {
        OBSERVER.with_borrow_mut(|observer| {
            if let Some(observer) = observer {
                observer(paths);
            }
        });
    }
}
