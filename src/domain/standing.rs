//! How jobs stand, in few bytes: what whoever waits for thousands of them is told.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::ids::JobId;
use crate::domain::job::state::{JobState, StateKind};
use crate::domain::progress::ProgressView;
use crate::domain::protocol::JobView;

/// Most jobs that one stream can be asked about by their ids.
pub const MAX_WATCHED: usize = 20_000;

/// A job without what was asked: where it stands, and how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobStanding {
    /// The job's id.
    pub job_id: JobId,
    /// Its name.
    pub name: String,
    /// The state's word.
    pub state: StateKind,
    /// The state with its data.
    pub status: JobState,
    /// Number of the attempt that runs or ran last; 0 before the first.
    pub attempt: u32,
    /// How far the attempt has come that runs; absent before its worker's first report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressView>,
    /// How many jobs of its repository go before it; only of a queued job that was asked for alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<u64>,
    /// Why it is not offered to workers; only of a queued job that was asked for alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<String>,
}

impl From<&JobView> for JobStanding {
    fn from(job: &JobView) -> Self {
        Self {
            job_id: job.job_id,
            name: job.name.clone(),
            state: job.state,
            status: job.status.clone(),
            attempt: job.attempt,
            progress: job.progress,
            ahead: job.ahead,
            held: job.held.clone(),
        }
    }
}

/// The jobs that a stream is to tell about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchRequest {
    /// Their ids, 1 to 20,000.
    pub jobs: Vec<JobId>,
    /// Whether only the jobs' ends are told; otherwise all events and progress as well.
    #[serde(default)]
    pub ends: bool,
}

/// A job that is not known, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnknownJob {
    /// The id that was asked about.
    pub job_id: JobId,
}
