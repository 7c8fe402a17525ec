//! What must hold at every step, judged from the event log, the rows and the repositories, never from replies alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use conveyor::domain::batch::Batch;
use conveyor::domain::ids::{BatchId, JobId};
use conveyor::domain::job::LoggedEvent;
use conveyor::domain::job::event::JobEvent;
use conveyor::domain::job::spec::{Condition, JobSpec};
use conveyor::domain::job::state::{JobState, Phase, Progress, Published, StateKind, next};
use conveyor::domain::names::RepositoryName;
use conveyor::store::{Store, StoreError};
use url::Url;

use super::environment::is_gateway;
use super::executor::block_on;
use super::ledger::Ledger;
use super::repository::{Revision, exclude};

/// A broken invariant, in words.
pub(super) type Violation = String;

#[derive(Default)]
pub(super) struct Checker {
    /// Every job's progress, added up from its events alone.
    pub(super) model: BTreeMap<JobId, Progress>,
    /// Jobs whose acceptance a client was told of.
    pub(super) accepted: BTreeSet<JobId>,
    pub(super) ledger: Ledger,
    pub(super) specs: BTreeMap<JobId, JobSpec>,
    /// The order in which jobs were accepted, by their first events.
    order: BTreeMap<JobId, usize>,
    /// The order in which jobs became ready for the first time.
    ready: BTreeMap<JobId, usize>,
    /// Jobs that ever lost their turn: an attempt came to nothing, or they were tried again.
    displaced: BTreeSet<JobId>,
    published: BTreeMap<JobId, (RepositoryName, Revision)>,
    /// Jobs that somebody cancelled, with success, and nobody tried again since.
    unwanted: BTreeSet<JobId>,
    /// The jobs of each batch, as far as they were offered.
    batches: BTreeMap<BatchId, BTreeSet<JobId>>,
    /// Until when somebody has a repository for itself.
    held: BTreeMap<RepositoryName, Duration>,
    /// What each replica serves, as the server was told last; `None` where it gives no answer.
    pub(super) replicas: BTreeMap<Url, Option<u64>>,
    /// When it was looked last.
    looked: Duration,
    last_event: u64,
    pub(super) violation: Option<Violation>,
}

impl Checker {
    /// Makes a job known before it is submitted.
    pub(super) fn expect(&mut self, spec: &JobSpec) {
        self.specs.insert(spec.id, spec.clone());
    }

    pub(super) fn fail(&mut self, why: impl Into<String>) {
        self.violation.get_or_insert(why.into());
    }

    pub(super) fn check(&mut self, rule: Result<(), String>) {
        if let Err(why) = rule {
            self.fail(why);
        }
    }

    /// Somebody was told that a repository is theirs alone until then.
    pub(super) fn held(&mut self, repository: RepositoryName, until: Duration) {
        self.held.insert(repository, until);
    }

    fn is_held(&self, repository: &RepositoryName, now: Duration) -> bool {
        self.held.get(repository).is_some_and(|until| now < *until)
    }

    /// A publish begins.
    pub(super) fn begins(&mut self, batch: BatchId) {
        if self.ledger.is_expired(batch) {
            self.fail(format!("the publish of {batch} begins after its claim expired"));
        }
    }

    /// A revision appeared.
    pub(super) fn published(&mut self, repository: &RepositoryName, batch: BatchId, revision: &Revision) {
        if self.is_held(repository, self.looked) {
            return self.fail(format!("{batch} was published while somebody had {repository} for itself"));
        }
        for id in &revision.jobs {
            if let Some((_, earlier)) = self.published.get(id) {
                let why = format!("job {id} was published twice: {} and {}", earlier.number, revision.number);
                return self.fail(why);
            }
            let permitted = match self.model.get(id).map(|progress| &progress.state) {
                Some(JobState::Running { batch: of, phase: Phase::Publishing, .. })
                | Some(JobState::Recovering { batch: of, publishing: true, .. })
                | Some(JobState::NeedsOperator { batch: of, publishing: true, .. }) => *of == batch,
                _ => false,
            };
            if !permitted {
                let state = self.model.get(id).map(|progress| &progress.state);
                return self.fail(format!("job {id} was published by batch {batch} while it is {state:?}"));
            }
            for dependency in &self.specs[id].dependencies {
                let before = dependency.job_id;
                let ended = self.model.get(&before).map(|progress| progress.state.kind());
                // One that waits for its replicas has not succeeded by its publish alone.
                let is_published = self.published.contains_key(&before) && self.specs[&before].visible_at.is_empty();
                let succeeded = ended == Some(StateKind::Succeeded) || is_published;
                let kept = match dependency.condition {
                    Condition::Success => succeeded,
                    // A retry since then makes no difference to what was true when it began.
                    Condition::Failure => !succeeded || self.displaced.contains(&before),
                    Condition::Always => ended.is_some_and(StateKind::is_final) || self.displaced.contains(&before),
                };
                if !kept {
                    return self.fail(format!(
                        "job {id} was published although job {before}, that it depends on, is {ended:?}"
                    ));
                }
            }
            if self.specs[id].publish().dry_run {
                return self.fail(format!("job {id} is a dry run, and revision {} holds it", revision.number));
            }
            if self.specs[id].alone && revision.jobs.len() > 1 {
                return self.fail(format!("job {id}, which goes alone, shares revision {}", revision.number));
            }
            self.published.insert(*id, (repository.clone(), revision.clone()));
        }
    }

    /// Looks at all that was committed since the last time, as far as the store tells that something was.
    pub(super) fn observe(&mut self, now: Duration, store: &Store) {
        self.looked = now;
        if *store.committed().borrow() != self.last_event {
            self.look(now, store);
        }
    }

    /// Looks at all that was committed since the last time, whoever did it.
    pub(super) fn look(&mut self, now: Duration, store: &Store) {
        let after = self.last_event;
        let read = store.read::<_, StoreError, _>(move |db| {
            let events = db.events(None, None, after, 10_000)?;
            if events.is_empty() {
                return Ok(None);
            }
            let touched: BTreeSet<JobId> = events.iter().map(|event| event.job_id).collect();
            let rows = touched.into_iter().map(|id| Ok((id, db.job(id)?))).collect::<Result<Vec<_>, StoreError>>()?;
            Ok(Some((events, rows, db.live_batches()?)))
        });
        let Some((events, rows, live)) = block_on(read).expect("the store can be read") else { return };
        for event in &events {
            self.event(now, event);
        }
        for (id, row) in rows {
            if row.map(|job| job.progress).as_ref() != self.model.get(&id) {
                self.fail(format!("the row of job {id} is not the sum of its events"));
            }
        }
        self.leases(&live);
        self.ledger.follow(now, &live);
    }

    /// No two live batches reserve the same.
    fn leases(&mut self, live: &[Batch]) {
        for (i, batch) in live.iter().enumerate() {
            for other in live.iter().skip(i + 1).filter(|other| other.repository == batch.repository) {
                let (ours, theirs) = (batch.lease_path.as_str(), other.lease_path.as_str());
                if !is_gateway(&batch.repository) || exclude(ours, theirs) {
                    let why = format!("{} and {} are live on {} at {ours}", batch.id, other.id, batch.repository);
                    return self.fail(format!("{why} and {theirs}"));
                }
            }
        }
    }

    fn event(&mut self, now: Duration, event: &LoggedEvent) {
        let id = event.job_id;
        if event.number <= self.last_event {
            return self.fail(format!("event {} after {}", event.number, self.last_event));
        }
        self.last_event = event.number;
        if !self.specs.contains_key(&id) {
            return self.fail(format!("job {id} was never submitted"));
        }
        let before = self.model.get(&id);
        let was_succeeded = before.is_some_and(|before| before.state.kind() == StateKind::Succeeded);
        let then = match next(before, &event.event) {
            Ok(then) => then,
            Err(error) => return self.fail(format!("job {id}: {error}")),
        };
        match &event.event {
            JobEvent::Submitted { .. } => drop(self.order.insert(id, self.order.len())),
            JobEvent::CancelRequested => drop(self.unwanted.insert(id)),
            JobEvent::Retried { .. } => {
                self.unwanted.remove(&id);
                self.displaced.insert(id);
            }
            JobEvent::PublishPermitted { .. }
                if self.specs[&id].deadline.is_some_and(|deadline| deadline <= event.at) =>
            {
                self.fail(format!("job {id} was permitted to publish after its deadline"));
            }
            JobEvent::DeadlinePassed if self.specs[&id].deadline.is_none_or(|deadline| event.at < deadline) => {
                self.fail(format!("job {id} has failed by a deadline that has not passed"));
            }
            JobEvent::PublishPermitted { .. } if self.unwanted.contains(&id) => {
                self.fail(format!("job {id} was cancelled and then permitted to publish"));
            }
            JobEvent::Claimed { .. } if self.is_held(&self.specs[&id].publish().repository, now) => {
                self.fail(format!("job {id} was claimed while somebody had its repository for itself"));
            }
            JobEvent::DependenciesMet => self.dependencies_met(id),
            JobEvent::Offered { batch } => self.offered(id, *batch),
            JobEvent::WorkerLost { .. } => {
                self.displaced.insert(id);
                if let Some(JobState::Running { batch, .. }) = before.map(|progress| progress.state.clone()) {
                    let rule = self.ledger.lost(now, batch);
                    self.check(rule);
                }
            }
            JobEvent::Visible | JobEvent::NotVisible { .. } => self.is_visible(id, &event.event),
            JobEvent::Claimed { .. }
            | JobEvent::Distributing { .. }
            | JobEvent::Succeeded { .. }
            | JobEvent::Unchanged { .. }
            | JobEvent::PublishPermitted { .. } => {}
            _ => drop(self.displaced.insert(id)),
        }
        let is_new = then.state.kind() == StateKind::Succeeded && !was_succeeded && event.event != JobEvent::Visible;
        if is_new && !self.specs[&id].visible_at.is_empty() {
            return self.fail(format!("job {id} succeeded before its replicas served it"));
        }
        let published_as = |revision: u64, root_hash: &str| {
            self.published.get(&id).is_some_and(|(_, found)| found.number == revision && found.root == root_hash)
        };
        let is_needless = self.specs[&id].publish().dry_run || self.specs[&id].name.contains("needless");
        match (&then.state, self.published.get(&id)) {
            (
                JobState::Succeeded { revision, root_hash, unchanged }
                | JobState::Distributing { revision, root_hash, unchanged, .. }
                | JobState::Failed { published: Some(Published { revision, root_hash, unchanged }), .. },
                found,
            ) if match unchanged {
                true => found.is_none() && is_needless,
                false => published_as(*revision, root_hash),
            } => {}
            (
                JobState::Succeeded { .. }
                | JobState::Distributing { .. }
                | JobState::Failed { published: Some(_), .. },
                found,
            ) => {
                self.fail(format!("job {id} is {:?}, but its repository says {found:?}", then.state));
            }
            (state, Some((_, found))) if state.is_final() || matches!(state, JobState::Queued) => {
                self.fail(format!("job {id} is {state:?}, but revision {} holds it", found.number));
            }
            _ => {}
        }
        if then.state == JobState::Queued {
            let place = self.ready.len();
            self.ready.entry(id).or_insert(place);
        }
        self.model.insert(id, then);
    }

    /// A job's wait for its replicas ends: as it must, by what they serve.
    fn is_visible(&mut self, id: JobId, event: &JobEvent) {
        let Some(JobState::Distributing { revision, .. }) = self.model.get(&id).map(|progress| &progress.state) else {
            return self.fail(format!("job {id} waits for no replica, and yet: {event:?}"));
        };
        let serves = |url: &Url| self.replicas.get(url).copied().flatten().is_some_and(|served| served >= *revision);
        let all = self.specs[&id].visible_at.iter().all(serves);
        if all != matches!(event, JobEvent::Visible) {
            let why = format!("job {id}, revision {revision}: {event:?}, and its replicas serve {:?}", self.replicas);
            self.fail(why);
        }
    }

    fn dependencies_met(&mut self, id: JobId) {
        for dependency in self.specs[&id].dependencies.clone() {
            let state = self.model.get(&dependency.job_id).map(|progress| progress.state.kind());
            let met = match dependency.condition {
                Condition::Success => state == Some(StateKind::Succeeded),
                Condition::Failure => state == Some(StateKind::Failed),
                Condition::Always => state.is_some_and(StateKind::is_final),
            };
            if !met {
                self.fail(format!("job {id} may run, and job {} that it waits for is {state:?}", dependency.job_id));
            }
        }
    }

    /// A job's turn comes: nothing of the same submitter and priority that excludes it may have waited for longer.
    fn offered(&mut self, id: JobId, batch: BatchId) {
        self.batches.entry(batch).or_default().insert(id);
        let (spec, at) = (&self.specs[&id], (self.order[&id], self.ready[&id]));
        let earlier = self.ready.iter().find(|(other, ready)| {
            if **ready >= at.1 || self.order[*other] >= at.0 {
                return false;
            }
            let there = &self.specs[*other];
            let (ours, theirs) = (spec.publish(), there.publish());
            matches!(self.model.get(*other).map(|progress| &progress.state), Some(JobState::Queued))
                && !self.displaced.contains(*other)
                && ours.repository == theirs.repository
                && (spec.priority, &spec.submitter) == (there.priority, &there.submitter)
                && exclude(ours.lease_path.as_str(), theirs.lease_path.as_str())
        });
        if let Some((other, _)) = earlier {
            self.fail(format!("job {id} goes before job {other}, which was submitted first"));
        }
    }

    /// What must hold once the faults are over and time ran on.
    pub(super) fn finish(&mut self, now: Duration, store: &Store) {
        self.look(now, store);
        for id in self.accepted.clone() {
            match self.model.get(&id).map(|progress| progress.state.clone()) {
                None => self.fail(format!("job {id} was accepted and is lost")),
                Some(state) if !state.is_final() => self.fail(format!("job {id} never ends: {state:?}")),
                Some(_) => {}
            }
        }
        for id in self.published.keys().copied().collect::<Vec<_>>() {
            if self.model.get(&id).is_none_or(|progress| progress.state.published().is_none()) {
                self.fail(format!("job {id} is published, and did not succeed"));
            }
        }
    }

    /// Tells whether every accepted job has ended.
    pub(super) fn all_ended(&self) -> bool {
        self.accepted.iter().all(|id| self.model.get(id).is_some_and(|progress| progress.state.is_final()))
    }

    /// The number of the last event.
    pub(super) fn events_seen(&self) -> u64 {
        self.last_event
    }

    /// The most jobs that any batch had.
    pub(super) fn largest_batch(&self) -> usize {
        self.batches.values().map(BTreeSet::len).max().unwrap_or_default()
    }
}
