//! Hands out offers over HTTP: the embedded broker's sending side.

use std::time::Duration;

use crate::app::workers::Worker;
use crate::app::{AppError, Engine};
use crate::domain::batch::Batch;
use crate::domain::ids::{BatchId, InstanceId};
use crate::domain::names::RepositoryName;
use crate::domain::protocol::{Offer, OfferedJob};
use crate::domain::worker::WorkerAbout;

/// Longest wait for an offer.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

impl Engine {
    /// What a worker of this fleet may claim now, at most `max` batches. Empty when there is nothing.
    pub async fn take_offers(
        &self,
        fleet: &str,
        node: &str,
        instance: InstanceId,
        max: usize,
    ) -> Result<Vec<Offer>, AppError> {
        let asking = Worker {
            instance,
            fleet: fleet.to_owned(),
            free_slots: max,
            by_broker: false,
            about: WorkerAbout::default(),
            is_empty: true,
            at: self.clock.monotonic(),
            heard_at: self.clock.now(),
            is_silent: false,
        };
        let workers = &self.dispatcher.workers;
        workers.asked(node, asking)?;
        if workers.is_draining(node, instance) {
            return Ok(Vec::new());
        }
        let offers = self.unsent_offers(fleet, max, |repository| workers.may_take(node, instance, repository)).await?;
        workers.handed(instance, offers.iter().map(|offer| offer.batch_id));
        Ok(offers)
    }

    /// The offers of a fleet that are on their way to nobody; from now on they are. Those of repositories that are not
    /// `served` by whoever they would go to stay.
    pub(super) async fn unsent_offers(
        &self,
        fleet: &str,
        max: usize,
        served: impl Fn(&RepositoryName) -> bool,
    ) -> Result<Vec<Offer>, AppError> {
        let name = fleet.to_owned();
        let reading = self.broker.begin_reading();
        let mut unsent = self.store.read(move |db| Ok::<_, AppError>(db.unsent_batches(&name)?)).await?;
        unsent.retain(|batch| served(&batch.repository));
        let taken = reading.take(unsent, max);
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let due = self.time() + self.settings.offer_ttl;
        self.live().offers.extend(taken.iter().map(|batch| (batch.id, due)));
        Ok(taken.iter().map(offer).collect())
    }

    /// Notes that offers went out. Nothing waits for this: it only stops them from being sent again at once.
    pub async fn offers_sent(&self, offers: Vec<(BatchId, u32)>) -> Result<(), AppError> {
        let noted = offers.clone();
        // Whatever is recorded as sent must have its deadline: this note may come after the first one is over.
        let due = self.time() + self.settings.offer_ttl;
        {
            let mut live = self.live();
            for (id, _) in &offers {
                live.offers.entry(*id).or_insert(due);
            }
        }
        self.write(move |tx, now, _| {
            for (id, generation) in offers {
                // It may be claimed, cancelled or offered anew by now.
                if let Some(mut batch) = tx.batch(id)?.filter(|batch| batch.generation == generation)
                    && batch.sent(now).is_ok()
                {
                    tx.update_batch(&batch)?;
                }
            }
            Ok(())
        })
        .await?;
        noted.into_iter().for_each(|(id, _)| self.broker.recorded(id));
        Ok(())
    }

    /// Waits until there may be something new to take.
    pub fn offers_changed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.broker.changed()
    }
}

fn offer(batch: &Batch) -> Offer {
    Offer {
        batch_id: batch.id,
        generation: batch.generation,
        fleet: batch.fleet.clone(),
        repository: batch.repository.clone(),
        lease_path: batch.lease_path.clone(),
        jobs: batch.jobs.iter().map(|job| OfferedJob { job_id: job.job_id, attempt: job.attempt }).collect(),
    }
}
