//! The publisher that drives `cvmfs_server` on a publisher node, with or without a gateway, as a careful operator would.
//!
//! ```text
//!         journal: opening ──► open{lock, token} ──► publishing ──► (none)
//!                     │             │                    │
//! cvmfs_server: transaction    payloads in       publish -a cj-…   then the history, over HTTP, tells
//!                              the union mount        │
//!                                   └── abort -f ◄────┴── fence: our processes end, our lease is dropped
//! ```
//!
//! * What became of a publish is read from manifest and history (`site`), never from exit codes (`refusal` is advice).
//! * A transaction is ended only where the journal shows that it is ours (`settle`); any other one makes jobs wait.
//! * Its mount is used for staging only. After a publish it may show the revision before.
//! * No value of a user reaches a command line (`words`).

mod check;
mod command;
mod effective;
mod in_use;
mod inspect;
mod journal;
mod lease;
mod open;
mod place;
mod publish;
mod publishing;
mod refusal;
mod settings;
mod settle;
mod site;
mod transaction;
mod union;
mod upper;
mod verify;
mod words;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

pub use inspect::{Checks, WorldReadable};
pub use refusal::{Refusal, Said, Subcommand};
pub use settings::{Mark, Settings};
pub use union::Ownership;

use journal::Journal;
use site::Site;

use crate::causes::sentence;
use crate::cvmfs::history::named;
use crate::cvmfs::reader::{Expiry, Reader};
use crate::cvmfs::settings::Upstream;
use crate::domain::names::{LeasePath, RepositoryName};
use crate::publisher::{Evidence, Finding, Publisher, PublisherError, Transaction, mounts};

/// Publishes by this node's `cvmfs_server`.
#[derive(Debug, Clone)]
pub struct CvmfsServer {
    node: Arc<Node>,
}

/// What all transactions of this node share.
#[derive(Debug)]
struct Node {
    settings: Settings,
    /// The repositories with a transaction, or a look at what became of one, in this process.
    held: Mutex<BTreeSet<RepositoryName>>,
    /// What could not be cleaned up yet, and why.
    faults: Mutex<BTreeMap<RepositoryName, String>>,
}

/// A repository that nobody else in this process works on.
#[derive(Debug)]
struct Hold {
    node: Arc<Node>,
    repository: RepositoryName,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.node.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.repository);
    }
}

impl Node {
    /// Keeps in mind whether a repository of this node is in order.
    fn note(&self, repository: &RepositoryName, result: Result<(), PublisherError>) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => {
                if faults.remove(repository).is_some() {
                    tracing::info!(%repository, "it is in order again on this node");
                }
            }
            Err(error) => {
                let text = sentence(&error);
                if faults.insert(repository.clone(), text.clone()).as_ref() != Some(&text) {
                    tracing::warn!(%repository, "no batch can run here until this is repaired, which is tried again and again: {text}");
                }
            }
        }
    }
}

impl CvmfsServer {
    /// The `cvmfs_server` of these settings. Only one process may use their state directory at a time.
    pub fn new(settings: Settings) -> Self {
        Self { node: Arc::new(Node { settings, held: Mutex::default(), faults: Mutex::default() }) }
    }

    /// Refuses a process outside of the machine's mount namespace: its publishes would hang when their revision is there.
    pub fn refuse_other_namespace() -> Result<(), String> {
        match mounts::shares_mounts_with_init() {
            Ok(Some(false)) => Err(format!(
                "this process has a mount namespace of its own, in which a publish hangs; {}",
                check::NAMESPACE_HINT
            )),
            // Where it cannot be told, a publish that hangs is ended, and the node is told to be at fault.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn hold(&self, repository: &RepositoryName) -> Option<Hold> {
        let mut held = self.node.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(repository.clone()).then(|| Hold { node: Arc::clone(&self.node), repository: repository.clone() })
    }
}

impl Publisher for CvmfsServer {
    fn open(
        &self,
        repository: &RepositoryName,
        lease_path: &LeasePath,
        key: &str,
        _scratch: &Path,
    ) -> Result<Box<dyn Transaction>, PublisherError> {
        let Some(hold) = self.hold(repository) else {
            let holder = "another batch of this node's worker: cvmfs_server has one transaction a repository".into();
            return Err(PublisherError::Busy { repository: repository.clone(), holder });
        };
        Ok(Box::new(open::open(hold, lease_path, key)?))
    }

    fn recover(&self, repository: &RepositoryName, key: &str) -> Result<Evidence, PublisherError> {
        let settings = &self.node.settings;
        let site = Site::load(&settings.config_dir, repository)?;
        let journal = Journal::of(&settings.state_dir, repository);
        let hold = self.hold(repository);
        let entry = settle::entry(&site, &journal)?.filter(|entry| entry.key == key);
        match &entry {
            // The transaction is that of a batch which runs now.
            Some(_) if hold.is_none() => {
                let holder = "this batch, which still runs here".into();
                return Err(PublisherError::Busy { repository: repository.clone(), holder });
            }
            Some(entry) => settle::fence(settings, &site, entry)?,
            // An entry is forgotten only behind its fence, or was never made; its processes may have outlived that.
            None => settle::end_processes(&site, key)?,
        }
        let found = site.look(settings.mark, key)?;
        if let (None, Some(entry)) = (&found, &entry) {
            settle::refuse_contradiction(&site, &journal, entry)?;
        }
        if hold.is_some() {
            // What became of the batch is known; what cannot be cleaned up is the node's fault, and tried again.
            let tidied = match entry {
                Some(_) => settle::clean(settings, &site, &journal),
                None => settle::settle(settings, &site, &journal),
            };
            self.node.note(repository, tidied);
        }
        Ok(found.map_or(Evidence::NotPublished, Evidence::Published))
    }

    fn tidy(&self) {
        let settings = &self.node.settings;
        for repository in Journal::repositories(&settings.state_dir) {
            // One that is worked on is no leftover.
            let Some(_hold) = self.hold(&repository) else { continue };
            let tidied = Site::load(&settings.config_dir, &repository)
                .and_then(|site| settle::settle(settings, &site, &Journal::of(&settings.state_dir, &repository)));
            self.node.note(&repository, tidied);
        }
    }

    fn fault(&self, repository: &RepositoryName) -> Option<String> {
        self.node.faults.lock().unwrap_or_else(PoisonError::into_inner).get(repository).cloned()
    }

    fn check(&self, served: Option<&[RepositoryName]>) -> Vec<Finding> {
        check::check(self, served)
    }

    fn reader(&self, repository: &RepositoryName) -> Result<Reader, PublisherError> {
        // An expired whitelist says nothing about what was published.
        Site::load(&self.node.settings.config_dir, repository)?.reader(Expiry::Ignore)
    }

    fn kind(&self) -> &'static str {
        "cvmfs-server"
    }

    fn whitelist_expires(&self, repository: &RepositoryName) -> Result<Option<Timestamp>, PublisherError> {
        let reader = Site::load(&self.node.settings.config_dir, repository)?.reader(Expiry::Ignore)?;
        Ok(Timestamp::from_second(reader.whitelist().expires_at).ok())
    }

    fn named_tags(&self, repository: &RepositoryName) -> Result<Option<u64>, PublisherError> {
        let site = Site::load(&self.node.settings.config_dir, repository)?;
        let tags = site.reader(Expiry::Ignore)?.tags();
        Ok(Some(named(&tags.map_err(|error| site.unreadable("read its tags".into(), error))?)))
    }

    /// Those that `cvmfs_server` publishes from here.
    fn repositories(&self) -> Option<Vec<RepositoryName>> {
        let config = &self.node.settings.config_dir;
        let entries = std::fs::read_dir(config.join("repositories.d")).into_iter().flatten().flatten();
        let name = |entry: std::fs::DirEntry| RepositoryName::new(entry.file_name().into_string().ok()?).ok();
        let is_published =
            |name: &RepositoryName| Site::load(config, name).is_ok_and(|site| site.node.upstream != Upstream::S3);
        let mut found: Vec<_> = entries.filter_map(name).filter(is_published).collect();
        found.sort_unstable();
        Some(found)
    }
}

impl Site {
    /// What the history says of a batch.
    fn look(&self, mark: Mark, key: &str) -> Result<Option<crate::publisher::Revision>, PublisherError> {
        // An expired whitelist says nothing about what was published.
        let reader = self.reader(Expiry::Ignore)?;
        self.find(&reader, mark, key)
    }
}
