//! What can stop a worker, and how an attempt's errors become its outcome.

use std::error::Error;
use std::path::PathBuf;

use crate::domain::job::event::Failure;
use crate::domain::outcome::Outcome;
use crate::payload::fetch::FetchError;
use crate::payload::script::ScriptError;
use crate::publisher::PublisherError;

/// Why a worker ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Another one has this state directory.
    #[error(
        "another worker runs here: it holds {lock}; stop it, or give this one a state directory and a node name of its own"
    )]
    AlreadyRuns {
        /// The lock.
        lock: PathBuf,
    },
    /// Another one has this node's name and started later.
    #[error("node {node} has a worker that started later; give each machine a node name of its own")]
    Superseded {
        /// The name.
        node: String,
    },
    /// The machine failed us.
    #[error("cannot {what}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Scripts must be isolated and cannot be.
    #[error(
        "this host cannot isolate scripts, and isolation in [worker] is \"required\"; conveyor worker check tells more"
    )]
    Isolation(#[source] ScriptError),
    /// Downloads cannot work on this machine.
    #[error("cannot set up downloads")]
    Fetch(#[from] FetchError),
    /// A defect of ours.
    #[error("the worker failed: {0}")]
    Panicked(String),
    /// It was told to.
    #[error("the worker was stopped")]
    Stopped,
}

/// An error with all that caused it, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// An attempt that failed.
pub(super) fn failed(code: &str, message: impl Into<String>, transient: bool) -> Outcome {
    Outcome::Failed { failure: Failure { code: code.into(), message: message.into() }, transient }
}

/// What a publisher's error means for the attempt. Nothing was published.
pub(super) fn outcome(error: &PublisherError) -> Outcome {
    let code = match error {
        PublisherError::Busy { holder, .. } => return Outcome::Busy { holder: holder.clone() },
        PublisherError::Refused { refusal, .. } => refusal.code(),
        PublisherError::UnknownRepository { .. } => "unknown_repository",
        PublisherError::Conflict { .. } => "conflict",
        PublisherError::Limit { .. } => "limit",
        PublisherError::TagExists { .. } => "tag_exists",
        PublisherError::Unusable { .. } => "unusable_repository",
        PublisherError::Content { .. } => "bad_content",
        PublisherError::Io { .. } => "node_failed",
        PublisherError::Format { .. } => "repository_damaged",
    };
    failed(code, chain(error), error.is_transient())
}
