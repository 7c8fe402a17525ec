//! What must hold at every step, judged from the event log, the rows and the repositories, never from replies alone.

use std::collections::{BTreeMap, BTreeSet};

use conveyor::domain::ids::{BatchId, JobId};
use conveyor::domain::job::LoggedEvent;
use conveyor::domain::job::event::JobEvent;
use conveyor::domain::job::spec::{Condition, JobSpec};
use conveyor::domain::job::state::{JobState, Phase, Progress, next};
use conveyor::domain::names::RepositoryName;
use conveyor::store::{Store, StoreError};

use super::executor::block_on;
use super::repository::Revision;

/// A broken invariant, in words.
pub(super) type Violation = String;

#[derive(Default)]
pub(super) struct Checker {
    /// Every job's progress, added up from its events alone.
    pub(super) model: BTreeMap<JobId, Progress>,
    /// Jobs whose acceptance a client was told of.
    pub(super) accepted: BTreeSet<JobId>,
    specs: BTreeMap<JobId, JobSpec>,
    published: BTreeMap<JobId, (RepositoryName, Revision)>,
    /// Jobs that somebody cancelled, with success, and nobody tried again since.
    unwanted: BTreeSet<JobId>,
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

    /// A revision appeared.
    pub(super) fn published(&mut self, repository: &RepositoryName, batch: BatchId, revision: &Revision) {
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
            let wanted = &self.specs[id].dependencies;
            let before = wanted.iter().filter(|dependency| dependency.condition == Condition::Success);
            if let Some(missing) = before.map(|d| d.job_id).find(|d| !self.published.contains_key(d)) {
                return self.fail(format!("job {id} was published before job {missing} that it depends on"));
            }
            self.published.insert(*id, (repository.clone(), revision.clone()));
        }
    }

    /// Looks at all that was committed since the last time.
    pub(super) fn observe(&mut self, store: &Store) {
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
            self.event(event);
        }
        for (id, row) in rows {
            if row.map(|job| job.progress).as_ref() != self.model.get(&id) {
                self.fail(format!("the row of job {id} is not the sum of its events"));
            }
        }
        let mut repositories = BTreeSet::new();
        for batch in live {
            if !repositories.insert(batch.repository.clone()) {
                self.fail(format!("two live batches on {}", batch.repository));
            }
        }
    }

    fn event(&mut self, event: &LoggedEvent) {
        let id = event.job_id;
        if event.number <= self.last_event {
            return self.fail(format!("event {} after {}", event.number, self.last_event));
        }
        self.last_event = event.number;
        let then = match next(self.model.get(&id), &event.event) {
            Ok(then) => then,
            Err(error) => return self.fail(format!("job {id}: {error}")),
        };
        match &event.event {
            JobEvent::CancelRequested => drop(self.unwanted.insert(id)),
            JobEvent::Retried { .. } => drop(self.unwanted.remove(&id)),
            JobEvent::PublishPermitted { .. } if self.unwanted.contains(&id) => {
                self.fail(format!("job {id} was cancelled and then permitted to publish"));
            }
            _ => {}
        }
        match (&then.state, self.published.get(&id)) {
            (JobState::Succeeded { revision, root_hash }, Some((_, found)))
                if found.number == *revision && found.root == *root_hash => {}
            (JobState::Succeeded { .. }, found) => {
                self.fail(format!("job {id} is {:?}, but its repository says {found:?}", then.state));
            }
            (state, Some((_, found))) if state.is_final() || matches!(state, JobState::Queued) => {
                self.fail(format!("job {id} is {state:?}, but revision {} holds it", found.number));
            }
            _ => {}
        }
        self.model.insert(id, then);
    }

    /// What must hold once the faults are over and time ran on.
    pub(super) fn finish(&mut self, store: &Store) {
        self.observe(store);
        for id in self.accepted.clone() {
            match self.model.get(&id).map(|progress| progress.state.clone()) {
                None => self.fail(format!("job {id} was accepted and is lost")),
                Some(state) if !state.is_final() => self.fail(format!("job {id} never ends: {state:?}")),
                Some(_) => {}
            }
        }
        for id in self.published.keys().copied().collect::<Vec<_>>() {
            if !matches!(self.model.get(&id).map(|progress| &progress.state), Some(JobState::Succeeded { .. })) {
                self.fail(format!("job {id} is published, and did not succeed"));
            }
        }
    }

    /// Tells whether every accepted job has ended.
    pub(super) fn all_ended(&self) -> bool {
        self.accepted.iter().all(|id| self.model.get(id).is_some_and(|progress| progress.state.is_final()))
    }
}
