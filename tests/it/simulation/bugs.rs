//! Bugs that can be planted. A simulation that does not find them proves nothing.

use conveyor::planted;

/// A bug in the real server, or one in the simulated workers and repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    Server(planted::Bug),
    Worker(WorkerBug),
}

/// What a bad worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkerBug {
    /// Publishes although the permission was refused, or was never heard of.
    PublishesWithoutPermission,
    /// Begins a publish although the server has not answered for longer than the claim lives.
    PublishesThoughSilent,
    /// Looks for the tag without ending what may still publish.
    LooksWithoutFence,
    /// Reports a lost batch as not published without looking.
    FindsWithoutLooking,
    /// Publishes under a tag of its own at each try.
    NewTagEachTry,
    /// Gives the batch back and publishes it all the same; then reports that too.
    ReportsTwice,
    /// Takes the publisher's error for proof that nothing was published.
    TrustsExitCodes,
    /// Acknowledges an offer before its claim is answered.
    AcksBeforeClaim,
    /// Publishes what is left of a batch one job of which failed.
    PublishesPartOfBatch,
    /// Takes a dry run for a job as others are.
    IgnoresDryRun,
}

impl Bug {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let workers = [
            WorkerBug::PublishesWithoutPermission,
            WorkerBug::PublishesThoughSilent,
            WorkerBug::LooksWithoutFence,
            WorkerBug::FindsWithoutLooking,
            WorkerBug::NewTagEachTry,
            WorkerBug::ReportsTwice,
            WorkerBug::TrustsExitCodes,
            WorkerBug::AcksBeforeClaim,
            WorkerBug::PublishesPartOfBatch,
            WorkerBug::IgnoresDryRun,
        ];
        planted::Bug::ALL.into_iter().map(Self::Server).chain(workers.into_iter().map(Self::Worker))
    }

    /// The bug of this name, as a replay is told it.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::all().find(|bug| bug.to_string() == name)
    }
}

impl std::fmt::Display for Bug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server(bug) => write!(f, "{bug:?}"),
            Self::Worker(bug) => write!(f, "{bug:?}"),
        }
    }
}
