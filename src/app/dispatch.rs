//! Forms batches out of ready jobs, in the same commit as whatever made them ready.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::app::clock::Entropy;
use crate::app::workers::Workers;
use crate::domain::batch::{Batch, BatchJob, BatchState};
use crate::domain::fleet::{DEFAULT_FLEET, Repositories};
use crate::domain::ids::BatchId;
use crate::domain::job::Job;
use crate::domain::job::event::JobEvent;
use crate::domain::names::RepositoryName;
use crate::domain::plan::{Action, RepositoryView, View, plan};
use crate::store::{StoreError, Tx};

/// Keeps which repositories must be planned again, and how much each fleet can take.
pub(super) struct Dispatcher {
    pub(super) repositories: Repositories,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) workers: Workers,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Repositories whose plan may be out of date.
    dirty: BTreeSet<RepositoryName>,
    /// The repository that each fleet was given a batch of last; the next one goes on behind it.
    served: BTreeMap<String, RepositoryName>,
}

impl Dispatcher {
    pub(super) fn new(repositories: Repositories, entropy: Arc<dyn Entropy>) -> Self {
        Self { repositories, entropy, workers: Workers::default(), state: Mutex::default() }
    }

    /// The fleet that serves a repository.
    pub(super) fn fleet(&self, repository: &RepositoryName) -> &str {
        self.repositories.get(repository).map_or(DEFAULT_FLEET, |rules| &rules.fleet)
    }

    /// Notes that a job's repository must be planned again.
    pub(super) fn touch(&self, job: &Job) {
        self.touch_repository(&job.spec.publish().repository);
    }

    pub(super) fn touch_repository(&self, repository: &RepositoryName) {
        self.state().dirty.insert(repository.clone());
    }

    /// Notes that every repository must be planned again.
    pub(super) fn plan_everything(&self) {
        self.state().dirty.extend(self.repositories.keys().cloned());
    }

    /// Plans what is out of date and stores the batches formed. Returns how many were.
    ///
    /// Runs on the writer's thread only. A plan lost with its commit is made again, see `Engine::write`.
    pub(super) fn run(&self, tx: &mut Tx<'_>, now: Timestamp) -> Result<usize, StoreError> {
        // What nobody serves stays out of date, and what was offered of it is in nobody's way.
        let unserved = self.workers.unserved();
        let dirty: Vec<RepositoryName> =
            self.state().dirty.iter().filter(|repository| !unserved.contains(*repository)).cloned().collect();
        let mut formed = 0;
        let mut fleets: BTreeMap<&str, Vec<&RepositoryName>> = BTreeMap::new();
        for repository in &dirty {
            fleets.entry(self.fleet(repository)).or_default().push(repository);
        }
        for (fleet, mut repositories) in fleets {
            let behind = |last: &RepositoryName| repositories.partition_point(|repository| *repository <= last);
            let start = self.state().served.get(fleet).map_or(0, behind);
            repositories.rotate_left(start);
            let mut offers = tx.count_offers(fleet)?;
            for repository in unserved.iter().filter(|repository| self.fleet(repository) == fleet) {
                offers = offers.saturating_sub(tx.count_offers_of(repository)?);
            }
            let credit = self.workers.slots(fleet).saturating_add(1).saturating_sub(offers);
            let mut view = View { repositories: Vec::new(), credit };
            for repository in repositories {
                // What cannot be served for want of credit stays out of date.
                if view.repositories.len() == credit {
                    break;
                }
                let reserved = tx.reserved(repository)?;
                // While a batch lives there, what is ready does not matter; its end touches the repository.
                let ready = if reserved.is_empty() { tx.ready(repository, 1)? } else { Vec::new() };
                self.state().dirty.remove(repository);
                if !ready.is_empty() {
                    view.repositories.push(RepositoryView { name: repository.clone(), reserved, ready });
                }
            }
            for action in plan(&view) {
                let Action::Offer { repository, .. } = &action;
                self.state().served.insert(fleet.to_owned(), repository.clone());
                self.carry_out(tx, now, fleet, action)?;
                formed += 1;
            }
        }
        Ok(formed)
    }

    fn carry_out(&self, tx: &mut Tx<'_>, now: Timestamp, fleet: &str, action: Action) -> Result<(), StoreError> {
        let Action::Offer { repository, lease_path, jobs } = action;
        let batch = Batch {
            id: BatchId(self.entropy.uuid(now)),
            fleet: fleet.to_owned(),
            repository,
            lease_path,
            jobs: jobs.into_iter().map(|(job_id, attempt)| BatchJob { job_id, attempt }).collect(),
            generation: 1,
            state: BatchState::Unsent,
        };
        tx.insert_batch(now, &batch)?;
        for BatchJob { job_id, .. } in &batch.jobs {
            let job = tx
                .job(*job_id)?
                .ok_or_else(|| StoreError::corrupt(format!("job {job_id}"), "it vanished while it was planned"))?;
            tx.apply(now, job, &JobEvent::Offered { batch: batch.id })?;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
