//! Jobs: what was asked ([`spec`]), what happened ([`event`]) and where that leaves them ([`state`]).

pub mod event;
pub mod spec;
pub mod state;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::access::TokenName;
use crate::domain::ids::{JobId, SubmissionId};
use event::JobEvent;
use spec::JobSpec;
use state::{IllegalTransition, Progress};

/// A job as it is kept: the spec never changes, the progress is the sum of its events.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Order of acceptance, from 1; older goes first.
    pub seq: u64,
    /// The request it came in.
    pub submission: SubmissionId,
    /// Name of the token that submitted it. Not part of the spec: who asks again may have another token.
    pub owner: Option<TokenName>,
    /// What was asked.
    pub spec: JobSpec,
    /// Where it stands.
    pub progress: Progress,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its last event happened.
    pub updated_at: Timestamp,
}

impl Job {
    /// The job's id.
    pub fn id(&self) -> JobId {
        self.spec.id
    }
}

/// One line of the event log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LoggedEvent {
    /// Number of the event, over all jobs, rising.
    pub number: u64,
    /// The job it happened to.
    pub job_id: JobId,
    /// The submission of that job.
    pub submission_id: SubmissionId,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub event: JobEvent,
    /// The state that it led to.
    pub state: state::StateKind,
}

/// Adds up a job's events from its first; the result is what the job's row must say.
pub fn replay<'a>(events: impl IntoIterator<Item = &'a JobEvent>) -> Result<Option<Progress>, IllegalTransition> {
    let mut progress = None;
    for event in events {
        progress = Some(state::next(progress.as_ref(), event)?);
    }
    Ok(progress)
}
