//! What this node remembers of its transactions: written before anything is done, so that whoever comes after a crash knows
//! which of them are ours to end.
//!
//! `STATE/transactions/REPOSITORY/journal.json`, for its owner alone, since it holds the token of the lease. Beside it is what
//! the last commands said. There is one transaction a repository, as `cvmfs_server` has it.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::names::RepositoryName;
use crate::publisher::gateway::SessionToken;

/// Which file a lock is: another one of the same name has another birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LockId {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// Nanoseconds since 1970.
    pub(super) born: u64,
}

/// The right to publish through a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    #[serde(with = "token")]
    pub(super) token: SessionToken,
    /// When it ends, where the gateway has told.
    pub(super) expires: Option<Timestamp>,
}

/// A token in the journal, the one place where it is written down.
mod token {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::publisher::gateway::SessionToken;

    pub(super) fn serialize<S: Serializer>(token: &SessionToken, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(token.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SessionToken, D::Error> {
        SessionToken::new(&String::deserialize(from)?).ok_or_else(|| D::Error::custom("it is no token"))
    }
}

/// How far a transaction has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(super) enum Phase {
    /// `cvmfs_server transaction` is about to be run, runs, or has ended unseen.
    Opening,
    /// It is open, and ours.
    Open {
        lock: LockId,
        /// Where there is a gateway.
        lease: Option<Lease>,
    },
    /// `cvmfs_server publish` is about to be run, runs, or has ended unseen.
    Publishing { lock: LockId, lease: Option<Lease> },
}

/// A transaction of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The batch's key.
    pub(super) key: String,
    /// Nanoseconds since 1970, by the clock that dates files.
    pub(super) began: u64,
    #[serde(flatten)]
    pub(super) phase: Phase,
}

/// The journal of one repository.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    directory: PathBuf,
}

impl Journal {
    pub(super) fn of(state_dir: &Path, repository: &RepositoryName) -> Self {
        Self { directory: state_dir.join("transactions").join(repository.as_str()) }
    }

    /// The repositories with a transaction that was not seen to end.
    pub(super) fn repositories(state_dir: &Path) -> Vec<RepositoryName> {
        let entries = fs::read_dir(state_dir.join("transactions")).into_iter().flatten().flatten();
        let name = |entry: fs::DirEntry| RepositoryName::new(entry.file_name().into_string().ok()?).ok();
        entries.filter(|entry| entry.path().join("journal.json").exists()).filter_map(name).collect()
    }

    /// Where the outputs of commands go.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn file(&self) -> PathBuf {
        self.directory.join("journal.json")
    }

    /// The transaction that was not seen to end.
    pub(super) fn read(&self) -> io::Result<Option<Entry>> {
        let text = match fs::read(self.file()) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        serde_json::from_slice(&text).map(Some).map_err(io::Error::other)
    }

    /// Writes an entry, durably, in the place of the one before.
    pub(super) fn write(&self, entry: &Entry) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let new = self.directory.join("journal.new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(entry).map_err(io::Error::other)?)?;
        file.sync_all()?;
        fs::rename(&new, self.file())?;
        self.sync()
    }

    /// Forgets the entry, durably: an entry that came back would be taken for a transaction that is open.
    pub(super) fn clear(&self) -> io::Result<()> {
        match fs::remove_file(self.file()) {
            Ok(()) => self.sync(),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.directory)?.sync_all()
    }
}

/// An open transaction, as the spool directory shows it, whoever opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) id: LockId,
    /// Who owns it.
    pub(super) uid: u32,
}

impl Lock {
    /// Looks at `in_transaction.lock`.
    pub(super) fn look(path: &Path) -> io::Result<Option<Self>> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // A file system without times of birth has that of the last change, which for an empty file that nobody writes to
        // is the same.
        let born = match metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()) {
            Some(since) => u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            None => u64::try_from(metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec()).unwrap_or(0),
        };
        let id = LockId { device: metadata.dev(), inode: metadata.ino(), born };
        Ok(Some(Self { id, uid: metadata.uid() }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_comes_back_and_is_for_its_owner_alone() {
        let state = tempfile::tempdir().unwrap();
        let journal = Journal::of(state.path(), &RepositoryName::new("test.example.org").unwrap());
        assert_eq!(journal.read().unwrap(), None);
        let lock = LockId { device: 1, inode: 2, born: u64::MAX };
        let lease = Some(Lease { token: SessionToken::new("secret").unwrap(), expires: None });
        let entry = Entry { key: "cj-1".into(), began: 7, phase: Phase::Open { lock, lease } };
        journal.write(&entry).unwrap();
        assert_eq!(journal.read().unwrap(), Some(entry.clone()));
        assert_eq!(fs::metadata(journal.file()).unwrap().mode() & 0o777, 0o600);
        assert!(!format!("{entry:?}").contains("secret"));
        journal.clear().unwrap();
        journal.clear().unwrap();
        assert_eq!(journal.read().unwrap(), None);
    }

    #[test]
    fn a_lock_that_was_made_anew_is_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("in_transaction.lock");
        assert_eq!(Lock::look(&path).unwrap(), None);
        fs::write(&path, "").unwrap();
        let first = Lock::look(&path).unwrap().unwrap();
        assert_eq!(Lock::look(&path).unwrap(), Some(first));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_ne!(Lock::look(&path).unwrap().unwrap().id, first.id);
    }
}
