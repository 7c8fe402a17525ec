//! What whoever runs a worker sees of it and can change about it, while it runs.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};

use super::Worker;
use super::control::Status;
use crate::domain::names::RepositoryName;

/// How often a task that waits shows that it goes on.
const SHOW: Duration = Duration::from_secs(1);

/// What of a worker's settings can change while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjustable {
    /// Batches at a time.
    pub slots: u32,
    /// The repositories that it serves; those that its publisher finds where not said.
    pub repositories: Option<Vec<RepositoryName>>,
    /// How long what it has may go on when it is told to drain.
    pub drain_timeout: Duration,
    /// From how many days before its end a repository's whitelist is warned of.
    pub whitelist_warning_days: u32,
}

/// One worker, from before its start to after its end.
#[derive(Clone)]
pub struct Handle {
    worker: Arc<OnceLock<Weak<Worker>>>,
    ready: watch::Sender<bool>,
    pulse: Arc<Pulse>,
}

impl Default for Handle {
    fn default() -> Self {
        Self { worker: Arc::default(), ready: watch::Sender::new(false), pulse: Arc::default() }
    }
}

impl Handle {
    /// Waits until it is the only worker of its state, its publisher and its isolation were tried, and its control socket
    /// answers. Whether the server can be reached is no part of it.
    pub async fn until_ready(&self) {
        // The sender is at hand, so that this cannot fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// How it stands; nothing before it is ready and after its end.
    pub fn status(&self) -> Option<Status> {
        self.worker().map(|worker| worker.status())
    }

    /// Waits until the task that sends heartbeats has gone on, answered or not.
    pub async fn beaten(&self) {
        let before = self.pulse.beats.load(Ordering::Relaxed);
        while self.pulse.beats.load(Ordering::Relaxed) == before {
            self.pulse.beaten.notified().await;
        }
    }

    /// Changes settings. What runs goes on: fewer slots count from the ends of batches on.
    pub async fn adjust(&self, to: Adjustable) {
        let Some(worker) = self.worker() else { return };
        worker.slots.set(to.slots);
        *worker.adjustable.write().unwrap_or_else(PoisonError::into_inner) = to;
        worker.look().await;
        worker.beat.notify_one();
    }

    pub(super) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    pub(super) fn set_ready(&self, worker: &Arc<Worker>) {
        // A handle is of one worker.
        let _ = self.worker.set(Arc::downgrade(worker));
        self.ready.send_replace(true);
    }

    fn worker(&self) -> Option<Arc<Worker>> {
        self.worker.get()?.upgrade()
    }
}

impl Worker {
    /// The settings that can change, as they are now.
    pub(super) fn adjustable(&self) -> Adjustable {
        self.adjustable.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Shows that the heartbeats' task goes on, and how its last request ended.
#[derive(Default)]
pub(super) struct Pulse {
    beats: AtomicU64,
    beaten: Notify,
    error: Mutex<Option<String>>,
}

impl Pulse {
    /// Waits for something, and shows meanwhile that this task is not stuck.
    pub(super) async fn while_waiting<T>(&self, waiting: impl Future<Output = T>) -> T {
        let mut waiting = std::pin::pin!(waiting);
        loop {
            self.beats.fetch_add(1, Ordering::Relaxed);
            self.beaten.notify_waiters();
            if let Ok(done) = tokio::time::timeout(SHOW, &mut waiting).await {
                return done;
            }
        }
    }

    /// Notes how the last request ended.
    pub(super) fn set_error(&self, error: Option<String>) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    pub(super) fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The slots of a worker, as permits. Their number can change; those that are in use and too many go when they come back.
pub(super) struct Slots {
    permits: Arc<Semaphore>,
    number: AtomicU32,
    /// Permits that are to go.
    surplus: Mutex<usize>,
}

impl Slots {
    pub(super) fn new(number: u32) -> Self {
        Self { permits: Arc::new(Semaphore::new(number as usize)), number: number.into(), surplus: Mutex::default() }
    }

    /// How many there are to be.
    pub(super) fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    fn set(&self, number: u32) {
        let before = self.number.swap(number, Ordering::Relaxed);
        let mut surplus = self.surplus.lock().unwrap_or_else(PoisonError::into_inner);
        if number >= before {
            let more = (number - before) as usize;
            let kept = more.min(*surplus);
            *surplus -= kept;
            self.permits.add_permits(more - kept);
        } else {
            *surplus += (before - number) as usize;
        }
        drop(surplus);
        self.trim();
    }

    /// Takes away what is too much and free.
    fn trim(&self) {
        let mut surplus = self.surplus.lock().unwrap_or_else(PoisonError::into_inner);
        *surplus -= self.permits.forget_permits(*surplus);
    }

    /// The permits, of which none that is free is too much.
    pub(super) fn permits(&self) -> Arc<Semaphore> {
        self.trim();
        Arc::clone(&self.permits)
    }

    /// Waits for one slot that may be used, and takes all others that are free.
    pub(super) async fn take_all(&self) -> Vec<tokio::sync::OwnedSemaphorePermit> {
        loop {
            // The semaphore is never closed.
            let Ok(first) = self.permits().acquire_owned().await else { return std::future::pending().await };
            let mut taken = vec![first];
            taken.extend(std::iter::from_fn(|| Arc::clone(&self.permits).try_acquire_owned().ok()));
            {
                let mut surplus = self.surplus.lock().unwrap_or_else(PoisonError::into_inner);
                while *surplus > 0
                    && let Some(permit) = taken.pop()
                {
                    permit.forget();
                    *surplus -= 1;
                }
            }
            if !taken.is_empty() {
                return taken;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn slots_become_more_at_once_and_fewer_as_they_come_back() {
        let slots = Slots::new(2);
        let mut taken = slots.take_all().await;
        assert_eq!(taken.len(), 2);
        slots.set(4);
        taken.extend(slots.take_all().await);
        assert_eq!((taken.len(), slots.number()), (4, 4));
        slots.set(1);
        assert!(slots.take_all().now_or_never().is_none());
        // Three come back, and are too many.
        taken.truncate(1);
        assert!(slots.take_all().now_or_never().is_none());
        assert_eq!(slots.permits().available_permits(), 0);
        drop(taken);
        assert_eq!(slots.take_all().await.len(), 1);
        // What was to go and is wanted again stays.
        let taken = slots.take_all().await;
        slots.set(0);
        slots.set(2);
        drop(taken);
        assert_eq!(slots.take_all().await.len(), 2);
    }

    #[tokio::test]
    async fn a_task_that_waits_for_a_silent_server_goes_on_and_one_that_is_stuck_does_not() {
        let handle = Handle::default();
        assert!(handle.beaten().now_or_never().is_none(), "nothing beats yet");
        let pulse = handle.pulse();
        let beating = tokio::spawn(async move { pulse.while_waiting(std::future::pending::<()>()).await });
        for _ in 0..2 {
            handle.beaten().await;
        }
        beating.abort();
        assert!(tokio::time::timeout(SHOW * 2, handle.beaten()).await.is_err());
    }
}
