//! What can happen to a job. Events are stored for ever as JSON: add variants and optional fields, never change a meaning.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::digest::Sha256Digest;
use crate::domain::ids::{BatchId, JobId};

/// One thing that happened to one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum JobEvent {
    /// Accepted.
    Submitted {
        /// It has dependencies that have not ended.
        waiting: bool,
        /// Somebody must approve it before it runs.
        #[serde(default)]
        needs_approval: bool,
        /// It only shows what it would change, and is never permitted to publish.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        dry_run: bool,
        /// It has succeeded only once the URLs that it names serve its revision.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        distributed: bool,
    },
    /// All that it depends on ended as it should.
    DependenciesMet,
    /// A dependency ended otherwise.
    DependencyUnmet {
        /// Which.
        dependency: JobId,
    },
    /// Somebody approved it.
    Approved {
        /// Who.
        by: String,
    },
    /// Put into a batch that workers can claim.
    Offered {
        /// The batch.
        batch: BatchId,
    },
    /// The batch was dissolved before anybody claimed it.
    OfferWithdrawn,
    /// A worker took it: a new attempt.
    Claimed {
        /// The batch.
        batch: BatchId,
        /// The worker's node.
        node: String,
    },
    /// What its URL delivered at the first download; every later attempt must get the same bytes.
    SourcePinned {
        /// SHA-256 of the bytes.
        #[schema(value_type = String)]
        digest: Sha256Digest,
    },
    /// Somebody wants it not to happen.
    CancelRequested,
    /// The worker may publish: the point of no return.
    PublishPermitted {
        /// The revision that the change set applies to.
        base_revision: u64,
    },
    /// Published, proven by the repository.
    Succeeded {
        /// The revision that holds it.
        revision: u64,
        /// That revision's root catalog.
        root_hash: String,
        /// What the job tells whoever comes after it.
        #[serde(default)]
        outputs: BTreeMap<String, String>,
    },
    /// Nothing was to be published: the repository held all of it already, or it was a dry run.
    Unchanged {
        /// The revision that it was compared with.
        revision: u64,
        /// That revision's root catalog.
        root_hash: String,
        /// What the job tells whoever comes after it.
        #[serde(default)]
        outputs: BTreeMap<String, String>,
    },
    /// From now on it waits for its URLs to serve its revision.
    Distributing {
        /// When that began.
        #[schema(value_type = String, format = DateTime)]
        since: Timestamp,
        /// When it is given up.
        #[schema(value_type = String, format = DateTime)]
        until: Timestamp,
    },
    /// All of its URLs serve its revision, or a newer one.
    Visible,
    /// Some of its URLs did not serve its revision in time. It is published all the same.
    NotVisible {
        /// Which, and what they serve.
        lacking: String,
    },
    /// This attempt came to nothing, for sure.
    AttemptFailed {
        /// Why.
        failure: Failure,
        /// When it is tried again; not at all without.
        #[schema(value_type = Option<String>, format = DateTime)]
        retry_at: Option<Timestamp>,
    },
    /// The batch came to nothing, and nobody knows whether it was this job's fault; no attempt is used.
    BatchFailed {
        /// Why.
        failure: Failure,
        /// Most jobs that it shares a batch with from now on, itself among them.
        together: u32,
        /// When it is tried again.
        #[schema(value_type = String, format = DateTime)]
        until: Timestamp,
    },
    /// It was not permitted to publish by its deadline.
    DeadlinePassed,
    /// Somebody else holds the repository or path; no attempt is used.
    Busy {
        /// When it is tried again.
        #[schema(value_type = String, format = DateTime)]
        until: Timestamp,
        /// Who holds it.
        holder: String,
    },
    /// The back-off is over.
    BackoffEnded,
    /// The worker gave it back untouched; no attempt is used.
    Released,
    /// Its worker went silent.
    WorkerLost {
        /// The node that alone can say what became of it.
        node: String,
    },
    /// The lost worker's publish never happened and never will.
    FoundUnpublished,
    /// Nobody could find out in time: a person must.
    RecoveryGivenUp {
        /// What is known.
        reason: String,
    },
    /// A person settled what nobody could find out.
    Resolved {
        /// The batch that it is about.
        batch: BatchId,
        /// What became of it.
        #[serde(flatten)]
        verdict: Verdict,
        /// Who says so.
        by: String,
        /// Why.
        #[serde(default)]
        reason: String,
    },
    /// The database was put back from a backup: what happened to the job since is not known here.
    Restored {
        /// When the backup was made.
        #[schema(value_type = String, format = DateTime)]
        backup_at: Timestamp,
    },
    /// Evidence about a batch came after it was settled, and says otherwise. The job stays as it is; a person must look.
    Contradicted {
        /// The batch.
        batch: BatchId,
        /// What the evidence says, and who it is from.
        evidence: String,
    },
    /// Somebody wants it tried again.
    Retried {
        /// It has dependencies that have not ended.
        waiting: bool,
    },
}

/// What a person says became of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It was published.
    Published {
        /// The revision that holds it.
        revision: u64,
        /// That revision's root catalog; empty where it was not said.
        #[serde(default)]
        root_hash: String,
    },
    /// It was not, and never will be: its jobs are tried again.
    NotPublished,
    /// It was not, and never will be: its jobs have failed.
    GivenUp,
}

/// Why an attempt came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// Stable word for programs, such as `script_failed`.
    pub code: String,
    /// For people: what, why, what next.
    pub message: String,
}
