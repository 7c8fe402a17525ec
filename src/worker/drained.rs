//! A worker that an operator has told to take no more. It stays alive and stays so over restarts, until it is told otherwise.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{Worker, WorkerError};
use crate::domain::worker::Drained;

/// Its name in the state directory; there as long as the worker is drained.
const FILE: &str = "drained.json";
/// Longest reason that is kept, in characters.
const MAX_WHY: usize = 500;

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// What an operator said in an earlier life. A file that makes no sense counts: it was put there for a reason.
pub(super) fn load(state_dir: &Path) -> Result<Option<Drained>, WorkerError> {
    let path = path(state_dir);
    let read = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(WorkerError::Io { what: format!("read {}", path.display()), source }),
    };
    Ok(Some(serde_json::from_slice(&read).unwrap_or_else(|error| Drained {
        since: Timestamp::now(),
        why: format!("{} makes no sense: {error}", path.display()),
    })))
}

/// Makes it outlive the worker, or forgets it.
fn store(state_dir: &Path, drained: Option<&Drained>) -> Result<(), WorkerError> {
    let path = path(state_dir);
    let io = |source| WorkerError::Io { what: format!("write {}", path.display()), source };
    match drained {
        Some(drained) => {
            let mut file = tempfile::NamedTempFile::new_in(state_dir).map_err(io)?;
            serde_json::to_writer(&mut file, drained).map_err(|error| io(error.into()))?;
            file.flush().and_then(|()| file.as_file().sync_all()).map_err(io)?;
            file.persist(&path).map_err(|error| io(error.error))?;
        }
        None => match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        },
    }
    File::open(state_dir).and_then(|directory| directory.sync_all()).map_err(io)
}

impl Worker {
    /// Takes no more from now on. Told again, the first time and reason stay unless there is a new reason.
    pub(super) async fn drain_for_operator(&self, why: String) -> Result<(), WorkerError> {
        let why: String = why.chars().take(MAX_WHY).collect();
        let drained = match self.draining.drained() {
            Some(before) if why.is_empty() || before.why == why => return Ok(()),
            Some(before) => Drained { why, ..before },
            None => Drained { since: Timestamp::now(), why },
        };
        self.remember(Some(drained.clone())).await?;
        tracing::info!(why = drained.why, "an operator drains the worker: it takes no more until it is resumed");
        self.draining.set_drained(Some(drained));
        self.beat.notify_one();
        Ok(())
    }

    /// Takes again.
    pub(super) async fn resume(&self) -> Result<(), WorkerError> {
        self.remember(None).await?;
        if self.draining.drained().is_some() {
            tracing::info!("an operator resumes the worker");
        }
        self.draining.set_drained(None);
        self.beat.notify_one();
        Ok(())
    }

    async fn remember(&self, drained: Option<Drained>) -> Result<(), WorkerError> {
        let state_dir = self.settings.state_dir.clone();
        match tokio::task::spawn_blocking(move || store(&state_dir, drained.as_ref())).await {
            Ok(stored) => stored,
            Err(panic) => Err(WorkerError::Panicked(panic.to_string())),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_said_is_kept_until_it_is_taken_back_and_a_damaged_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()).unwrap(), None);
        let drained = Drained { since: Timestamp::UNIX_EPOCH, why: "new disk".into() };
        store(dir.path(), Some(&drained)).unwrap();
        assert_eq!(load(dir.path()).unwrap(), Some(drained));
        fs::write(path(dir.path()), "{").unwrap();
        assert!(load(dir.path()).unwrap().unwrap().why.contains(FILE));
        store(dir.path(), None).unwrap();
        store(dir.path(), None).unwrap();
        assert_eq!(load(dir.path()).unwrap(), None);
    }
}
