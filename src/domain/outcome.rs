//! What workers report: the end of a claimed batch, and what a repository says about one whose worker was lost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::ids::JobId;
use crate::domain::job::event::Failure;

/// How an attempt ended, as its worker reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// Published.
    Succeeded {
        /// The revision that holds it.
        revision: u64,
        /// That revision's root catalog.
        root_hash: String,
        /// What the job tells whoever comes after it.
        #[serde(default)]
        outputs: BTreeMap<String, String>,
    },
    /// Nothing was to be published, so that the permission was never asked for: the repository held all of it already, or
    /// it was a dry run. Our transaction is gone.
    Unchanged {
        /// The revision that it was compared with.
        revision: u64,
        /// That revision's root catalog.
        root_hash: String,
        /// What the job tells whoever comes after it.
        #[serde(default)]
        outputs: BTreeMap<String, String>,
    },
    /// Not published, and our transaction is gone.
    Failed {
        /// Why.
        failure: Failure,
        /// Whether trying again, unchanged, can help.
        transient: bool,
    },
    /// Not published, and our transaction is gone; nobody knows whether it was this job's fault, another's of its batch, or
    /// none's. Of a job that was alone it is as `failed`.
    BatchFailed {
        /// Why.
        failure: Failure,
        /// Whether trying again, unchanged, can help.
        transient: bool,
    },
    /// Not published: somebody else holds the repository or path.
    Busy {
        /// Who, as far as is known.
        holder: String,
    },
    /// Not published: given back untouched (the worker stops, or was told to).
    Released,
    /// The publish was started and the worker could not find out what became of it.
    Unknown {
        /// What is known.
        reason: String,
    },
}

/// The outcome of one job of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobOutcome {
    /// The job.
    pub job_id: JobId,
    /// The attempt that it is about.
    pub attempt: u32,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What was found out about a batch whose worker was lost, after it was fenced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "evidence", rename_all = "snake_case")]
pub enum Finding {
    /// Its tag is in the history.
    Published {
        /// The revision that the tag names.
        revision: u64,
        /// That revision's root catalog.
        root_hash: String,
    },
    /// Its tag is absent and can no longer appear.
    NotPublished,
    /// Nobody can tell at the moment.
    Unreadable {
        /// What is known.
        reason: String,
    },
}
