//! The native publisher: writes a stratum 0 on disk by itself, through [`crate::cvmfs`]: no FUSE, no overlayfs, no root,
//! no `cvmfs_server`.
//!
//! A transaction holds the repository's lock from `open` to its end, so `recover` fences by taking it. Each `put` is an
//! edit of private copies of the catalogs, with the content stored beside them by all cores; nothing shows before the manifest is
//! replaced. `docs/native-publisher.md` has the order of durable steps and what a kill at each of them leaves.

mod changes;
mod check;
mod checkin;
mod checkout;
mod errors;
mod queue;
mod transaction;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use crate::cvmfs::history::named;
use crate::cvmfs::reader::{Expiry, Reader};
use crate::cvmfs::stratum0::{RepositoryLock, Stratum0};
use crate::domain::names::{LeasePath, RepositoryName};
use crate::publisher::{Evidence, Owner, Publisher, PublisherError, Revision, Transaction};

use errors::translate;
use transaction::NativeTransaction;

/// What a check-out may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckoutLimits {
    /// Bytes of content.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

impl Default for CheckoutLimits {
    fn default() -> Self {
        Self { bytes: 2 << 30, entries: 200_000 }
    }
}

/// Publishes into the repositories below one directory: `ROOT/NAME/.cvmfspublished`.
#[derive(Debug, Clone)]
pub struct NativePublisher {
    root: PathBuf,
    keys: PathBuf,
    /// Of what a script made, and of directories that are made on the way to a lease path.
    owner: Owner,
    limits: CheckoutLimits,
}

impl NativePublisher {
    /// The repositories in `root`, with their keys `NAME.key`, `NAME.crt` and `NAME.pub` in `keys`. Owner is the process's
    /// effective user and group.
    pub fn new(root: impl Into<PathBuf>, keys: impl Into<PathBuf>) -> Self {
        let owner = Owner { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() };
        Self { root: root.into(), keys: keys.into(), owner, limits: CheckoutLimits::default() }
    }

    /// Sets another owner.
    pub fn with_owner(mut self, owner: Owner) -> Self {
        self.owner = owner;
        self
    }

    /// Sets other limits for check-outs.
    pub fn with_checkout_limits(mut self, limits: CheckoutLimits) -> Self {
        self.limits = limits;
        self
    }

    /// A repository's storage and keys, for making it, signing its whitelist, or looking at it.
    pub fn stratum0(&self, repository: &RepositoryName) -> Stratum0 {
        Stratum0::at(self.root.join(repository.as_str()), repository.as_str(), &self.keys)
    }

    fn lock(&self, repository: &RepositoryName) -> Result<(Stratum0, RepositoryLock), PublisherError> {
        let stratum0 = self.stratum0(repository);
        if !stratum0.exists() {
            let path = stratum0.directory().join(crate::cvmfs::manifest::FILE);
            return Err(PublisherError::UnknownRepository { repository: repository.clone(), path });
        }
        match stratum0.lock().map_err(translate(repository, "lock it"))? {
            Ok(lock) => Ok((stratum0, lock)),
            Err(held) => Err(PublisherError::Busy { repository: repository.clone(), holder: held.holder }),
        }
    }
}

impl Publisher for NativePublisher {
    fn open(
        &self,
        repository: &RepositoryName,
        lease_path: &LeasePath,
        key: &str,
        scratch: &Path,
    ) -> Result<Box<dyn Transaction>, PublisherError> {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
        if key.is_empty() || !key.bytes().all(is_word) {
            let why = format!("{key:?} cannot be a tag: only A-Z a-z 0-9 . _ : - are allowed");
            return Err(PublisherError::Unusable { repository: repository.clone(), why });
        }
        let (stratum0, lock) = self.lock(repository)?;
        let now = now();
        let draft = stratum0.begin(lock, now).map_err(translate(repository, "open it"))?;
        let used = draft.base().tag(key).map_err(translate(repository, "look the tag up"))?;
        if let Some(tag) = used {
            let revision = Revision { number: tag.revision, root_hash: tag.root_hash.to_string() };
            return Err(PublisherError::TagExists { tag: key.to_owned(), revision });
        }
        let transaction = NativeTransaction::new(repository, lease_path, key, scratch, draft, self, now)?;
        Ok(Box::new(transaction))
    }

    fn recover(&self, repository: &RepositoryName, key: &str) -> Result<Evidence, PublisherError> {
        let (stratum0, lock) = self.lock(repository)?;
        // An expired whitelist says nothing about what was published.
        let reader = stratum0.reader(Expiry::Ignore).map_err(translate(repository, "read it"))?;
        stratum0.repair(&lock, &reader).map_err(translate(repository, "repair it"))?;
        let tag = reader.tag(key).map_err(translate(repository, "look the tag up"))?;
        Ok(tag.map_or(Evidence::NotPublished, |tag| {
            Evidence::Published(Revision { number: tag.revision, root_hash: tag.root_hash.to_string() })
        }))
    }

    fn reader(&self, repository: &RepositoryName) -> Result<Reader, PublisherError> {
        // An expired whitelist says nothing about what was published.
        self.stratum0(repository).reader(Expiry::Ignore).map_err(translate(repository, "read it"))
    }

    fn kind(&self) -> &'static str {
        "native"
    }

    fn check(&self, served: Option<&[RepositoryName]>) -> Vec<crate::publisher::Finding> {
        self.look(served)
    }

    fn whitelist_expires(&self, repository: &RepositoryName) -> Result<Option<Timestamp>, PublisherError> {
        let reader = self.stratum0(repository).reader(Expiry::Ignore).map_err(translate(repository, "read it"))?;
        Ok(Timestamp::from_second(reader.whitelist().expires_at).ok())
    }

    fn named_tags(&self, repository: &RepositoryName) -> Result<Option<u64>, PublisherError> {
        let tags = self.stratum0(repository).reader(Expiry::Ignore).and_then(|reader| reader.tags());
        Ok(Some(named(&tags.map_err(translate(repository, "read its tags"))?)))
    }

    /// Those in its directory. One that cannot be read has none: their jobs are better off elsewhere, or later.
    fn repositories(&self) -> Option<Vec<RepositoryName>> {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        let name = |entry: std::fs::DirEntry| RepositoryName::new(entry.file_name().into_string().ok()?).ok();
        let mut found: Vec<_> = entries.filter_map(name).filter(|name| self.stratum0(name).exists()).collect();
        found.sort_unstable();
        Some(found)
    }
}

/// Seconds since 1970: the only place in the native publisher that looks at a clock.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
