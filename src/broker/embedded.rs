//! Offers taken over HTTP, without RabbitMQ: one machine needs nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::domain::batch::Batch;
use crate::domain::ids::BatchId;

/// Remembers which offers are on their way to a worker, so that two workers are not handed the same one.
///
/// All of it may be lost: a batch offered twice is claimed once.
pub struct Embedded {
    on_their_way: Mutex<HashMap<BatchId, u32>>,
    changed: watch::Sender<u64>,
}

impl Default for Embedded {
    fn default() -> Self {
        Self { on_their_way: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Embedded {
    /// Picks those of the unsent batches that are on their way to nobody, at most `max`.
    pub fn take(&self, unsent: Vec<Batch>, max: usize) -> Vec<Batch> {
        let mut on_their_way = self.on_their_way.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = |batch: &Batch| on_their_way.get(&batch.id) != Some(&batch.generation);
        let taken: Vec<_> = unsent.into_iter().filter(is_free).take(max).collect();
        on_their_way.extend(taken.iter().map(|batch| (batch.id, batch.generation)));
        taken
    }

    /// Notes that these are recorded as sent.
    pub fn sent(&self, offers: &[(BatchId, u32)]) {
        let mut on_their_way = self.on_their_way.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, generation) in offers {
            if on_their_way.get(id) == Some(generation) {
                on_their_way.remove(id);
            }
        }
    }

    /// Notes that a batch is claimed, or offered anew.
    pub fn gone(&self, batch: BatchId) {
        self.on_their_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&batch);
    }

    /// Wakes those who wait for an offer.
    pub fn announce(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Tells whenever there may be something to take.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
