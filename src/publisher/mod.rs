//! The publisher seam: what a worker asks of whatever writes into CernVM-FS.
//!
//! Calls block; the worker runs them on a blocking thread. [`native`] writes the repository's format by itself;
//! [`cvmfs_server`] drives the command line of that name, with or without a gateway.

pub mod cvmfs_server;
pub mod gateway;
pub mod mounts;
pub mod native;
pub mod revert;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::cvmfs::reader::Reader;
use crate::domain::names::{LeasePath, RepositoryName};
use crate::domain::progress::Counters;
use crate::domain::signed::SignedManifest;
use crate::domain::tree::{ChangedPath, EntryKind, EntryMeta, EntryPath};

/// A state of a repository, as its manifest names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// `S` of the manifest.
    pub number: u64,
    /// `C` of the manifest: hex digest of the root catalog, with the algorithm's suffix where it has one.
    pub root_hash: String,
}

/// What the repository itself says about a batch, read from manifest and history and from nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// The batch's tag is in the history: it was published, as this revision.
    Published(Revision),
    /// Fenced, and the tag is absent: it was not published and now never will be.
    NotPublished,
}

/// A publish that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What it made.
    pub revision: Revision,
    /// Figures for those who look at the job, such as milliseconds of the publisher's own stages.
    pub figures: BTreeMap<String, String>,
    /// What people should know of it all the same, such as a node that must be repaired.
    pub notes: Vec<String>,
    /// Paths that are not in the repository as they were staged, each with what is different.
    pub mismatches: Vec<Mismatch>,
}

/// A path that was published otherwise than it was staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The path.
    pub path: EntryPath,
    /// What is different.
    pub why: String,
}

impl From<Revision> for Published {
    fn from(revision: Revision) -> Self {
        Self { revision, figures: BTreeMap::new(), notes: Vec::new(), mismatches: Vec::new() }
    }
}

/// Where a script works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// The repository's root, which is the script's working directory.
    pub root: PathBuf,
    /// The directory of the lease path in it, or its nearest ancestor that is there: the script writes below it.
    pub writable: PathBuf,
    /// What the publisher needs and no script may reach, with everything below: storage, spool and keys.
    pub secret: Vec<PathBuf>,
    /// Directories in which repositories are mounted. Of all mounts below them a script may hold that of `root` only, lest
    /// it keeps another repository's publish waiting.
    pub mounts: Vec<PathBuf>,
    /// Where `root` is a mount that everybody on this machine sees, who owns what is in it: the script runs as this account,
    /// a write outside `writable` must fail, and nothing may hold the mount when the script has ended. `None` for a copy of
    /// the script's own.
    pub live: Option<Owner>,
}

/// Who owns what is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, in a few words: `repository NAME`.
    pub what: String,
    /// How it stands.
    pub state: FindingState,
    /// What was found.
    pub text: String,
    /// The next step, where one is needed.
    pub hint: Option<String>,
}

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingState {
    /// As it should be.
    Good,
    /// It will do, for now or not for all.
    Warning,
    /// It will not do.
    Missing,
}

impl Finding {
    /// Something that is as it should be.
    pub fn good(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self { what: what.into(), state: FindingState::Good, text: text.into(), hint: None }
    }

    /// Something that will do, and what would be better.
    pub fn warning(what: impl Into<String>, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), state: FindingState::Warning, text: text.into(), hint: Some(hint.into()) }
    }

    /// Something that will not do, and the next step.
    pub fn missing(what: impl Into<String>, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), state: FindingState::Missing, text: text.into(), hint: Some(hint.into()) }
    }
}

/// Why a publisher could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum PublisherError {
    /// No such repository on this node.
    #[error("repository {repository} is not on this node: no {path}")]
    UnknownRepository {
        /// The repository asked for.
        repository: RepositoryName,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Somebody else holds the repository: wait, no attempt is used.
    #[error("repository {repository} is busy: {holder}")]
    Busy {
        /// The repository asked for.
        repository: RepositoryName,
        /// Who holds it, as far as is known.
        holder: String,
    },
    /// The change set cannot be applied to what the repository holds: the job's fault.
    #[error("cannot change {path:?}: {why}")]
    Conflict {
        /// The path in the repository.
        path: EntryPath,
        /// What stands in the way.
        why: String,
    },
    /// More than this publisher is set to take on: the job's fault.
    #[error("{what} exceeds the limit of {limit}")]
    Limit {
        /// What was counted.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// The tag is in use, so this batch has been published before.
    #[error("tag {tag} is already in the history, as revision {}", revision.number)]
    TagExists {
        /// The tag.
        tag: String,
        /// What it names.
        revision: Revision,
    },
    /// The repository is not in a state that can be published on.
    #[error("repository {repository} cannot be published on: {why}")]
    Unusable {
        /// The repository asked for.
        repository: RepositoryName,
        /// What is wrong and what to do.
        why: String,
    },
    /// `cvmfs_server` did not do it.
    #[error("repository {repository}: cvmfs_server {} failed{}", command.as_str(), refusal.advice().map(|advice| format!(" ({advice})")).unwrap_or_default())]
    Refused {
        /// The repository.
        repository: RepositoryName,
        /// What it was to do.
        command: cvmfs_server::Subcommand,
        /// Why.
        #[source]
        refusal: cvmfs_server::Refusal,
    },
    /// Reading the payload's stream failed.
    #[error("cannot read the content of {path:?}")]
    Content {
        /// The entry being read.
        path: EntryPath,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The machine failed us: disk full, permission, I/O.
    #[error("cannot {what}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The repository's own data could not be read or written.
    #[error("repository {repository}: cannot {what}")]
    Format {
        /// The repository.
        repository: RepositoryName,
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl PublisherError {
    /// Tells whether trying again later, unchanged, can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Io { .. } => true,
            Self::Refused { refusal, .. } => refusal.is_transient(),
            Self::UnknownRepository { .. }
            | Self::Conflict { .. }
            | Self::Limit { .. }
            | Self::TagExists { .. }
            | Self::Unusable { .. }
            | Self::Content { .. }
            | Self::Format { .. } => false,
        }
    }
}

/// Whatever publishes into repositories on this node.
pub trait Publisher: Send + Sync {
    /// Opens a transaction on a lease path. `key` is the batch's tag; it is refused where the history has it already.
    ///
    /// `scratch` is an existing directory of the worker's, private to this transaction, on which temporary data may be put.
    fn open(
        &self,
        repository: &RepositoryName,
        lease_path: &LeasePath,
        key: &str,
        scratch: &Path,
    ) -> Result<Box<dyn Transaction>, PublisherError>;

    /// Fences a batch whose worker was lost, then looks: after this call it is settled for ever.
    fn recover(&self, repository: &RepositoryName, key: &str) -> Result<Evidence, PublisherError>;

    /// The repository as it is now, with its older revisions, to look at what a publish did.
    fn reader(&self, repository: &RepositoryName) -> Result<Reader, PublisherError> {
        let why = format!("the {} publisher does not read older revisions", self.kind());
        Err(PublisherError::Unusable { repository: repository.clone(), why })
    }

    /// The repository's manifest as it is now, with what proves it to others. Blocks.
    fn signed(&self, repository: &RepositoryName) -> Result<SignedManifest, PublisherError> {
        let reader = self.reader(repository)?;
        let (manifest, certificate) = (reader.manifest_bytes(), reader.certificate().pem().as_bytes());
        SignedManifest::new(manifest, certificate, reader.whitelist_bytes()).ok_or_else(|| {
            let why = "its manifest, certificate or whitelist is larger than any can be".into();
            PublisherError::Unusable { repository: repository.clone(), why }
        })
    }

    /// Its kind, for people.
    fn kind(&self) -> &'static str;

    /// Repairs what earlier lives and failures have left on this node, as far as that can be done now, and forgets what is
    /// good again. Called at the start and now and then; blocks.
    fn tidy(&self) {}

    /// What is wrong with a repository on this node, so that no batch can run there until it is repaired.
    fn fault(&self, _repository: &RepositoryName) -> Option<String> {
        None
    }

    /// When a repository's whitelist expires: from then on clients refuse it. Nothing where that cannot be told. Blocks.
    fn whitelist_expires(&self, _repository: &RepositoryName) -> Result<Option<Timestamp>, PublisherError> {
        Ok(None)
    }

    /// How many tags a repository has besides those that CernVM-FS keeps for itself; nothing where that cannot be told. Blocks.
    fn named_tags(&self, _repository: &RepositoryName) -> Result<Option<u64>, PublisherError> {
        Ok(None)
    }

    /// Looks whether it has what it needs on this machine, for a person who sets it up: one finding for each thing. Of the
    /// repositories that are there, only those in `served` count, where that is said.
    fn check(&self, _served: Option<&[RepositoryName]>) -> Vec<Finding> {
        Vec::new()
    }

    /// The repositories that it could publish into now; nothing where it cannot tell.
    fn repositories(&self) -> Option<Vec<RepositoryName>> {
        None
    }
}

/// An open transaction. Dropping it aborts it.
pub trait Transaction: Send {
    /// The revision that the change set applies to.
    fn base(&self) -> &Revision;

    /// How long a payload may go on until there would be too little time left to publish, where there is such a limit. A limit
    /// that can be put off is.
    fn time_left(&mut self) -> Option<Duration> {
        None
    }

    /// Where the files and bytes are counted that this transaction has taken in, to be read while a call blocks.
    fn progress(&self) -> Arc<Counters>;

    /// Narrows what follows down to a path within the transaction's lease path: a batch has the path that its jobs have in
    /// common, and each job writes within its own. What was put before must be settled.
    fn enter(&mut self, lease_path: &LeasePath) -> Result<(), PublisherError>;

    /// Adds or replaces one entry. `path` is relative to the repository's root and must lie within the lease path.
    ///
    /// Missing parent directories are made (mode 0755). A file or link replaces whatever stood there, with all below it;
    /// a directory over a directory changes its metadata only. `content` is read to its end for a file, ignored otherwise;
    /// a file whose content is not `size` bytes long is an error.
    ///
    /// Content may still be on its way when this returns. An error can thus be that of an earlier entry, which it names;
    /// the transaction can only be aborted then.
    fn put(
        &mut self,
        path: &EntryPath,
        meta: &EntryMeta,
        kind: &EntryKind,
        content: &mut dyn Read,
    ) -> Result<(), PublisherError>;

    /// Gives the file at `target` a second name: the same content and metadata. Both must lie within the lease path.
    fn link(&mut self, path: &EntryPath, target: &EntryPath) -> Result<(), PublisherError>;

    /// Removes an entry with all below it; tells whether it was there.
    fn remove(&mut self, path: &EntryPath) -> Result<bool, PublisherError>;

    /// Makes a directory tree that a script can write in, with the content of the lease path in place.
    fn check_out(&mut self) -> Result<Workspace, PublisherError>;

    /// Takes what changed in the tree of [`Transaction::check_out`] into the change set. Anything outside the lease path
    /// is an error.
    fn check_in(&mut self) -> Result<(), PublisherError>;

    /// Waits until everything that was put or linked is in the change set. Its errors are those of earlier entries.
    fn settle(&mut self) -> Result<(), PublisherError>;

    /// Calls with each path that the change set touches, sorted by path; complete once it is settled.
    fn changes(&self, visit: &mut dyn FnMut(ChangedPath)) -> Result<(), PublisherError>;

    /// Publishes the change set as one revision, tagged with the key that the transaction was opened with. Everything is
    /// on stable storage when it returns.
    fn publish(self: Box<Self>, message: &str) -> Result<Published, PublisherError>;

    /// Drops the change set; the repository stays as it was.
    fn abort(self: Box<Self>) -> Result<(), PublisherError>;
}
