//! The only transition table of a job, used live, in recovery and by the database check.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::event::{Failure, JobEvent, Verdict};
use crate::domain::digest::Sha256Digest;
use crate::domain::ids::{BatchId, JobId};

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JobState {
    /// For its dependencies.
    Waiting,
    /// For somebody's yes.
    AwaitingApproval,
    /// Ready to run.
    Queued,
    /// Ready to run later.
    Backoff {
        /// When.
        #[schema(value_type = String, format = DateTime)]
        until: Timestamp,
        /// What for.
        reason: String,
    },
    /// In a batch that nobody has claimed yet.
    Offered {
        /// The batch.
        batch: BatchId,
    },
    /// A worker has it.
    Running {
        /// The batch.
        batch: BatchId,
        /// The worker's node.
        node: String,
        /// Before or after the point of no return.
        phase: Phase,
        /// Somebody wants it stopped; it will be, unless the publish is permitted first.
        cancel_requested: bool,
    },
    /// Its worker is lost; what became of it is being found out.
    Recovering {
        /// The batch.
        batch: BatchId,
        /// The node that alone can find out.
        node: String,
        /// Whether the publish was permitted, so that it may have happened.
        publishing: bool,
        /// Somebody wants it stopped; it will be, if it was not published.
        cancel_requested: bool,
    },
    /// Nobody could find out what became of it.
    NeedsOperator {
        /// The batch.
        batch: BatchId,
        /// The node that had it.
        node: String,
        /// Whether the publish was permitted, so that it may have happened.
        publishing: bool,
        /// Somebody wants it stopped; it will be, if it was not published.
        cancel_requested: bool,
        /// What is known.
        reason: String,
    },
    /// Published, or nothing was to be published; not all of the URLs that it names serve that revision yet.
    Distributing {
        /// The revision that holds it, or that it was compared with.
        revision: u64,
        /// That revision's root catalog.
        root_hash: String,
        /// Nothing was to be published: no revision was made for it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unchanged: bool,
        /// Since when it waits for them; absent only within the commit that begins it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>, format = DateTime)]
        since: Option<Timestamp>,
        /// When that is given up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>, format = DateTime)]
        until: Option<Timestamp>,
    },
    /// Published, or nothing was to be published (its outputs say so).
    Succeeded {
        /// The revision that holds it, or that it was compared with.
        revision: u64,
        /// That revision's root catalog.
        root_hash: String,
        /// Nothing was to be published: no revision was made for it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unchanged: bool,
    },
    /// Out of attempts, or beyond help.
    Failed {
        /// Why the last attempt failed.
        failure: Failure,
        /// What it came to all the same: its URLs did not serve that in time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        published: Option<Published>,
    },
    /// Stopped by somebody before it was published.
    Cancelled,
    /// Not run, because of a dependency.
    Skipped {
        /// Which.
        dependency: JobId,
    },
}

/// What the publish of a job came to that waits for its URLs, or did in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Published {
    /// The revision that holds it, or that it was compared with.
    pub revision: u64,
    /// That revision's root catalog.
    pub root_hash: String,
    /// Nothing was to be published: no revision was made for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchanged: bool,
}

/// The two halves of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing is visible yet; it can be stopped.
    Staging,
    /// The point of no return is passed.
    Publishing,
}

/// A state without its data: to filter and to count by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the states of `JobState`, word for word
pub enum StateKind {
    Waiting,
    AwaitingApproval,
    Queued,
    Backoff,
    Offered,
    Running,
    Recovering,
    NeedsOperator,
    Distributing,
    Succeeded,
    Failed,
    Cancelled,
    Skipped,
}

impl StateKind {
    /// All of them, in the order of a job's life.
    pub const ALL: [Self; 13] = [
        Self::Waiting,
        Self::AwaitingApproval,
        Self::Queued,
        Self::Backoff,
        Self::Offered,
        Self::Running,
        Self::Recovering,
        Self::NeedsOperator,
        Self::Distributing,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Skipped,
    ];

    /// The word of the wire and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Queued => "queued",
            Self::Backoff => "backoff",
            Self::Offered => "offered",
            Self::Running => "running",
            Self::Recovering => "recovering",
            Self::NeedsOperator => "needs_operator",
            Self::Distributing => "distributing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }

    /// The state named by a word, if it is one.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Tells whether the job has ended (only a retry goes on from here).
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Skipped)
    }
}

impl std::fmt::Display for StateKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl JobState {
    /// The state without its data.
    pub fn kind(&self) -> StateKind {
        match self {
            Self::Waiting => StateKind::Waiting,
            Self::AwaitingApproval => StateKind::AwaitingApproval,
            Self::Queued => StateKind::Queued,
            Self::Backoff { .. } => StateKind::Backoff,
            Self::Offered { .. } => StateKind::Offered,
            Self::Running { .. } => StateKind::Running,
            Self::Recovering { .. } => StateKind::Recovering,
            Self::NeedsOperator { .. } => StateKind::NeedsOperator,
            Self::Distributing { .. } => StateKind::Distributing,
            Self::Succeeded { .. } => StateKind::Succeeded,
            Self::Failed { .. } => StateKind::Failed,
            Self::Cancelled => StateKind::Cancelled,
            Self::Skipped { .. } => StateKind::Skipped,
        }
    }

    /// Tells whether the job has ended.
    pub fn is_final(&self) -> bool {
        self.kind().is_final()
    }

    /// The revision that was made for the job and its root catalog, where there is one: also while its URLs do not serve it,
    /// and where they did not in time.
    pub fn published(&self) -> Option<(u64, &str)> {
        match self {
            Self::Succeeded { revision, root_hash, unchanged: false }
            | Self::Distributing { revision, root_hash, unchanged: false, .. }
            | Self::Failed { published: Some(Published { revision, root_hash, unchanged: false }), .. } => {
                Some((*revision, root_hash))
            }
            _ => None,
        }
    }
}

/// All that a job's events add up to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Where it stands.
    pub state: JobState,
    /// Number of the attempt that runs or ran last; 0 before the first.
    pub attempt: u32,
    /// Somebody must approve it once its dependencies are met.
    pub needs_approval: bool,
    /// It only shows what it would change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// It has succeeded only once the URLs that it names serve its revision.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub distributed: bool,
    /// Attempts since the last retry that failed through the job's own fault or its payload's.
    pub failures: u32,
    /// Attempts since the last retry whose worker was lost.
    pub interruptions: u32,
    /// Most jobs of its next batch, itself among them: fewer after a batch that failed. No limit without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub together: Option<u32>,
    /// What its URL delivered first.
    pub pinned: Option<Sha256Digest>,
    /// What it told whoever comes after it.
    pub outputs: BTreeMap<String, String>,
}

impl Progress {
    /// Most jobs of the batch that this one goes into next, itself among them. What has failed, or was twice with a worker that
    /// was lost, may be the cause, and then the others need not suffer.
    pub fn together(&self, alone: bool) -> usize {
        if alone || self.failures > 0 || self.interruptions > 1 {
            return 1;
        }
        self.together.map_or(usize::MAX, |most| most.max(1) as usize)
    }
}

/// An event that cannot happen in this state. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} cannot happen to a job that is {state}")]
pub struct IllegalTransition {
    /// Where the job stands (`not submitted` before its first event).
    pub state: &'static str,
    /// The event's word.
    pub event: &'static str,
}

/// Where an event takes a job. `None` is a job that was not submitted yet.
pub fn next(progress: Option<&Progress>, event: &JobEvent) -> Result<Progress, IllegalTransition> {
    use JobEvent as E;
    use JobState as S;

    let Some(current) = progress else {
        return match event {
            E::Submitted { waiting, needs_approval, dry_run, distributed } => Ok(Progress {
                state: entry_state(*waiting, *needs_approval),
                attempt: 0,
                needs_approval: *needs_approval,
                dry_run: *dry_run,
                distributed: *distributed,
                failures: 0,
                interruptions: 0,
                together: None,
                pinned: None,
                outputs: BTreeMap::new(),
            }),
            _ => Err(IllegalTransition { state: "not submitted", event: event.word() }),
        };
    };
    let mut then = current.clone();

    then.state = match (&current.state, event) {
        (S::Waiting, E::DependenciesMet) => entry_state(false, current.needs_approval),
        (S::Waiting, E::DependencyUnmet { dependency }) => S::Skipped { dependency: *dependency },
        (S::AwaitingApproval, E::Approved { .. }) => {
            then.needs_approval = false;
            S::Queued
        }

        (S::Queued, E::Offered { batch }) => S::Offered { batch: *batch },
        (S::Offered { .. }, E::OfferWithdrawn) => S::Queued,
        (S::Offered { batch: offered }, E::Claimed { batch, node }) if offered == batch => {
            then.attempt += 1;
            S::Running { batch: *batch, node: node.clone(), phase: Phase::Staging, cancel_requested: false }
        }
        (S::Backoff { .. }, E::BackoffEnded) => S::Queued,

        (running @ S::Running { phase: Phase::Staging, .. }, E::SourcePinned { digest })
            if current.pinned.is_none() =>
        {
            then.pinned = Some(*digest);
            running.clone()
        }
        (S::Running { batch, node, phase: Phase::Staging, cancel_requested: false }, E::PublishPermitted { .. })
            if !current.dry_run =>
        {
            S::Running { batch: *batch, node: node.clone(), phase: Phase::Publishing, cancel_requested: false }
        }

        // Cancelling: at once where no worker is involved, as a wish while nothing is permitted, too late afterwards.
        (S::Waiting | S::AwaitingApproval | S::Queued | S::Backoff { .. } | S::Offered { .. }, E::CancelRequested) => {
            S::Cancelled
        }
        (S::Running { batch, node, phase: Phase::Staging, cancel_requested: false }, E::CancelRequested) => {
            S::Running { batch: *batch, node: node.clone(), phase: Phase::Staging, cancel_requested: true }
        }
        (S::Recovering { batch, node, publishing: false, cancel_requested: false }, E::CancelRequested) => {
            S::Recovering { batch: *batch, node: node.clone(), publishing: false, cancel_requested: true }
        }
        (S::NeedsOperator { batch, node, publishing: false, cancel_requested: false, reason }, E::CancelRequested) => {
            S::NeedsOperator {
                batch: *batch,
                node: node.clone(),
                publishing: false,
                cancel_requested: true,
                reason: reason.clone(),
            }
        }

        (S::Waiting | S::AwaitingApproval | S::Queued | S::Backoff { .. } | S::Offered { .. }, E::DeadlinePassed) => {
            let message =
                "its deadline passed before it was permitted to publish; retrying it cannot help, submit it anew"
                    .into();
            failed("deadline_passed", message)
        }

        // The end of an attempt. Success is believed in every state in which a publish may have happened.
        (
            S::Running { phase: Phase::Publishing, .. } | S::Recovering { .. } | S::NeedsOperator { .. },
            E::Succeeded { revision, root_hash, outputs },
        ) => {
            then.outputs = outputs.clone();
            published(current, Published { revision: *revision, root_hash: root_hash.clone(), unchanged: false })
        }
        (S::Running { phase: Phase::Staging, cancel_requested: true, .. }, E::Unchanged { .. }) => S::Cancelled,
        // Once the publish was permitted, only the repository can say what became of it.
        (S::Running { phase: Phase::Staging, .. }, E::Unchanged { revision, root_hash, outputs }) => {
            then.outputs = outputs.clone();
            published(current, Published { revision: *revision, root_hash: root_hash.clone(), unchanged: true })
        }
        (
            S::Running { cancel_requested: true, .. },
            E::AttemptFailed { .. } | E::BatchFailed { .. } | E::Busy { .. } | E::Released,
        ) => S::Cancelled,
        (S::Running { .. }, E::AttemptFailed { failure, retry_at }) => {
            then.failures += 1;
            match retry_at {
                Some(until) => S::Backoff { until: *until, reason: failure.message.clone() },
                None => S::Failed { failure: failure.clone(), published: None },
            }
        }
        (S::Running { .. }, E::BatchFailed { failure, together, until }) => {
            then.together = Some(*together);
            S::Backoff { until: *until, reason: failure.message.clone() }
        }
        (S::Running { .. }, E::Busy { until, holder }) => S::Backoff { until: *until, reason: holder.clone() },
        (S::Running { .. }, E::Released) => S::Queued,

        // A lost worker.
        (S::Running { batch, node: had, phase, cancel_requested }, E::WorkerLost { node }) if had == node => {
            S::Recovering {
                batch: *batch,
                node: node.clone(),
                publishing: *phase == Phase::Publishing,
                cancel_requested: *cancel_requested,
            }
        }
        (
            S::Recovering { cancel_requested: true, .. } | S::NeedsOperator { cancel_requested: true, .. },
            E::FoundUnpublished,
        )
        | (S::Recovering { cancel_requested: true, .. }, E::AttemptFailed { retry_at: None, .. }) => S::Cancelled,
        (S::Recovering { .. } | S::NeedsOperator { .. }, E::FoundUnpublished) => {
            then.interruptions += 1;
            S::Queued
        }
        (S::Recovering { .. }, E::AttemptFailed { failure, retry_at: None }) => {
            then.interruptions += 1;
            S::Failed { failure: failure.clone(), published: None }
        }
        (S::Recovering { batch, node, publishing, cancel_requested }, E::RecoveryGivenUp { reason }) => {
            S::NeedsOperator {
                batch: *batch,
                node: node.clone(),
                publishing: *publishing,
                cancel_requested: *cancel_requested,
                reason: reason.clone(),
            }
        }

        // A person's word, about the batch that nobody could tell of.
        (S::NeedsOperator { batch: of, cancel_requested, .. }, E::Resolved { batch, verdict, reason, .. })
            if of == batch =>
        {
            match verdict {
                Verdict::Published { revision, root_hash } => {
                    let unchanged = false;
                    published(current, Published { revision: *revision, root_hash: root_hash.clone(), unchanged })
                }
                _ if *cancel_requested => S::Cancelled,
                Verdict::NotPublished => S::Queued,
                Verdict::GivenUp => failed("given_up", given_up(reason)),
            }
        }
        (state, E::Contradicted { .. }) => state.clone(),

        // It may have been published in the time that is lost: a person looks before it is tried again.
        (
            S::Waiting | S::AwaitingApproval | S::Queued | S::Backoff { .. } | S::Offered { .. },
            E::Restored { backup_at },
        ) => {
            let message = format!(
                "the server was restored from a backup of {backup_at}, and this job may have been published since; look into the repository, then retry it or leave it"
            );
            failed("restored", message)
        }
        (S::Recovering { batch, node, publishing, .. }, E::Restored { .. }) => {
            S::Recovering { batch: *batch, node: node.clone(), publishing: *publishing, cancel_requested: true }
        }
        (S::NeedsOperator { batch, node, publishing, reason, .. }, E::Restored { .. }) => S::NeedsOperator {
            batch: *batch,
            node: node.clone(),
            publishing: *publishing,
            cancel_requested: true,
            reason: reason.clone(),
        },

        // Waiting for its URLs. What is published stays so: from here no way leads back to a publish.
        (S::Distributing { revision, root_hash, unchanged, until: None, .. }, E::Distributing { since, until }) => {
            let (since, until) = (Some(*since), Some(*until));
            S::Distributing { revision: *revision, root_hash: root_hash.clone(), unchanged: *unchanged, since, until }
        }
        (S::Distributing { revision, root_hash, unchanged, until: Some(_), .. }, E::Visible) => {
            S::Succeeded { revision: *revision, root_hash: root_hash.clone(), unchanged: *unchanged }
        }
        (S::Distributing { revision, root_hash, unchanged, until: Some(_), .. }, E::NotVisible { lacking }) => {
            let published = Published { revision: *revision, root_hash: root_hash.clone(), unchanged: *unchanged };
            let failure = Failure { code: "not_visible".into(), message: not_visible(&published, lacking) };
            S::Failed { failure, published: Some(published) }
        }
        (S::Failed { published: Some(there), .. }, E::Retried { waiting: false }) => published(current, there.clone()),

        (S::Failed { published: None, .. } | S::Cancelled | S::Skipped { .. }, E::Retried { waiting }) => {
            then.failures = 0;
            then.interruptions = 0;
            then.together = None;
            entry_state(*waiting, current.needs_approval)
        }

        (state, event) => {
            return Err(IllegalTransition { state: state.kind().as_str(), event: event.word() });
        }
    };
    Ok(then)
}

fn entry_state(waiting: bool, needs_approval: bool) -> JobState {
    match (waiting, needs_approval) {
        (true, _) => JobState::Waiting,
        (false, true) => JobState::AwaitingApproval,
        (false, false) => JobState::Queued,
    }
}

/// Where a job goes that is published, or needed no publish.
fn published(job: &Progress, published: Published) -> JobState {
    let Published { revision, root_hash, unchanged } = published;
    match job.distributed {
        true => JobState::Distributing { revision, root_hash, unchanged, since: None, until: None },
        false => JobState::Succeeded { revision, root_hash, unchanged },
    }
}

fn failed(code: &str, message: String) -> JobState {
    JobState::Failed { failure: Failure { code: code.into(), message }, published: None }
}

fn not_visible(published: &Published, lacking: &str) -> String {
    let Published { revision, unchanged, .. } = published;
    let what = match unchanged {
        true => format!("nothing was to be published, and revision {revision}, which it was compared with,"),
        false => format!("it is published as revision {revision}, which"),
    };
    format!("{what} was not served everywhere in time: {lacking}; a retry waits again and publishes nothing")
}

fn given_up(reason: &str) -> String {
    match reason {
        "" => "an operator gave it up".into(),
        reason => format!("an operator gave it up: {reason}"),
    }
}

impl JobEvent {
    /// The event's word, as in its JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Submitted { .. } => "submitted",
            Self::DependenciesMet => "dependencies_met",
            Self::DependencyUnmet { .. } => "dependency_unmet",
            Self::Approved { .. } => "approved",
            Self::Offered { .. } => "offered",
            Self::OfferWithdrawn => "offer_withdrawn",
            Self::Claimed { .. } => "claimed",
            Self::SourcePinned { .. } => "source_pinned",
            Self::CancelRequested => "cancel_requested",
            Self::PublishPermitted { .. } => "publish_permitted",
            Self::Succeeded { .. } => "succeeded",
            Self::Unchanged { .. } => "unchanged",
            Self::Distributing { .. } => "distributing",
            Self::Visible => "visible",
            Self::NotVisible { .. } => "not_visible",
            Self::AttemptFailed { .. } => "attempt_failed",
            Self::BatchFailed { .. } => "batch_failed",
            Self::DeadlinePassed => "deadline_passed",
            Self::Busy { .. } => "busy",
            Self::BackoffEnded => "backoff_ended",
            Self::Released => "released",
            Self::WorkerLost { .. } => "worker_lost",
            Self::FoundUnpublished => "found_unpublished",
            Self::RecoveryGivenUp { .. } => "recovery_given_up",
            Self::Resolved { .. } => "resolved",
            Self::Restored { .. } => "restored",
            Self::Contradicted { .. } => "contradicted",
            Self::Retried { .. } => "retried",
        }
    }
}
