//! One repository on this node: where it is mounted, spooled, served and sent to, and who has it open.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use nix::unistd::{Uid, User};

use super::Mark;
use super::journal::Lock;
use crate::cvmfs::Error;
use crate::cvmfs::http::HttpBase;
use crate::cvmfs::keys;
use crate::cvmfs::reader::{Expiry, Reader};
use crate::cvmfs::settings::{Node, Upstream};
use crate::domain::names::RepositoryName;
use crate::publisher::{Owner, PublisherError, Revision};

/// A repository of this node.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) name: RepositoryName,
    pub(super) node: Node,
    pub(super) owner: Owner,
    pub(super) keys: PathBuf,
}

impl Site {
    /// Reads `server.conf`.
    pub(super) fn load(config_dir: &Path, name: &RepositoryName) -> Result<Self, PublisherError> {
        let path = config_dir.join("repositories.d").join(name.as_str()).join("server.conf");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(PublisherError::UnknownRepository { repository: name.clone(), path });
            }
            Err(source) => return Err(PublisherError::Io { what: format!("read {}", path.display()), source }),
        };
        let unusable = |why: String| PublisherError::Unusable { repository: name.clone(), why };
        let node = Node::parse(&path.display().to_string(), &text, name.as_str());
        let node = node.map_err(|error| unusable(error.to_string()))?;
        let node = node.ok_or_else(|| unusable(format!("{} is that of a replica", path.display())))?;
        let user = User::from_name(&node.user).ok().flatten();
        let user = user.ok_or_else(|| {
            unusable(format!("CVMFS_USER in {} is {:?}, and there is no such account", path.display(), node.user))
        })?;
        let owner = Owner { uid: user.uid.as_raw(), gid: user.gid.as_raw() };
        Ok(Self { name: name.clone(), node, owner, keys: config_dir.join("keys") })
    }

    /// `in_transaction.lock`: it exists while a transaction is open.
    pub(super) fn lock_path(&self) -> PathBuf {
        self.node.spool.join("in_transaction.lock")
    }

    /// The transaction that is open, whoever opened it.
    pub(super) fn lock(&self) -> Result<Option<Lock>, PublisherError> {
        let path = self.lock_path();
        Lock::look(&path).map_err(|source| PublisherError::Io { what: format!("look at {}", path.display()), source })
    }

    /// Where the open transaction's changes are.
    pub(super) fn upper(&self) -> PathBuf {
        self.node.spool.join("scratch/current")
    }

    /// Where the revision is mounted that the transaction began with.
    pub(super) fn lower(&self) -> PathBuf {
        self.node.spool.join("rdonly")
    }

    /// Whether the open transaction has changed nothing.
    pub(super) fn is_untouched(&self) -> io::Result<bool> {
        Ok(fs::read_dir(self.upper())?.next().is_none())
    }

    /// Whether it is published through a gateway.
    pub(super) fn has_gateway(&self) -> bool {
        matches!(self.node.upstream, Upstream::Gateway { .. })
    }

    /// Reads the repository as clients get it.
    pub(super) fn reader(&self, expiry: Expiry) -> Result<Reader, PublisherError> {
        let failed = |error| self.unreadable(format!("read it at {}", self.node.url), error);
        let key = keys::load_public(&self.keys, self.name.as_str()).map_err(failed)?;
        let base = HttpBase::new(&self.node.url).map_err(failed)?;
        Reader::open(Box::new(base), self.name.as_str(), &[key], expiry).map_err(failed)
    }

    /// An error of reading it. What the network did passes; what is wrong with the repository does not.
    pub(super) fn unreadable(&self, what: String, error: Error) -> PublisherError {
        let repository = self.name.clone();
        match error {
            Error::Io { .. } => {
                PublisherError::Io { what: format!("{what} ({repository})"), source: io::Error::other(error) }
            }
            Error::Untrusted { .. } | Error::Expired { .. } | Error::Unsupported(_) | Error::Key { .. } => {
                PublisherError::Unusable { repository, why: error.to_string() }
            }
            error => PublisherError::Format { repository, what, source: Box::new(error) },
        }
    }

    /// What the history of an open reader says of a batch.
    pub(super) fn find(&self, reader: &Reader, mark: Mark, key: &str) -> Result<Option<Revision>, PublisherError> {
        let tag = match mark {
            Mark::Tag => reader.tag(key),
            Mark::Description => reader.tags().map(|tags| tags.into_iter().find(|tag| tag.description.trim() == key)),
        };
        let tag = tag.map_err(|error| self.unreadable(format!("look for {key} in its history"), error))?;
        Ok(tag.map(|tag| Revision { number: tag.revision, root_hash: tag.root_hash.to_string() }))
    }

    /// Says whose transaction is open, for those who wait for it.
    pub(super) fn describe(&self, lock: &Lock) -> String {
        let name = User::from_uid(Uid::from_raw(lock.uid)).ok().flatten().map(|user| format!(" ({})", user.name));
        let born = SystemTime::UNIX_EPOCH + Duration::from_nanos(lock.id.born);
        let since = Timestamp::try_from(born).map_or_else(|_| "?".into(), |at| format!("{at:.0}"));
        format!(
            "a transaction that is not Conveyor's, of uid {}{}, open since {since}; it is theirs to publish or abort",
            lock.uid,
            name.unwrap_or_default()
        )
    }
}
