//! Decides which batches to form. Pure and deterministic: the same view gives the same actions.

use crate::domain::ids::JobId;
use crate::domain::names::{LeasePath, RepositoryName};

/// A copy of what the decision needs, of one fleet.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The fleet's repositories, in the order in which they are served (the caller rotates it).
    pub repositories: Vec<RepositoryView>,
    /// How many more offers the fleet can take: its free slots + 1, less what is offered already.
    pub credit: usize,
}

/// What the decision needs to know of one repository.
#[derive(Debug, Clone)]
pub struct RepositoryView {
    /// Its name.
    pub name: RepositoryName,
    /// Lease paths of the batches that live.
    pub reserved: Vec<LeasePath>,
    /// The jobs that are ready, best first: by priority, then by age.
    pub ready: Vec<ReadyJob>,
}

/// A job that could run now.
#[derive(Debug, Clone)]
pub struct ReadyJob {
    /// The job.
    pub id: JobId,
    /// What it will write under.
    pub lease_path: LeasePath,
    /// Number of the attempt that would come next.
    pub next_attempt: u32,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Form a batch, reserve its path, offer it.
    Offer {
        /// The repository.
        repository: RepositoryName,
        /// What to reserve.
        lease_path: LeasePath,
        /// The jobs with the number of the attempt that it will be.
        jobs: Vec<(JobId, u32)>,
    },
}

/// Plans one fleet. Batches are of one job as yet.
///
/// All repositories are without a gateway as yet, so that one with a live batch takes no second one, whatever its path.
pub fn plan(view: &View) -> Vec<Action> {
    view.repositories
        .iter()
        .filter(|repository| repository.reserved.is_empty())
        .filter_map(|repository| {
            let job = repository.ready.first()?;
            Some(Action::Offer {
                repository: repository.name.clone(),
                lease_path: job.lease_path.clone(),
                jobs: vec![(job.id, job.next_attempt)],
            })
        })
        .take(view.credit)
        .collect()
}
