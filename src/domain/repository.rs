//! Repositories as the server and whoever operates them see them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::hold::Hold;
use crate::domain::ids::{BatchId, HoldId, JobId};
use crate::domain::job::state::StateKind;
use crate::domain::names::{LeasePath, RepositoryName};

/// How a repository stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RepositoryView {
    /// Its name.
    #[schema(value_type = String)]
    pub repository: RepositoryName,
    /// The workers that may serve it.
    pub fleet: String,
    /// Whether its publishers go through a gateway.
    pub gateway: bool,
    /// How far up jobs of different lease paths share a batch, with a gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub batch_root: Option<LeasePath>,
    /// Where its stratum 0 is served, as far as the server was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub url: Option<url::Url>,
    /// Why nothing of it is offered; nothing keeps it from that without.
    pub holds: Vec<Hold>,
    /// The nodes whose workers serve it now.
    pub workers: Vec<String>,
    /// What is offered, runs, or was lost.
    pub batches: Vec<LiveBatch>,
    /// Its jobs that have not ended, by state; states without any are left out.
    pub jobs: BTreeMap<StateKind, u64>,
    /// The newest of its jobs that were published; only where one repository is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<LastSuccess>,
    /// The newest of its jobs that have failed; only where one repository is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
}

impl RepositoryView {
    /// How many of its jobs wait for a worker.
    pub fn queued(&self) -> u64 {
        [StateKind::Queued, StateKind::Offered].iter().filter_map(|kind| self.jobs.get(kind)).sum()
    }
}

/// A batch that is not settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LiveBatch {
    /// The batch.
    pub batch_id: BatchId,
    /// `unsent`, `offered`, `claimed`, `publishing` or `recovering`.
    pub state: String,
    /// What it reserves.
    #[schema(value_type = String)]
    pub lease_path: LeasePath,
    /// The node that has it, or had it when it was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How many jobs are in it.
    pub jobs: usize,
    /// When its jobs came to where they are.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
}

impl std::fmt::Display for LiveBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { batch_id, state, lease_path, node, jobs, since } = self;
        write!(f, "batch {batch_id} ({jobs} jobs) on {lease_path}, {state}")?;
        if let Some(node) = node {
            write!(f, ", node {node}")?;
        }
        since.map_or(Ok(()), |since| write!(f, ", since {since:.0}"))
    }
}

/// A job that was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastSuccess {
    /// The job.
    pub job_id: JobId,
    /// The revision that holds it.
    pub revision: u64,
    /// That revision's root catalog.
    pub root_hash: String,
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// A job that has failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastFailure {
    /// The job.
    pub job_id: JobId,
    /// Stable word for programs.
    pub code: String,
    /// Why.
    pub message: String,
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// All repositories that jobs are accepted for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RepositoryList {
    /// By name.
    pub repositories: Vec<RepositoryView>,
}

/// Pauses a repository. Said again, it replaces what was said before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// Why, in words, for whoever waits.
    pub reason: String,
    /// When it ends by itself; when it is resumed, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// Holds a repository for maintenance, or renews that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// Chosen by who holds it, a UUID of version 7: asking again renews it, with the whole time anew.
    pub id: HoldId,
    /// Why, in words, for whoever waits.
    pub reason: String,
    /// Seconds after which it is over unless it is renewed, 5 to 604800.
    pub lease_s: u32,
    /// It was granted before: should it be over, it is refused, not begun anew.
    #[serde(default)]
    pub renew: bool,
}

/// Undoes a job by another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevertRequest {
    /// Id of the new job, a UUID of version 7 that the client chooses: asking again is no second job.
    pub id: JobId,
    /// Also what later revisions changed again, and what others of its batch changed below its path.
    #[serde(default)]
    pub force: bool,
    /// Only shows what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks, for people and for fair share.
    #[serde(default)]
    pub submitter: String,
}

/// A hold that was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HoldReply {
    /// The hold.
    pub hold: Hold,
    /// Nothing of the repository runs, and nothing will while the hold lasts.
    pub exclusive: bool,
    /// What must end before that.
    pub running: Vec<LiveBatch>,
}

/// Ends a hold for maintenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// The hold.
    pub id: HoldId,
}
