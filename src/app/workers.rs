//! The workers, as each described itself last. In memory only: after a restart they are back with their next heartbeats.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::app::{AppError, Engine};
use crate::domain::batch::{Batch, BatchState};
use crate::domain::fleet::{DEFAULT_FLEET, Repositories};
use crate::domain::ids::{BatchId, InstanceId};
use crate::domain::names::RepositoryName;
use crate::domain::worker::{Gap, OffersBy, WorkerAbout, WorkerBatch, WorkerList, WorkerState, WorkerView};
use crate::planted::{self, Bug};

/// How long a worker that went silent is shown.
const SHOWN: Duration = Duration::from_secs(24 * 3600);

/// A worker, as it described itself last.
#[derive(Clone)]
pub(super) struct Worker {
    pub(super) instance: InstanceId,
    pub(super) fleet: String,
    pub(super) free_slots: usize,
    /// Whether the broker delivers offers to it.
    pub(super) by_broker: bool,
    pub(super) about: WorkerAbout,
    /// Whether it holds nothing, as far as it knows.
    pub(super) is_empty: bool,
    /// When it was heard, on the monotonic clock.
    pub(super) at: Duration,
    /// When, for people.
    pub(super) heard_at: Timestamp,
    /// Its claims have expired since.
    pub(super) is_silent: bool,
}

impl Worker {
    /// Whether it takes offers.
    fn takes(&self) -> bool {
        !self.is_silent && !self.about.draining
    }
}

/// All that were heard of.
#[derive(Default)]
pub(super) struct Workers(Mutex<Known>);

#[derive(Default)]
struct Known {
    workers: BTreeMap<String, Worker>,
    /// Offers that were handed out over HTTP and are not claimed yet, as far as is known.
    handed: HashMap<BatchId, InstanceId>,
    /// Repositories that no worker serves although their fleet has workers.
    unserved: BTreeSet<RepositoryName>,
    /// What was complained about.
    told: BTreeSet<Gap>,
}

/// What a sign of life changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// A repository is served that was not.
    pub(super) is_served: bool,
    /// It takes offers again: whoever waits for one must look anew.
    pub(super) takes_again: bool,
    /// What was handed to it and it will not take: it drains.
    pub(super) withdrawn: Vec<BatchId>,
}

impl Workers {
    /// Notes what a worker says with a heartbeat. One that an instance started later has replaced is refused.
    pub(super) fn heard(&self, repositories: &Repositories, node: &str, worker: Worker) -> Result<Changed, AppError> {
        let mut known = self.known();
        known.check_life(node, worker.instance)?;
        let instance = worker.instance;
        let is_draining = worker.about.draining;
        let before = known.workers.insert(node.to_owned(), worker);
        let takes_again = !is_draining && before.is_some_and(|before| before.about.draining);
        let is_served = known.note_unserved(repositories);
        let mut withdrawn = Vec::new();
        if is_draining {
            known.handed.retain(|batch, to| {
                if *to == instance {
                    withdrawn.push(*batch);
                }
                *to != instance
            });
        }
        Ok(Changed { is_served, takes_again, withdrawn })
    }

    /// Notes that a worker asks for offers: what its heartbeats said stays.
    pub(super) fn asked(&self, node: &str, asking: Worker) -> Result<(), AppError> {
        let mut known = self.known();
        known.check_life(node, asking.instance)?;
        match known.workers.get_mut(node).filter(|worker| worker.instance == asking.instance) {
            Some(worker) => {
                worker.free_slots = asking.free_slots;
                (worker.at, worker.heard_at, worker.is_silent) = (asking.at, asking.heard_at, false);
                worker.fleet = asking.fleet;
            }
            None => drop(known.workers.insert(node.to_owned(), asking)),
        }
        Ok(())
    }

    /// Whether a worker may be given batches of a repository. One that has not said what it serves may.
    pub(super) fn may_take(&self, node: &str, instance: InstanceId, repository: &RepositoryName) -> bool {
        let known = self.known();
        let worker = known.workers.get(node).filter(|worker| worker.instance == instance);
        worker.is_none_or(|worker| worker.about.serves(repository))
    }

    /// Whether a worker said that it takes no more.
    pub(super) fn is_draining(&self, node: &str, instance: InstanceId) -> bool {
        let known = self.known();
        known.workers.get(node).is_some_and(|worker| worker.instance == instance && worker.about.draining)
    }

    /// Whether the broker gives the fleet's offers to somebody who can serve the repository.
    pub(super) fn broker_reaches(&self, fleet: &str, repository: &RepositoryName) -> bool {
        let known = self.known();
        let mut workers = known.workers.values().filter(|worker| worker.fleet == fleet && worker.by_broker);
        workers.any(|worker| worker.takes() && worker.about.serves(repository))
    }

    /// The fleets with a worker that the broker delivers offers to. For others nothing is sent: it would pile up.
    pub(super) fn fleets_by_broker(&self) -> BTreeSet<String> {
        let known = self.known();
        let workers = known.workers.values().filter(|worker| worker.by_broker && worker.takes());
        workers.map(|worker| worker.fleet.clone()).collect()
    }

    /// Notes that a worker took a batch, or gave one back, before it says so itself.
    pub(super) fn adjust_slots(&self, node: &str, change: isize) {
        if let Some(worker) = self.known().workers.get_mut(node) {
            worker.free_slots = worker.free_slots.saturating_add_signed(change);
        }
    }

    /// How many batches a fleet can take.
    pub(super) fn slots(&self, fleet: &str) -> usize {
        let known = self.known();
        let workers = known.workers.values().filter(|worker| worker.fleet == fleet && worker.takes());
        workers.map(|worker| worker.free_slots).sum()
    }

    /// The repositories of a fleet that no worker of it serves although it has some. None where nobody was heard of yet.
    pub(super) fn unserved(&self) -> BTreeSet<RepositoryName> {
        self.known().unserved.clone()
    }

    /// The nodes whose workers serve a repository of their fleet now.
    pub(super) fn serving(&self, fleet: &str, repository: &RepositoryName) -> Vec<String> {
        let known = self.known();
        let serve = |worker: &Worker| worker.fleet == fleet && worker.takes() && worker.about.serves(repository);
        known.workers.iter().filter(|(_, worker)| serve(worker)).map(|(node, _)| node.clone()).collect()
    }

    /// Notes to whom offers went.
    pub(super) fn handed(&self, instance: InstanceId, batches: impl IntoIterator<Item = BatchId>) {
        self.known().handed.extend(batches.into_iter().map(|batch| (batch, instance)));
    }

    /// Notes that an offer is over: claimed, or made anew.
    pub(super) fn offer_over(&self, batch: BatchId) {
        self.known().handed.remove(&batch);
    }

    /// Notes who was silent since `before`: they can take nothing, and stand in nobody's way. They are shown for a day; one
    /// that said it would end, and held nothing, is not missed.
    ///
    /// A silent one may also have a greater instance than its successor: the node's clock may have been set back.
    pub(super) fn note_silent(&self, repositories: &Repositories, before: Duration) {
        let mut known = self.known();
        let is_old = known.workers.values().any(|worker| worker.at <= before && !worker.is_silent);
        known.workers.values_mut().filter(|worker| worker.at <= before).for_each(|worker| worker.is_silent = true);
        let shown_since = before.checked_sub(SHOWN);
        known.workers.retain(|_, worker| {
            // One that an operator drained is to come back.
            let is_gone = worker.about.draining && worker.about.drained.is_none() && worker.is_empty;
            !worker.is_silent || !is_gone && shown_since.is_none_or(|since| worker.at > since)
        });
        if is_old {
            known.note_unserved(repositories);
        }
    }

    /// Notes that other repositories are configured.
    pub(super) fn configured(&self, repositories: &Repositories) {
        self.known().note_unserved(repositories);
    }

    /// How many live.
    pub(super) fn living(&self) -> usize {
        self.known().workers.values().filter(|worker| !worker.is_silent).count()
    }

    /// What is wrong, once each time that it comes up.
    pub(super) fn complaints(&self, repositories: &Repositories) -> Vec<Gap> {
        let mut known = self.known();
        let gaps: BTreeSet<Gap> =
            known.gaps(repositories).into_iter().filter(|gap| known.has_workers(&gap.fleet)).collect();
        let new = gaps.difference(&known.told).cloned().collect();
        known.told = gaps;
        new
    }

    /// All workers with what they hold, and the nodes that lost batches wait for.
    fn list(&self, repositories: &Repositories, live: &[Batch]) -> WorkerList {
        let known = self.known();
        let mut workers: BTreeMap<String, WorkerView> = BTreeMap::new();
        for (node, worker) in &known.workers {
            let state = match worker {
                Worker { is_silent: true, .. } => WorkerState::Silent,
                Worker { about: WorkerAbout { draining: true, .. }, .. } => WorkerState::Draining,
                _ => WorkerState::Idle,
            };
            workers.insert(
                node.clone(),
                WorkerView {
                    node: node.clone(),
                    state,
                    fleet: Some(worker.fleet.clone()),
                    instance: Some(worker.instance),
                    free_slots: Some(u32::try_from(worker.free_slots).unwrap_or(u32::MAX)),
                    offers: Some(if worker.by_broker { OffersBy::Rabbitmq } else { OffersBy::Http }),
                    about: worker.about.clone(),
                    batches: Vec::new(),
                    heard_at: Some(worker.heard_at),
                },
            );
        }
        for batch in live {
            let Some(node) = batch.state.node() else { continue };
            let worker = workers.entry(node.to_owned()).or_insert_with(|| lost(node));
            let (batch_id, repository) = (batch.id, batch.repository.clone());
            worker.batches.push(WorkerBatch { batch_id, repository, state: batch.state.as_str().to_owned() });
            if worker.state == WorkerState::Idle && !matches!(batch.state, BatchState::Recovering { .. }) {
                worker.state = WorkerState::Busy;
            }
        }
        WorkerList { workers: workers.into_values().collect(), gaps: known.gaps(repositories) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node that was not heard of since the server's start.
fn lost(node: &str) -> WorkerView {
    WorkerView {
        node: node.to_owned(),
        state: WorkerState::Silent,
        fleet: None,
        instance: None,
        free_slots: None,
        offers: None,
        about: WorkerAbout::default(),
        batches: Vec::new(),
        heard_at: None,
    }
}

fn fleet_of<'a>(repositories: &'a Repositories, repository: &RepositoryName) -> &'a str {
    repositories.get(repository).map_or(DEFAULT_FLEET, |rules| &rules.fleet)
}

impl Known {
    fn check_life(&self, node: &str, instance: InstanceId) -> Result<(), AppError> {
        let replaced = self.workers.get(node).is_some_and(|worker| !worker.is_silent && worker.instance > instance);
        if replaced && !planted::is(Bug::KeepsOldLife) {
            let message = format!("node {node} has a worker that started later than this one");
            return Err(AppError::conflict(
                "superseded",
                message,
                "stop this worker, or give it a node name of its own",
            ));
        }
        Ok(())
    }

    fn has_workers(&self, fleet: &str) -> bool {
        self.workers.values().any(|worker| worker.fleet == fleet && !worker.is_silent)
    }

    fn is_served(&self, fleet: &str, repository: &RepositoryName) -> bool {
        let mut workers = self.workers.values().filter(|worker| worker.fleet == fleet && !worker.is_silent);
        workers.any(|worker| worker.about.serves(repository))
    }

    /// Finds out anew what nobody serves; `true` where something is served that was not.
    fn note_unserved(&mut self, repositories: &Repositories) -> bool {
        let is_unserved = |repository: &&RepositoryName| {
            let fleet = fleet_of(repositories, repository);
            self.has_workers(fleet) && !self.is_served(fleet, repository)
        };
        let unserved: BTreeSet<_> = repositories.keys().filter(is_unserved).cloned().collect();
        let is_served = !self.unserved.is_subset(&unserved);
        self.unserved = unserved;
        is_served
    }

    fn gaps(&self, repositories: &Repositories) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for repository in repositories.keys() {
            let fleet = fleet_of(repositories, repository);
            let by_broker = self.workers.iter().filter(|(_, w)| w.fleet == fleet && w.by_broker && w.takes());
            let cannot = by_broker.filter(|(_, worker)| !worker.about.serves(repository));
            let nodes: Vec<String> = match self.is_served(fleet, repository) {
                true => cannot.map(|(node, _)| node.clone()).collect(),
                false => Vec::new(),
            };
            if !nodes.is_empty() || !self.is_served(fleet, repository) {
                gaps.push(Gap { repository: repository.clone(), fleet: fleet.to_owned(), nodes });
            }
        }
        gaps
    }
}

impl Engine {
    /// All workers that were heard of, with what they hold, and what is wrong with them.
    pub async fn workers(&self) -> Result<WorkerList, AppError> {
        let live = self.store.read(|db| Ok::<_, AppError>(db.live_batches()?)).await?;
        Ok(self.dispatcher.workers.list(&self.dispatcher.repositories(), &live))
    }

    /// When the whitelist of each repository expires, as the workers that live have read it.
    pub fn whitelists(&self) -> BTreeMap<RepositoryName, Timestamp> {
        let known = self.dispatcher.workers.known();
        let mut whitelists: BTreeMap<RepositoryName, Timestamp> = BTreeMap::new();
        for worker in known.workers.values().filter(|worker| !worker.is_silent) {
            for (repository, at) in &worker.about.whitelists {
                // One that looked earlier may not know of a new one.
                let latest = whitelists.entry(repository.clone()).or_insert(*at);
                *latest = (*latest).max(*at);
            }
        }
        whitelists
    }

    /// What workers that live say is wrong with their machines, each with its name before it.
    pub fn node_faults(&self) -> Vec<String> {
        let known = self.dispatcher.workers.known();
        let living = known.workers.iter().filter(|(_, worker)| !worker.is_silent);
        living
            .flat_map(|(node, worker)| worker.about.faults.iter().map(move |fault| format!("{node}: {fault}")))
            .collect()
    }

    /// Notes who went silent, and complains once about repositories that nobody serves.
    pub(super) fn look_at_workers(&self, now: Duration) {
        let (workers, repositories) = (&self.dispatcher.workers, &*self.dispatcher.repositories());
        if let Some(before) = now.checked_sub(self.settings.claim_expiry) {
            workers.note_silent(repositories, before);
        }
        for gap in workers.complaints(repositories) {
            tracing::warn!(repository = %gap.repository, fleet = gap.fleet, "{}", gap.describe());
        }
    }

    /// Makes offers anew that were handed to a worker which takes no more; others need not wait for their time.
    pub(super) fn withdraw(&self, batches: &[BatchId]) {
        let now = self.clock.monotonic();
        let mut live = self.live();
        for batch in batches {
            if let Some(due) = live.offers.get_mut(batch) {
                *due = now;
            }
        }
    }
}
