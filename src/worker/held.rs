//! The batches that this worker holds, and how long it may believe that it does.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use super::control::BatchStatus;
use crate::domain::ids::{BatchId, JobId};
use crate::domain::names::{LeasePath, RepositoryName};
use crate::domain::progress::{Counters, ProgressReport, Step};
use crate::domain::protocol::HeldClaim;

/// Why a batch must be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Nobody says so.
    No,
    /// Give it back, unless its publish is permitted already.
    Release,
    /// The claim is gone: abort, report nothing.
    Lost,
}

#[derive(Default)]
pub(super) struct Held {
    /// From before the claim to after the outcome.
    taken: Mutex<HashSet<BatchId>>,
    batches: Mutex<HashMap<BatchId, Entry>>,
    confirmed: Mutex<Option<Confirmed>>,
    /// All must stop, also what is claimed from now on.
    stopping: AtomicBool,
}

/// A batch that is ours. When this is dropped, also by a panic, its claim is no longer kept alive, and it can be recovered.
pub(super) struct Taken<'a> {
    held: &'a Held,
    batch: BatchId,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.held.batches().remove(&self.batch);
        self.held.taken().remove(&self.batch);
    }
}

/// What a claim is for, to be shown.
pub(super) struct Purpose {
    pub(super) repository: RepositoryName,
    pub(super) lease_path: LeasePath,
    pub(super) jobs: Vec<JobId>,
}

struct Entry {
    token: String,
    purpose: Purpose,
    since: Timestamp,
    stop: watch::Sender<Stop>,
    /// What is being done, and where it is counted.
    step: Option<(Step, Arc<Counters>)>,
    is_publishing: bool,
}

impl Entry {
    fn progress(&self) -> Option<ProgressReport> {
        let (step, counted) = self.step.as_ref()?;
        Some(ProgressReport { step: *step, files: counted.files(), bytes: counted.bytes() })
    }

    fn status(&self, id: BatchId) -> BatchStatus {
        let Purpose { repository, lease_path, jobs } = &self.purpose;
        let (step, counted) = match &self.step {
            None => ("claimed", None),
            Some((Step::Fetching, counted)) => ("fetching", Some(counted)),
            // What comes after the publish is the server's business.
            Some((Step::Staging | Step::Distributing, counted)) => ("staging", Some(counted)),
        };
        BatchStatus {
            id,
            repository: repository.clone(),
            lease_path: lease_path.clone(),
            jobs: jobs.clone(),
            step: if self.is_publishing { "publishing" } else { step }.into(),
            since: self.since,
            files: counted.map_or(0, |counted| counted.files()),
            bytes: counted.map_or(0, |counted| counted.bytes()),
        }
    }
}

/// The server's last sign that our claims live.
#[derive(Clone, Copy)]
struct Confirmed {
    at: Instant,
    expires_in: Duration,
}

impl Held {
    /// Takes a batch before it is claimed; `None` where it is taken already. The same offer can arrive twice, and claiming
    /// again is no error for the server: without this, one batch would run twice in one worker.
    pub(super) fn take(&self, batch: BatchId) -> Option<Taken<'_>> {
        let is_new = self.taken().insert(batch);
        // Made only now: dropping one takes the lock.
        is_new.then(|| Taken { held: self, batch })
    }

    /// Notes a claim; the receiver hears when it must be stopped.
    pub(super) fn insert(&self, batch: BatchId, token: String, purpose: Purpose) -> watch::Receiver<Stop> {
        let first = if self.stopping.load(Ordering::SeqCst) { Stop::Release } else { Stop::No };
        let (stop, receiver) = watch::channel(first);
        let since = Timestamp::now();
        self.batches().insert(batch, Entry { token, purpose, since, stop, step: None, is_publishing: false });
        receiver
    }

    /// Notes what is begun now, and where it is counted while it is done.
    pub(super) fn begin(&self, batch: BatchId, step: Step, counted: Arc<Counters>) {
        if let Some(entry) = self.batches().get_mut(&batch) {
            entry.step = Some((step, counted));
        }
    }

    /// Notes that a batch is being published.
    pub(super) fn publishing(&self, batch: BatchId) {
        if let Some(entry) = self.batches().get_mut(&batch) {
            entry.is_publishing = true;
        }
    }

    /// What is held, for the operator, in the order in which it was claimed.
    pub(super) fn statuses(&self) -> Vec<BatchStatus> {
        let mut all: Vec<_> = self.batches().iter().map(|(id, entry)| entry.status(*id)).collect();
        all.sort_by_key(|batch| (batch.since, batch.id));
        all
    }

    pub(super) fn is_taken(&self, batch: BatchId) -> bool {
        self.taken().contains(&batch)
    }

    /// How many are taken.
    pub(super) fn taken_count(&self) -> usize {
        self.taken().len()
    }

    /// What is held, with how far each has come.
    pub(super) fn claims(&self) -> Vec<HeldClaim> {
        let claim = |(batch_id, entry): (&BatchId, &Entry)| HeldClaim {
            batch_id: *batch_id,
            token: entry.token.clone(),
            progress: entry.progress(),
        };
        self.batches().iter().map(claim).collect()
    }

    /// Tells a batch to stop. A lost claim stays lost.
    pub(super) fn stop(&self, batch: BatchId, why: Stop) {
        if let Some(entry) = self.batches().get(&batch) {
            entry.stop.send_if_modified(|stop| *stop != Stop::Lost && std::mem::replace(stop, why) != why);
        }
    }

    pub(super) fn stop_all(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let all: Vec<_> = self.batches().keys().copied().collect();
        all.into_iter().for_each(|batch| self.stop(batch, Stop::Release));
    }

    /// Notes that the server confirmed our claims in the answer to a request sent at `asked`.
    pub(super) fn confirm(&self, asked: Instant, expires_in: Duration) {
        let mut confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        if confirmed.is_none_or(|before| before.at < asked) {
            *confirmed = Some(Confirmed { at: asked, expires_in });
        }
    }

    /// Tells whether a publish may begin: not when the server has been silent for two thirds of the claims' time.
    pub(super) fn may_publish(&self) -> bool {
        let confirmed = *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        confirmed.is_some_and(|confirmed| confirmed.at.elapsed() < confirmed.expires_in * 2 / 3)
    }

    /// How long ago the last heartbeat was sent that the server answered.
    pub(super) fn heard_ago(&self) -> Option<Duration> {
        let confirmed = *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        confirmed.map(|confirmed| confirmed.at.elapsed())
    }

    /// Tells whether the server answers: no less lately than a publish may begin.
    pub(super) fn hears(&self) -> bool {
        self.may_publish()
    }

    fn taken(&self) -> MutexGuard<'_, HashSet<BatchId>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn batches(&self) -> MutexGuard<'_, HashMap<BatchId, Entry>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn batch(n: u128) -> BatchId {
        BatchId(uuid::Uuid::from_u128(n))
    }

    fn purpose() -> Purpose {
        let repository = RepositoryName::try_from("a.b".to_owned()).unwrap();
        Purpose { repository, lease_path: LeasePath::root(), jobs: Vec::new() }
    }

    #[test]
    fn an_offer_that_arrives_twice_is_taken_once() {
        let held = Held::default();
        let taken = held.take(batch(1));
        assert!(taken.is_some());
        assert!(held.take(batch(1)).is_none());
        assert!(held.take(batch(2)).is_some());
        held.insert(batch(1), "token".into(), purpose());
        drop(taken);
        assert!(held.claims().is_empty(), "its claim is no longer kept alive");
        assert!(held.take(batch(1)).is_some());
    }

    #[test]
    fn a_claim_tells_how_far_its_step_has_come() {
        let held = Held::default();
        held.insert(batch(1), "token".into(), purpose());
        assert_eq!(held.claims()[0].progress, None);
        let fetched = Arc::new(Counters::default());
        held.begin(batch(1), Step::Fetching, Arc::clone(&fetched));
        fetched.add_bytes(7);
        let report = |step, files, bytes| Some(ProgressReport { step, files, bytes });
        assert_eq!(held.claims()[0].progress, report(Step::Fetching, 0, 7));
        let staged = Arc::new(Counters::default());
        held.begin(batch(1), Step::Staging, Arc::clone(&staged));
        fetched.add_bytes(7);
        staged.add_file();
        assert_eq!(held.claims()[0].progress, report(Step::Staging, 1, 0));
        let status = held.statuses().remove(0);
        assert_eq!((&*status.step, status.files, status.bytes), ("staging", 1, 0));
        held.publishing(batch(1));
        assert_eq!(held.statuses()[0].step, "publishing");
    }

    #[test]
    fn a_lost_claim_stays_lost() {
        let held = Held::default();
        let stop = held.insert(batch(1), "token".into(), purpose());
        held.stop(batch(1), Stop::Release);
        assert_eq!(*stop.borrow(), Stop::Release);
        held.stop(batch(1), Stop::Lost);
        held.stop_all();
        assert_eq!(*stop.borrow(), Stop::Lost);
        // A claim that was on its way when all were stopped.
        assert_eq!(*held.insert(batch(2), "token".into(), purpose()).borrow(), Stop::Release);
    }

    #[test]
    fn nothing_is_published_while_the_server_is_silent() {
        let held = Held::default();
        assert!(!held.may_publish());
        held.confirm(Instant::now(), Duration::from_secs(30));
        assert!(held.may_publish());
        let long_ago = Held::default();
        long_ago.confirm(Instant::now() - Duration::from_secs(21), Duration::from_secs(30));
        assert!(!long_ago.may_publish());
    }
}
