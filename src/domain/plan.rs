//! Decides which batches to form. Pure and deterministic: the same view gives the same actions.

use crate::domain::fleet::RepositoryRules;
use crate::domain::ids::JobId;
use crate::domain::names::{LeasePath, RepositoryName};

/// How large a batch may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Jobs.
    pub jobs: usize,
    /// Bytes of payload, as far as they are known; a single job may have more.
    pub bytes: u64,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { jobs: 100, bytes: 4 << 30 }
    }
}

/// A copy of what the decision needs, of one fleet.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The fleet's repositories that have something ready.
    pub repositories: Vec<RepositoryView>,
    /// How many more offers the fleet can take: its free slots + 1, less what is offered already.
    pub credit: usize,
    /// How large a batch may become.
    pub limits: BatchLimits,
}

/// What the decision needs to know of one repository.
#[derive(Debug, Clone)]
pub struct RepositoryView {
    /// Its name.
    pub name: RepositoryName,
    /// What may run in it at the same time.
    pub rules: RepositoryRules,
    /// Lease paths of the batches that live.
    pub reserved: Vec<LeasePath>,
    /// The jobs that are ready, by their rank.
    pub ready: Vec<ReadyJob>,
}

/// A job that could run now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyJob {
    /// The job.
    pub id: JobId,
    /// Its place in the order, see [`crate::domain::share`]: less goes first.
    pub rank: i64,
    /// What it will write under.
    pub lease_path: LeasePath,
    /// Number of the attempt that would come next.
    pub next_attempt: u32,
    /// Most jobs of its batch, itself among them.
    pub together: usize,
    /// Bytes of its payload, as far as they are known.
    pub bytes: u64,
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
        /// The jobs, in the order in which they are staged.
        jobs: Vec<ReadyJob>,
    },
}

/// Plans one fleet: the repository whose best job has the lowest rank goes first.
///
/// A repository without a gateway has one batch at a time, whatever the paths. With one, batches whose lease paths do not
/// overlap run beside each other; a job that must wait for another's path holds its own against those behind it, so that a
/// stream of small ones cannot keep a large one waiting for ever.
pub fn plan(view: &View) -> Vec<Action> {
    let mut repositories: Vec<_> = view.repositories.iter().filter(|repository| !repository.ready.is_empty()).collect();
    repositories.sort_by_key(|repository| (repository.ready[0].rank, &repository.name));
    let mut actions = Vec::new();
    for repository in repositories {
        let left = view.credit - actions.len();
        if left == 0 {
            break;
        }
        if repository.rules.gateway {
            plan_beside(repository, view.limits, left, &mut actions);
        } else if repository.reserved.is_empty() {
            let mut batch = Growing::of(&repository.ready[0]);
            batch.grow(&repository.ready[1..], &Reach::Repository, view.limits);
            actions.push(batch.offer(&repository.name));
        }
    }
    actions
}

/// A batch that nobody has begun, and how much of what it may become it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclaimed {
    /// How many jobs are in it.
    pub jobs: usize,
    /// The least that one of them may be together.
    pub together: usize,
    /// Bytes of their payloads, as far as they are known.
    pub bytes: u64,
    /// What it reserves.
    pub lease_path: LeasePath,
}

/// What such a batch can still take in of what became ready since, `ready` by rank, and its lease path then.
pub fn top_up(
    batch: Unclaimed,
    ready: &[ReadyJob],
    rules: &RepositoryRules,
    limits: BatchLimits,
) -> (Vec<ReadyJob>, LeasePath) {
    let reach = if rules.gateway { Reach::Within(batch.lease_path.clone()) } else { Reach::Repository };
    let Unclaimed { jobs, together, bytes, lease_path } = batch;
    let mut growing = Growing { lease_path, added: Vec::new(), jobs, together, bytes };
    growing.grow(ready, &reach, limits);
    (growing.added, growing.lease_path)
}

fn plan_beside(repository: &RepositoryView, limits: BatchLimits, left: usize, actions: &mut Vec<Action>) {
    let mut reserved = repository.reserved.clone();
    let mut waiting: Vec<&ReadyJob> = repository.ready.iter().rev().collect();
    let until = actions.len() + left;
    while let Some(first) = waiting.pop()
        && actions.len() < until
    {
        let is_free = |path: &LeasePath| !reserved.iter().any(|other| other.overlaps(path));
        if !is_free(&first.lease_path) {
            reserved.push(first.lease_path.clone());
            continue;
        }
        let root =
            repository.rules.batch_root.as_ref().filter(|root| root.contains(&first.lease_path) && is_free(root));
        let reach = Reach::Within(root.unwrap_or(&first.lease_path).clone());
        let mut batch = Growing::of(first);
        batch.grow(waiting.iter().rev().copied(), &reach, limits);
        waiting.retain(|job| !batch.added.iter().any(|added| added.id == job.id));
        reserved.push(batch.lease_path.clone());
        actions.push(batch.offer(&repository.name));
    }
}

/// How far up the lease path of a batch may climb.
enum Reach {
    /// All of it is reserved anyway.
    Repository,
    /// Not above this.
    Within(LeasePath),
}

struct Growing {
    lease_path: LeasePath,
    added: Vec<ReadyJob>,
    /// How many there are, with those from before.
    jobs: usize,
    /// The least that one of them may be together.
    together: usize,
    bytes: u64,
}

impl Growing {
    fn of(first: &ReadyJob) -> Self {
        let ReadyJob { lease_path, together, bytes, .. } = first.clone();
        Self { lease_path, added: vec![first.clone()], jobs: 1, together, bytes }
    }

    /// Takes in what fits, in its order. The first that should come and does not fit ends it: nothing overtakes it.
    fn grow<'a>(&mut self, ready: impl IntoIterator<Item = &'a ReadyJob>, reach: &Reach, limits: BatchLimits) {
        for job in ready {
            if let Reach::Within(root) = reach
                && !root.contains(&job.lease_path)
            {
                if job.lease_path.overlaps(root) {
                    return;
                }
                continue;
            }
            let bytes = self.bytes.saturating_add(job.bytes);
            if self.jobs >= limits.jobs.min(self.together).min(job.together) || bytes > limits.bytes {
                return;
            }
            self.lease_path = self.lease_path.common_parent(&job.lease_path);
            self.together = self.together.min(job.together);
            self.bytes = bytes;
            self.jobs += 1;
            self.added.push(job.clone());
        }
    }

    fn offer(self, repository: &RepositoryName) -> Action {
        Action::Offer { repository: repository.clone(), lease_path: self.lease_path, jobs: self.added }
    }
}
