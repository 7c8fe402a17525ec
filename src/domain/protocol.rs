//! The bodies of the HTTP API, shared by the server and its clients so that they cannot disagree.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::access::{Roles, Standing, TokenDigest, TokenId, TokenName, TokenSource};
use crate::domain::batch::Intent;
use crate::domain::digest::Sha256Digest;
use crate::domain::ids::{BatchId, InstanceId, JobId, SubmissionId};
use crate::domain::job::Job;
use crate::domain::job::event::Verdict;
use crate::domain::job::spec::JobSpec;
use crate::domain::job::state::{JobState, StateKind};
use crate::domain::names::{LeasePath, RepositoryName};
use crate::domain::outcome::{Finding, JobOutcome};
use crate::domain::progress::{ProgressReport, ProgressView};
use crate::domain::signed::SignedManifest;
use crate::domain::visible::ReplicaView;
use crate::domain::worker::WorkerAbout;

/// One job, as everyone may see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
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
    /// Attempts that failed since the last retry.
    pub failures: u32,
    /// Attempts whose worker was lost since the last retry.
    pub interruptions: u32,
    /// What it told whoever comes after it.
    pub outputs: BTreeMap<String, String>,
    /// How far the attempt has come that runs; absent before its worker's first report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressView>,
    /// How many jobs of its repository go before it; only of a job that is queued, and only where one job is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<u64>,
    /// Why it is not offered to workers, a sentence each; only of a job that is queued, and only where one job is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<String>,
    /// What is known of a publish that a person must settle; only of a job that needs an operator, and only where one job
    /// is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unclear: Option<Unclear>,
    /// What its URLs serve; only of a job that is distributing, and only where one job is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ReplicaView>,
    /// The request it came in.
    pub submission_id: SubmissionId,
    /// Name of the token that submitted it, which may also cancel and retry it; absent for jobs older than tokens' names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub owner: Option<TokenName>,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When its last event happened.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// What was asked.
    pub spec: JobSpec,
}

/// What is known of a batch that nobody could find out about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unclear {
    /// The batch.
    pub batch_id: BatchId,
    /// Its tag: in the repository's history, it was published; absent and fenced, it was not.
    pub key: String,
    /// The repository.
    #[schema(value_type = String)]
    pub repository: RepositoryName,
    /// The node that had it.
    pub node: String,
    /// When its worker was lost.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// What it was permitted to publish; absent where it was not, so that it cannot have been published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
}

impl Unclear {
    /// What is known and what a person does about it, a line each.
    pub fn advice(&self, job: JobId) -> Vec<String> {
        let Self { key, repository, node, intent, .. } = self;
        let Some(intent) = intent else {
            return vec![
                "it never had the permission to publish, so that no revision can hold it".into(),
                format!("end what is left of its worker on node {node}, then: conveyor resolve {job} --not-published"),
            ];
        };
        vec![
            format!(
                "it was permitted to publish on top of revision {} ({}); if it did, the tag {key} is in the history of {repository}",
                intent.base_revision, intent.base_root_hash
            ),
            format!(
                "end what is left of its worker on node {node}, so that it cannot publish any more; then look, where the repository is: conveyor repository tag {repository}"
            ),
            format!(
                "if the tag is there, with its revision and root hash: conveyor resolve {job} --published REVISION:ROOT_HASH"
            ),
            format!("if it is not: conveyor resolve {job} --not-published (with --give-up it is not tried again)"),
        ]
    }
}

/// A person's word about a job that needs an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResolveRequest {
    /// The batch that was looked for, so that an answer that comes late settles no other one; the present one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<BatchId>,
    /// What became of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Who says so.
    pub by: String,
    /// Why, in words.
    #[serde(default)]
    pub reason: String,
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        Self {
            job_id: job.spec.id,
            name: job.spec.name.clone(),
            state: job.progress.state.kind(),
            status: job.progress.state,
            attempt: job.progress.attempt,
            failures: job.progress.failures,
            interruptions: job.progress.interruptions,
            outputs: job.progress.outputs,
            progress: None,
            ahead: None,
            held: Vec::new(),
            unclear: None,
            replicas: Vec::new(),
            submission_id: job.submission,
            owner: job.owner,
            created_at: job.created_at,
            updated_at: job.updated_at,
            spec: job.spec,
        }
    }
}

/// Reply to a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubmitReply {
    /// The submission; when every job was there already, that of the first.
    pub submission_id: SubmissionId,
    /// The jobs, in the order of the request.
    pub jobs: Vec<SubmittedJob>,
}

/// One job of a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubmittedJob {
    /// Its id.
    pub job_id: JobId,
    /// Where it stands.
    pub state: StateKind,
    /// False when the same job had been submitted before.
    pub created: bool,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    /// Newest first.
    pub jobs: Vec<JobView>,
    /// Give it as `cursor` to get the next page; absent on the last.
    pub next_cursor: Option<u64>,
}

/// A batch that a worker may claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Offer {
    /// The batch.
    pub batch_id: BatchId,
    /// Which offer of it this is.
    pub generation: u32,
    /// The fleet it is meant for.
    pub fleet: String,
    /// The repository.
    #[schema(value_type = String)]
    pub repository: RepositoryName,
    /// The reserved path.
    #[schema(value_type = String)]
    pub lease_path: LeasePath,
    /// The jobs and the attempt that each of them would begin.
    pub jobs: Vec<OfferedJob>,
}

/// A job's place in an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OfferedJob {
    /// The job.
    pub job_id: JobId,
    /// The attempt that it would be.
    pub attempt: u32,
}

/// What a worker may claim now; empty when nothing came up while it waited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OfferList {
    /// The offers.
    pub offers: Vec<Offer>,
}

/// Claims a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimRequest {
    /// The generation of the offer.
    pub generation: u32,
    /// Where the worker runs.
    pub node: String,
    /// Which life of the worker.
    pub instance: InstanceId,
}

/// A granted claim.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClaimReply {
    /// Secret that proves the claim.
    pub token: String,
    /// The leader's epoch.
    pub epoch: u64,
    /// Seconds without a heartbeat until the claim is lost.
    pub expires_in_s: u32,
    /// The tag to publish with.
    pub key: String,
    /// The repository.
    #[schema(value_type = String)]
    pub repository: RepositoryName,
    /// The reserved path.
    #[schema(value_type = String)]
    pub lease_path: LeasePath,
    /// The jobs as they are now.
    pub jobs: Vec<ClaimedJob>,
}

/// One job of a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClaimedJob {
    /// The attempt that this is.
    pub attempt: u32,
    /// What its URL delivered at an earlier attempt: it must deliver the same now.
    #[schema(value_type = Option<String>)]
    pub pinned: Option<Sha256Digest>,
    /// Seconds until its deadline, where it has one; afterwards it is not permitted to publish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_left_s: Option<u32>,
    /// What was asked.
    pub spec: JobSpec,
}

/// A worker's sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatRequest {
    /// Where it runs.
    pub node: String,
    /// Which life of it.
    pub instance: InstanceId,
    /// The fleet it serves.
    pub fleet: String,
    /// How many more batches it could take.
    pub free_slots: u32,
    /// The batches it holds.
    pub claims: Vec<HeldClaim>,
    /// Whether the broker delivers offers to it now, so that they are sent there.
    #[serde(default)]
    pub by_broker: bool,
    /// What it is, what it can serve, and whether it is about to end.
    #[serde(default)]
    pub about: WorkerAbout,
}

/// A claim that a worker believes to hold.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldClaim {
    /// The batch.
    pub batch_id: BatchId,
    /// The claim's token.
    pub token: String,
    /// How far the worker has come with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressReport>,
}

impl std::fmt::Debug for HeldClaim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldClaim").field("batch_id", &self.batch_id).finish_non_exhaustive()
    }
}

/// What the worker must know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeartbeatReply {
    /// Batches to be stopped, unless their publish is permitted already.
    pub cancel: Vec<BatchId>,
    /// Batches that it no longer holds: stop, abort, report nothing.
    pub lost: Vec<BatchId>,
    /// Batches that only this node can find out about.
    pub recover: Vec<RecoverRequest>,
    /// Seconds without a heartbeat until its claims are lost.
    pub expires_in_s: u32,
    /// Milliseconds until the next heartbeat is wanted.
    pub next_in_ms: u32,
}

/// A batch that was lost on this node: fence it, look, report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecoverRequest {
    /// The batch.
    pub batch_id: BatchId,
    /// Its repository.
    #[schema(value_type = String)]
    pub repository: RepositoryName,
    /// Its tag.
    pub key: String,
}

/// Asks for the permission to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IntentRequest {
    /// The claim's token.
    pub token: String,
    /// What is about to be published.
    #[serde(flatten)]
    pub intent: Intent,
}

/// Reports how a batch ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutcomeRequest {
    /// The claim's token.
    pub token: String,
    /// One entry for each job of the batch.
    pub jobs: Vec<JobOutcome>,
    /// The manifest after a publish, to be announced; workers of before do not give it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedManifest>,
}

/// Reports what was found out about a lost batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FindingRequest {
    /// The node that looked.
    pub node: String,
    /// What it found.
    #[serde(flatten)]
    pub finding: Finding,
    /// The manifest of now where it was published, to be announced; workers of before do not give it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedManifest>,
}

/// Reports what a URL delivered, before it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PinRequest {
    /// The claim's token.
    pub token: String,
    /// SHA-256 of the bytes.
    #[schema(value_type = String)]
    pub digest: Sha256Digest,
}

/// A blob that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlobReply {
    /// Its name.
    #[schema(value_type = String)]
    pub digest: Sha256Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// How far an attempt's log is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogPosition {
    /// Bytes; the next piece begins here.
    pub end: u64,
}

/// Makes a token known. Its secret stays with whoever made it up: only its hash is sent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// The id that stands in the token: `conveyor_ID_SECRET`, the secret being 64 random hexadecimal digits.
    #[schema(value_type = String)]
    pub id: TokenId,
    /// Whose it is; the id where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub name: Option<TokenName>,
    /// What it is good for.
    pub roles: Roles,
    /// `sha256:` and the hash of the whole token.
    #[schema(value_type = String)]
    pub sha256: TokenDigest,
    /// A text about it.
    #[serde(default)]
    pub note: String,
    /// When it stops being good; never where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: TokenId,
    /// Whose it is.
    #[schema(value_type = String)]
    pub name: TokenName,
    /// What it is good for.
    pub roles: Roles,
    /// Where it is kept.
    pub source: TokenSource,
    /// Whether it is good.
    pub state: Standing,
    /// A text about it.
    pub note: String,
    /// When it was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// Name of the token that made it.
    #[schema(value_type = Option<String>)]
    pub created_by: Option<TokenName>,
    /// When it stops being good; never where absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// When it was used last, give or take a minute; of a token that is not in the database, since the server's start.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
}

/// All tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// By name, then in the order in which they were made.
    pub tokens: Vec<TokenView>,
}

/// Every error of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// Stable word for programs.
    pub code: String,
    /// The thing and the cause.
    pub message: String,
    /// The next step.
    pub hint: String,
}
