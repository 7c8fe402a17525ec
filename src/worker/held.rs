//! The batches that this worker holds, and how long it may believe that it does.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::domain::ids::BatchId;
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
    batches: Mutex<HashMap<BatchId, Entry>>,
    confirmed: Mutex<Option<Confirmed>>,
}

struct Entry {
    token: String,
    stop: watch::Sender<Stop>,
}

/// The server's last sign that our claims live.
#[derive(Clone, Copy)]
struct Confirmed {
    at: Instant,
    expires_in: Duration,
}

impl Held {
    /// Notes a claim; the receiver hears when it must be stopped.
    pub(super) fn insert(&self, batch: BatchId, token: String) -> watch::Receiver<Stop> {
        let (stop, receiver) = watch::channel(Stop::No);
        self.batches().insert(batch, Entry { token, stop });
        receiver
    }

    pub(super) fn remove(&self, batch: BatchId) {
        self.batches().remove(&batch);
    }

    pub(super) fn contains(&self, batch: BatchId) -> bool {
        self.batches().contains_key(&batch)
    }

    pub(super) fn claims(&self) -> Vec<HeldClaim> {
        self.batches().iter().map(|(batch_id, entry)| HeldClaim { batch_id: *batch_id, token: entry.token.clone() }).collect()
    }

    /// Tells a batch to stop. A lost claim stays lost.
    pub(super) fn stop(&self, batch: BatchId, why: Stop) {
        if let Some(entry) = self.batches().get(&batch) {
            entry.stop.send_if_modified(|stop| *stop != Stop::Lost && std::mem::replace(stop, why) != why);
        }
    }

    pub(super) fn stop_all(&self) {
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

    fn batches(&self) -> MutexGuard<'_, HashMap<BatchId, Entry>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
