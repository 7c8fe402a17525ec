//! Bugs that the simulation plants in the server, to show that it would find them, and commits that fail when it says so.
//!
//! Without the feature `crash-points` nothing can be planted: each place is an inline `false`. What is planted holds for
//! one thread, since each simulated system runs on one.

/// A mistake that somebody could make here. Each is named by what the server then does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Tells a caller that its work is done although the commit failed.
    RepliesWithoutCommit,
    /// Changes a job's row without writing down the event.
    ForgetsAnEvent,
    /// Makes a second job of one that is submitted again.
    SubmitsTwice,
    /// Runs a job although a dependency did not end as it must.
    IgnoresFailedDependency,
    /// Queues the jobs of a silent worker again, also where it was permitted to publish.
    OffersAgainAfterIntent,
    /// Lets claims expire by the time of day.
    ExpiresOnWallClock,
    /// Believes, after a restart, that the workers were silent all the time that it was away itself.
    ForgetsDowntime,
    /// Believes, after it stood still, that the workers were silent all that time.
    IgnoresStall,
    /// Refuses a claim to the worker that has it and missed the answer.
    RefusesClaimAskedAgain,
    /// Gives a claimed batch to a second worker.
    GrantsClaimTwice,
    /// Takes an offer that was replaced for one that counts.
    AcceptsStaleOffer,
    /// Permits a publish although somebody wants the job stopped.
    PermitsDespiteCancel,
    /// Permits a publish without writing it down.
    PermitsWithoutRecord,
    /// Writes although another server leads.
    IgnoresEpoch,
    /// Refuses the outcome of a publish that it permitted, once the claim has expired.
    RefusesLateEvidence,
    /// Believes any node about a lost batch.
    BelievesAnyNode,
    /// Lets a node's earlier worker go on beside its successor.
    KeepsOldLife,
    /// Takes lease paths for disjoint that differ by components: `/rel-1` and `/rel-10`.
    ComparesComponents,
    /// Takes lease paths for disjoint that differ in case: `/a` and `/A/x`.
    ComparesCase,
    /// Serves those first that came last.
    ServesLastFirst,
    /// Withdraws a whole offer when one of its jobs is cancelled.
    CancelsWholeBatch,
    /// Permits a publish after a job's deadline.
    PermitsPastDeadline,
    /// Goes on with a repository that somebody has for itself.
    IgnoresHolds,
    /// Takes a revision for visible that one of several replicas serves.
    BelievesOneReplica,
    /// Publishes again what is published and was not visible in time, when it is tried again.
    RetriesPublished,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::RepliesWithoutCommit,
        Self::ForgetsAnEvent,
        Self::SubmitsTwice,
        Self::IgnoresFailedDependency,
        Self::OffersAgainAfterIntent,
        Self::ExpiresOnWallClock,
        Self::ForgetsDowntime,
        Self::IgnoresStall,
        Self::RefusesClaimAskedAgain,
        Self::GrantsClaimTwice,
        Self::AcceptsStaleOffer,
        Self::PermitsDespiteCancel,
        Self::PermitsWithoutRecord,
        Self::IgnoresEpoch,
        Self::RefusesLateEvidence,
        Self::BelievesAnyNode,
        Self::KeepsOldLife,
        Self::ComparesComponents,
        Self::ComparesCase,
        Self::ServesLastFirst,
        Self::CancelsWholeBatch,
        Self::PermitsPastDeadline,
        Self::IgnoresHolds,
        Self::BelievesOneReplica,
        Self::RetriesPublished,
    ];
}

#[cfg(feature = "crash-points")]
mod switches {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
        static COMMIT_FAILS: Cell<bool> = const { Cell::new(false) };
    }

    /// Plants a bug on this thread, or takes it out.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Lets the next commit on this thread fail, as on a full disk, or not.
    pub fn fail_commit(fails: bool) {
        COMMIT_FAILS.set(fails);
    }

    /// Tells whether this bug is planted here.
    pub(crate) fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Tells whether this commit is to fail.
    pub(crate) fn commit_fails() -> bool {
        COMMIT_FAILS.take()
    }
}

#[cfg(not(feature = "crash-points"))]
mod switches {
    /// Tells whether this bug is planted here: it cannot be.
    #[inline(always)]
    pub(crate) fn is(_: super::Bug) -> bool {
        false
    }

    /// Tells whether this commit is to fail: it is not.
    #[inline(always)]
    pub(crate) fn commit_fails() -> bool {
        false
    }
}

pub(crate) use switches::{commit_fails, is};
#[cfg(feature = "crash-points")]
pub use switches::{fail_commit, plant};
