//! Offers taken over HTTP, without RabbitMQ: one machine needs nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::domain::batch::Batch;
use crate::domain::ids::BatchId;

/// Remembers which offers are on their way to a worker, so that two workers are not handed the same one.
///
/// All of it may be lost: a batch offered twice is claimed once.
pub struct Embedded {
    memory: Mutex<Memory>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Memory {
    handed: HashMap<BatchId, Handed>,
    /// Readings of the database that go on, by the moment at which they began: how many.
    readings: BTreeMap<u64, usize>,
    /// Counts what happens here; serves as the time.
    moment: u64,
}

/// An offer that was handed out.
struct Handed {
    generation: u32,
    /// When the database said so too; until then this memory alone knows.
    recorded: Option<u64>,
}

/// A reading of the database that began before anything it will show.
pub struct Reading<'a> {
    broker: &'a Embedded,
    began: u64,
}

impl Default for Embedded {
    fn default() -> Self {
        Self { memory: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Embedded {
    /// To be called before the unsent batches are read.
    pub fn begin_reading(&self) -> Reading<'_> {
        let mut memory = self.memory();
        memory.moment += 1;
        let began = memory.moment;
        *memory.readings.entry(began).or_default() += 1;
        Reading { broker: self, began }
    }

    /// Notes that the database has it now: recorded as sent, claimed, or offered anew.
    pub fn recorded(&self, batch: BatchId) {
        let mut memory = self.memory();
        memory.moment += 1;
        let now = memory.moment;
        if let Some(handed) = memory.handed.get_mut(&batch) {
            handed.recorded.get_or_insert(now);
        }
        memory.forget();
    }

    /// Takes offers back that did not go out: they are on their way to nobody.
    pub fn give_back(&self, offers: &[(BatchId, u32)]) {
        let mut memory = self.memory();
        for (batch, generation) in offers {
            let is_it = |handed: &Handed| handed.generation == *generation && handed.recorded.is_none();
            if memory.handed.get(batch).is_some_and(is_it) {
                memory.handed.remove(batch);
            }
        }
    }

    /// Wakes those who wait for an offer.
    pub fn announce(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Tells whenever there may be something to take.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading<'_> {
    /// Picks those of the unsent batches that are on their way to nobody, at most `max`.
    ///
    /// What was recorded after this reading began is not in it: such a batch looks unsent here and is not.
    pub fn take(self, unsent: Vec<Batch>, max: usize) -> Vec<Batch> {
        let mut memory = self.broker.memory();
        let is_free = |batch: &Batch| {
            memory.handed.get(&batch.id).is_none_or(|handed| {
                handed.generation < batch.generation || handed.recorded.is_some_and(|recorded| recorded < self.began)
            })
        };
        let taken: Vec<_> = unsent.into_iter().filter(is_free).take(max).collect();
        for batch in &taken {
            memory.handed.insert(batch.id, Handed { generation: batch.generation, recorded: None });
        }
        drop(memory);
        taken
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut memory = self.broker.memory();
        if let Some(count) = memory.readings.get_mut(&self.began) {
            *count -= 1;
            if *count == 0 {
                memory.readings.remove(&self.began);
            }
        }
        memory.forget();
    }
}

impl Memory {
    /// Forgets what every reading that goes on has seen in the database itself.
    fn forget(&mut self) {
        let oldest = self.readings.keys().next().copied().unwrap_or(u64::MAX);
        self.handed.retain(|_, handed| handed.recorded.is_none_or(|recorded| recorded >= oldest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::batch::BatchState;
    use crate::domain::names::{LeasePath, RepositoryName};

    #[allow(clippy::unwrap_used)]
    fn batch(generation: u32) -> Batch {
        Batch {
            id: BatchId(uuid::Uuid::from_u128(1)),
            fleet: "default".into(),
            repository: RepositoryName::new("a.example.org").unwrap(),
            lease_path: LeasePath::root(),
            jobs: Vec::new(),
            generation,
            state: BatchState::Unsent,
        }
    }

    fn take(broker: &Embedded, generation: u32) -> usize {
        broker.begin_reading().take(vec![batch(generation)], 9).len()
    }

    #[test]
    fn an_offer_is_handed_out_once() {
        let broker = Embedded::default();
        assert_eq!(take(&broker, 1), 1);
        assert_eq!(take(&broker, 1), 0);
    }

    #[test]
    fn a_reading_older_than_the_record_does_not_hand_it_out_again() {
        let broker = Embedded::default();
        assert_eq!(take(&broker, 1), 1);
        let late = broker.begin_reading();
        broker.recorded(batch(1).id);
        assert_eq!(late.take(vec![batch(1)], 9).len(), 0);
        assert!(broker.memory().handed.is_empty(), "what nobody can mistake any more is forgotten");
    }

    #[test]
    fn an_offer_that_did_not_go_out_is_handed_out_again_and_a_later_one_is_left_alone() {
        let broker = Embedded::default();
        assert_eq!(take(&broker, 1), 1);
        broker.give_back(&[(batch(1).id, 1)]);
        assert_eq!(take(&broker, 1), 1);
        assert_eq!(take(&broker, 2), 1);
        broker.give_back(&[(batch(1).id, 1)]);
        assert_eq!(take(&broker, 2), 0);
    }

    #[test]
    fn a_new_generation_is_handed_out_anew() {
        let broker = Embedded::default();
        assert_eq!(take(&broker, 1), 1);
        broker.recorded(batch(1).id);
        assert_eq!(take(&broker, 2), 1);
        assert_eq!(take(&broker, 2), 0);
    }
}
