//! Who leads on a state directory: whoever holds the lock of a file in it, which dies with its process.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::Flock;
use tokio::sync::oneshot;

use super::error::StoreError;
use crate::file_lock;

/// The right to write into a state directory, held until this is dropped or its process dies.
///
/// A process that is stopped (SIGSTOP, a frozen machine) still leads: it may go on at any time.
#[derive(Debug)]
pub struct Leadership {
    _lock: Flock<File>,
}

impl Leadership {
    /// Takes it, or fails with [`StoreError::NotLeader`] where another process holds it for some seconds. Blocks so long.
    pub fn take(directory: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(directory).map_err(StoreError::io(format!("make {}", directory.display())))?;
        let path = lock_file(directory);
        let lock = file_lock::exclusive(open(&path)?).map_err(|why| match why {
            Errno::EWOULDBLOCK => StoreError::NotLeader { path: path.clone() },
            why => cannot_lock(&path, why),
        })?;
        Ok(Self { _lock: lock })
    }

    /// Takes it where nobody holds it at this moment.
    pub fn take_now(directory: &Path) -> Result<Option<Self>, StoreError> {
        std::fs::create_dir_all(directory).map_err(StoreError::io(format!("make {}", directory.display())))?;
        let path = lock_file(directory);
        match file_lock::now(open(&path)?) {
            Ok(lock) => Ok(Some(Self { _lock: lock })),
            Err(Errno::EWOULDBLOCK) => Ok(None),
            Err(why) => Err(cannot_lock(&path, why)),
        }
    }

    /// Waits for it, however long another process leads. The waiting thread ends with the process.
    pub async fn wait(directory: &Path) -> Result<Self, StoreError> {
        let path = lock_file(directory);
        let (told, lock) = oneshot::channel();
        std::thread::Builder::new()
            .name("leadership".into())
            .spawn(move || told.send(wait_for(&path)))
            .map_err(StoreError::io("start the thread that waits for the leadership"))?;
        let lock = lock.await.unwrap_or(Err(StoreError::Stopped))?;
        Ok(Self { _lock: lock })
    }
}

/// Blocks until the lock of the file that is there *then* is ours: the state may have been moved away and restored meanwhile,
/// and whoever holds the lock of the old file does not lead on the new state.
fn wait_for(path: &Path) -> Result<Flock<File>, StoreError> {
    loop {
        let lock = file_lock::wait(open(path)?).map_err(|why| cannot_lock(path, why))?;
        let cannot_look = || StoreError::io(format!("look at {}", path.display()));
        let held = lock.metadata().map_err(cannot_look())?;
        match std::fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (held.dev(), held.ino()) => return Ok(lock),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot_look()(error)),
        }
    }
}

fn lock_file(directory: &Path) -> PathBuf {
    directory.join("leader.lock")
}

fn open(path: &Path) -> Result<File, StoreError> {
    File::create(path).map_err(StoreError::io(format!("open {}", path.display())))
}

fn cannot_lock(path: &Path, why: Errno) -> StoreError {
    StoreError::io(format!("lock {}", path.display()))(why.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_leads_when_the_leader_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let first = Leadership::take(directory.path()).unwrap();
        assert!(Leadership::take_now(directory.path()).unwrap().is_none());
        let path = directory.path().to_owned();
        let waiting = tokio::spawn(async move { Leadership::wait(&path).await });
        drop(first);
        let second = waiting.await.unwrap().unwrap();
        assert!(Leadership::take_now(directory.path()).unwrap().is_none());
        drop(second);
        assert!(Leadership::take_now(directory.path()).unwrap().is_some());
    }

    #[tokio::test]
    async fn the_lock_of_a_state_that_was_moved_away_is_worth_nothing() {
        let base = tempfile::tempdir().unwrap();
        let (state, lost) = (base.path().join("state"), base.path().join("lost"));
        let first = Leadership::take(&state).unwrap();
        let old = std::fs::File::open(lock_file(&state)).unwrap().metadata().unwrap().ino();
        let path = state.clone();
        let waiting = tokio::task::spawn_blocking(move || wait_for(&lock_file(&path)));
        // It waits for the lock of the first file.
        let is_blocked = || {
            let locks = std::fs::read_to_string("/proc/locks").unwrap();
            locks.lines().any(|line| line.contains("->") && line.contains(&format!(":{old} ")))
        };
        while !is_blocked() {
            tokio::task::yield_now().await;
        }
        std::fs::rename(&state, &lost).unwrap();
        let restored = Leadership::take(&state).unwrap();
        drop(first);
        // The old lock is free now; whoever got it looks and waits for the other.
        let new = std::fs::metadata(lock_file(&state)).unwrap().ino();
        let waits_for_new = || {
            let locks = std::fs::read_to_string("/proc/locks").unwrap();
            locks.lines().any(|line| line.contains("->") && line.contains(&format!(":{new} ")))
        };
        while !waits_for_new() {
            assert!(!waiting.is_finished(), "two lead");
            tokio::task::yield_now().await;
        }
        drop(restored);
        assert_eq!(waiting.await.unwrap().unwrap().metadata().unwrap().ino(), new);
    }
}
