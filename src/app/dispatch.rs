//! Forms batches out of ready jobs, in the same commit as whatever made them ready.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::Timestamp;

use crate::app::clock::Entropy;
use crate::app::rules::Rules;
use crate::app::workers::Workers;
use crate::domain::batch::{Batch, BatchJob, BatchState};
use crate::domain::fleet::{DEFAULT_FLEET, Repositories, RepositoryRules};
use crate::domain::ids::{BatchId, JobId};
use crate::domain::job::Job;
use crate::domain::job::event::JobEvent;
use crate::domain::job::spec::JobSpec;
use crate::domain::names::{LeasePath, RepositoryName};
use crate::domain::plan::{Action, ReadyJob, RepositoryView, Unclaimed, View, plan, top_up};
use crate::domain::share::{Pending, Shares};
use crate::planted::{self, Bug};
use crate::store::{Db, StoreError, Tx};

/// Keeps which repositories must be planned again, and how much each fleet can take.
pub(super) struct Dispatcher {
    rules: RwLock<Arc<Rules>>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) workers: Workers,
    state: Mutex<State>,
}

/// Ready jobs of a repository with a gateway that are looked at, to find some whose paths are free.
const LOOK_AHEAD: usize = 256;

#[derive(Default)]
struct State {
    /// Repositories whose plan may be out of date, with the rank of the first job that is ready where that is known.
    dirty: BTreeMap<RepositoryName, Option<i64>>,
    /// The order of each fleet.
    shares: HashMap<String, Shares>,
    /// Jobs whose rows cannot be read.
    damaged: HashSet<JobId>,
}

impl Dispatcher {
    pub(super) fn new(rules: Rules, entropy: Arc<dyn Entropy>) -> Self {
        let rules = RwLock::new(Arc::new(rules));
        Self { rules, entropy, workers: Workers::default(), state: Mutex::default() }
    }

    /// What is in force now.
    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts others in force, and returns those before. Whoever planned by those meanwhile has committed before anything that
    /// is written from now on.
    pub(super) fn set_rules(&self, rules: Rules) -> Arc<Rules> {
        let mut in_force = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *in_force, Arc::new(rules))
    }

    /// The repositories that jobs are accepted for.
    pub(super) fn repositories(&self) -> Arc<Repositories> {
        Arc::clone(&self.rules().repositories)
    }

    /// The fleet that serves a repository.
    pub(super) fn fleet(&self, repository: &RepositoryName) -> String {
        self.repositories().get(repository).map_or_else(|| DEFAULT_FLEET.to_owned(), |rules| rules.fleet.clone())
    }

    /// Notes that a job's repository must be planned again.
    pub(super) fn touch(&self, job: &Job) {
        self.touch_repository(&job.spec.publish().repository);
    }

    pub(super) fn touch_repository(&self, repository: &RepositoryName) {
        self.state().dirty.insert(repository.clone(), None);
    }

    /// Notes that every repository must be planned again.
    pub(super) fn plan_everything(&self) {
        self.state().dirty.extend(self.repositories().keys().map(|repository| (repository.clone(), None)));
    }

    /// The place of a job that becomes ready now, in the order in which its fleet serves them.
    pub(super) fn rank(&self, spec: &JobSpec) -> i64 {
        let fleet = self.fleet(&spec.publish().repository);
        let mut state = self.state();
        state.shares.entry(fleet).or_default().rank(&spec.submitter, spec.priority)
    }

    /// Notes that a job which was ready will not go.
    pub(super) fn withdrawn(&self, spec: &JobSpec, rank: i64) {
        let fleet = self.fleet(&spec.publish().repository);
        if let Some(shares) = self.state().shares.get_mut(&fleet) {
            shares.withdrawn(&spec.submitter, rank, spec.priority);
        }
    }

    /// Takes over the order of what is in the queue already; see [`crate::store::Db::pending`].
    pub(super) fn restore_shares(&self, pending: Vec<(String, Pending)>) {
        let mut fleets: BTreeMap<String, Vec<Pending>> = BTreeMap::new();
        for (repository, pending) in pending {
            let fleet = RepositoryName::new(repository).ok().map(|repository| self.fleet(&repository));
            fleets.entry(fleet.unwrap_or_else(|| DEFAULT_FLEET.to_owned())).or_default().push(pending);
        }
        let restored = fleets.into_iter().map(|(fleet, pending)| (fleet, Shares::restored(pending)));
        self.state().shares = restored.collect();
    }

    /// Plans what is out of date and stores the batches formed. Returns how many were.
    ///
    /// Runs on the writer's thread only. A plan lost with its commit is made again, see `Engine::write`.
    pub(super) fn run(&self, tx: &mut Tx<'_>, now: Timestamp) -> Result<usize, StoreError> {
        let mut fleets: BTreeMap<String, Vec<RepositoryName>> = BTreeMap::new();
        // What nobody serves stays out of date, and what was offered of it is in nobody's way.
        let unserved = self.workers.unserved();
        let (held, known) = (self.held(tx, now)?, self.repositories());
        let is_free = |repository: &&RepositoryName| {
            !unserved.contains(*repository) && !held.contains(*repository) && known.contains_key(*repository)
        };
        for repository in self.state().dirty.keys().filter(is_free) {
            fleets.entry(self.fleet(repository)).or_default().push(repository.clone());
        }
        let mut formed = 0;
        for (fleet, repositories) in fleets {
            let mut offers = tx.count_offers(&fleet)?;
            for repository in unserved.iter().filter(|repository| self.fleet(repository) == fleet) {
                offers = offers.saturating_sub(tx.count_offers_of(repository)?);
            }
            let credit = self.workers.slots(&fleet).saturating_add(1).saturating_sub(offers);
            // What cannot be served for want of credit stays out of date.
            if credit == 0 {
                continue;
            }
            formed += self.plan_fleet(tx, now, &fleet, repositories, credit)?;
        }
        Ok(formed)
    }

    /// The repositories of which nothing is offered now.
    pub(super) fn held(&self, db: &Db<'_>, now: Timestamp) -> Result<BTreeSet<RepositoryName>, StoreError> {
        if planted::is(Bug::IgnoresHolds) {
            return Ok(BTreeSet::new());
        }
        let mut held = self.in_window(now);
        held.extend(db.held()?.into_iter().filter_map(|name| RepositoryName::new(name).ok()));
        Ok(held)
    }

    /// The repositories with a maintenance window that is open, or about to be.
    pub(super) fn in_window(&self, now: Timestamp) -> BTreeSet<RepositoryName> {
        let is_open = |rules: &RepositoryRules| rules.maintenance.iter().any(|window| window.hold(now).is_some());
        self.repositories().iter().filter(|(_, rules)| is_open(rules)).map(|(name, _)| name.clone()).collect()
    }

    fn plan_fleet(
        &self,
        tx: &mut Tx<'_>,
        now: Timestamp,
        fleet: &str,
        repositories: Vec<RepositoryName>,
        credit: usize,
    ) -> Result<usize, StoreError> {
        let view = self.view(tx, repositories, credit)?;
        let actions = plan(&view);
        // Without credit there may be more to do. Whatever else stands in the way touches the repository when it ends.
        if actions.len() == credit {
            let beside = view.repositories.into_iter().filter(|repository| repository.rules.gateway);
            self.state().dirty.extend(beside.map(|repository| (repository.name, None)));
        }
        let (mut formed, mut spoilt) = (0, Vec::new());
        for Action::Offer { repository, lease_path, jobs } in actions {
            match self.form(tx, now, fleet, &repository, lease_path, jobs)? {
                true => formed += 1,
                false => spoilt.push(repository),
            }
        }
        if !spoilt.is_empty() {
            // Their first jobs are known to be damaged now: others take their place. It ends, since each time there are more.
            formed += self.plan_fleet(tx, now, fleet, spoilt, credit - formed)?;
        }
        Ok(formed)
    }

    /// What must be known to give out so much credit among these repositories: those whose first jobs come first.
    fn view(&self, tx: &Tx<'_>, repositories: Vec<RepositoryName>, credit: usize) -> Result<View, StoreError> {
        let mut heads = Vec::with_capacity(repositories.len());
        for name in repositories {
            let known = self.state().dirty.get(&name).copied().flatten();
            let head = match known {
                Some(head) => Some(head),
                // Without a gateway, what is ready does not matter while a batch lives: its end touches the repository.
                None if !self.rules_of(&name).gateway && !tx.reserved(&name)?.is_empty() => None,
                None => tx.first_ready(&name)?,
            };
            match head {
                Some(rank) => {
                    self.state().dirty.insert(name.clone(), head);
                    heads.push((rank, name));
                }
                None => drop(self.state().dirty.remove(&name)),
            }
        }
        heads.sort();
        let limits = self.rules().batches;
        let mut view = View { repositories: Vec::new(), credit, limits };
        for (_, name) in heads {
            if view.repositories.len() == credit {
                break;
            }
            let rules = self.rules_of(&name);
            let many = if rules.gateway { LOOK_AHEAD } else { limits.jobs };
            let ready = self.ready(tx, &name, many)?;
            let reserved = as_planted(tx.reserved(&name)?, &ready);
            self.state().dirty.remove(&name);
            if !ready.is_empty() {
                view.repositories.push(RepositoryView { name, rules, reserved, ready });
            }
        }
        Ok(view)
    }

    fn ready(&self, tx: &Tx<'_>, repository: &RepositoryName, limit: usize) -> Result<Vec<ReadyJob>, StoreError> {
        let damaged = self.state().damaged.clone();
        let mut ready = tx.ready(repository, limit, |job| damaged.contains(&job))?;
        if planted::is(Bug::ServesLastFirst) {
            ready.reverse();
        }
        Ok(ready)
    }

    /// Forms a batch; there is none where no job's row can be read.
    fn form(
        &self,
        tx: &mut Tx<'_>,
        now: Timestamp,
        fleet: &str,
        repository: &RepositoryName,
        lease_path: LeasePath,
        jobs: Vec<ReadyJob>,
    ) -> Result<bool, StoreError> {
        let id = BatchId(self.entropy.uuid(now));
        let jobs = self.take_in(tx, now, id, jobs)?;
        if jobs.is_empty() {
            return Ok(false);
        }
        let (fleet, repository) = (fleet.to_owned(), repository.clone());
        let batch = Batch { id, fleet, repository, lease_path, jobs, generation: 1, state: BatchState::Unsent };
        tx.insert_batch(now, &batch)?;
        Ok(true)
    }

    /// Puts what became ready since into a batch that is just being claimed.
    pub(super) fn top_up(&self, tx: &mut Tx<'_>, now: Timestamp, batch: &mut Batch) -> Result<(), StoreError> {
        let limits = self.rules().batches;
        if batch.jobs.len() >= limits.jobs {
            return Ok(());
        }
        let mut there = Vec::with_capacity(batch.jobs.len());
        for member in &batch.jobs {
            there.extend(tx.as_ready(member.job_id)?);
        }
        let rules = self.rules_of(&batch.repository);
        let unclaimed = Unclaimed {
            jobs: there.len(),
            together: there.iter().map(|job| job.together).min().unwrap_or(0),
            bytes: there.iter().fold(0, |sum, job| sum.saturating_add(job.bytes)),
            lease_path: batch.lease_path.clone(),
        };
        let ready = self.ready(tx, &batch.repository, limits.jobs)?;
        let (added, lease_path) = top_up(unclaimed, &ready, &rules, limits);
        let added = self.take_in(tx, now, batch.id, added)?;
        if !added.is_empty() {
            batch.jobs.extend(added);
            batch.lease_path = lease_path;
        }
        Ok(())
    }

    /// Notes of ready jobs that they are in a batch. One whose row cannot be read stays out, and in nobody's way.
    fn take_in(
        &self,
        tx: &mut Tx<'_>,
        now: Timestamp,
        batch: BatchId,
        jobs: Vec<ReadyJob>,
    ) -> Result<Vec<BatchJob>, StoreError> {
        let mut taken = Vec::with_capacity(jobs.len());
        for ReadyJob { id, rank, next_attempt, .. } in jobs {
            let job = match tx.job(id) {
                Ok(Some(job)) => job,
                Ok(None) => {
                    return Err(StoreError::corrupt(format!("job {id}"), "it vanished while it was planned"));
                }
                Err(error) => {
                    tx.pass_over(error)?;
                    self.state().damaged.insert(id);
                    continue;
                }
            };
            let fleet = self.fleet(&job.spec.publish().repository);
            if let Some(shares) = self.state().shares.get_mut(&fleet) {
                shares.served(rank, job.spec.priority);
            }
            tx.apply(now, job, &JobEvent::Offered { batch })?;
            taken.push(BatchJob { job_id: id, attempt: next_attempt });
        }
        Ok(taken)
    }

    fn rules_of(&self, repository: &RepositoryName) -> RepositoryRules {
        self.repositories().get(repository).cloned().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lease paths that stand in the way; with a planted bug, what a server takes them for that compares them too finely.
fn as_planted(mut reserved: Vec<LeasePath>, ready: &[ReadyJob]) -> Vec<LeasePath> {
    let below =
        |a: &str, b: &str| a == "/" || b.strip_prefix(a).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let (by_component, by_case) = (planted::is(Bug::ComparesComponents), planted::is(Bug::ComparesCase));
    if by_component || by_case {
        reserved.retain(|path| {
            ready.iter().any(|job| {
                let (a, b) = (path.as_str(), job.lease_path.as_str());
                let (a, b) = if by_case { (a.to_owned(), b.to_owned()) } else { (a.to_lowercase(), b.to_lowercase()) };
                if by_component { below(&a, &b) || below(&b, &a) } else { a.starts_with(&b) || b.starts_with(&a) }
            })
        });
    }
    reserved
}
