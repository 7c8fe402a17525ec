//! What happens by the passing of time.

use std::time::Duration;

use jiff::Timestamp;

use crate::app::advance::{advance, end_unclaimed};
use crate::app::dispatch::Dispatcher;
use crate::app::outcome::lose;
use crate::app::{AppError, Engine, job_or_not_found, readable_batch, readable_job};
use crate::domain::batch::{Batch, BatchState};
use crate::domain::ids::BatchId;
use crate::domain::job::event::JobEvent;
use crate::domain::job::state::{JobState, StateKind, next};
use crate::domain::policy::LONGEST_BACKOFF_S;
use crate::planted::{self, Bug};
use crate::store::Tx;

/// Back-offs ended in one go.
const DUE_AT_ONCE: usize = 1000;

impl Engine {
    /// Ends what is over: back-offs, offers that nobody claimed, claims whose worker is silent. To be called about twice a second.
    pub async fn tick(&self) -> Result<(), AppError> {
        let now = self.clock.monotonic();
        let (lost, unclaimed) = self.expired(now, self.time());
        self.look_at_workers(now);
        self.withdraw_unsettled().await?;
        self.look_at_holds(now).await?;
        self.lose(lost).await?;
        self.offer_again(unclaimed).await?;
        self.end_past_deadline().await?;
        let at = self.clock.now();
        let due = self.store.read(move |db| Ok::<_, AppError>(db.due(at, LONGEST_BACKOFF_S, DUE_AT_ONCE)?)).await?;
        if !due.is_empty() {
            self.write(move |tx, now, dispatcher| {
                for id in due {
                    // It may have been cancelled meanwhile.
                    if let Some(job) =
                        readable_job(tx, id)?.filter(|job| job.progress.state.kind() == StateKind::Backoff)
                    {
                        advance(tx, now, dispatcher, job, &JobEvent::BackoffEnded)?;
                    }
                }
                Ok(())
            })
            .await?;
        }
        self.save_token_use_now_and_then(now).await
    }

    /// Fails what no worker has and whose deadline is over; what one has is refused the permission to publish.
    async fn end_past_deadline(&self) -> Result<(), AppError> {
        let at = self.clock.now();
        let past = self.store.read(move |db| Ok::<_, AppError>(db.past_deadline(at, DUE_AT_ONCE)?)).await?;
        if past.is_empty() {
            return Ok(());
        }
        self.write(move |tx, now, dispatcher| {
            for id in past {
                // It may have been claimed meanwhile.
                if let Some(job) = readable_job(tx, id)?
                    && next(Some(&job.progress), &JobEvent::DeadlinePassed).is_ok()
                {
                    end_unclaimed(tx, now, dispatcher, job, &JobEvent::DeadlinePassed)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Which claims and offers are over. After a stall of this process nobody's silence proves anything: all begin anew.
    fn expired(&self, ticked: Duration, now: Duration) -> (Vec<BatchId>, Vec<BatchId>) {
        let mut live = self.live();
        let stalled = live
            .last_tick
            .replace(ticked)
            .is_some_and(|last| ticked.saturating_sub(last) > self.settings.claim_expiry / 2);
        if stalled && !planted::is(Bug::IgnoresStall) {
            tracing::warn!("the server stood still; all claims begin anew");
            let (claims, offers) = (now + self.settings.claim_expiry, now + self.settings.offer_ttl);
            live.claims.values_mut().for_each(|deadline| *deadline = claims);
            live.offers.values_mut().for_each(|deadline| *deadline = offers);
            // The next look begins them anew.
            live.holds.clear();
        }
        let over = |(id, deadline): (&BatchId, &Duration)| (*deadline <= now).then_some(*id);
        let mut lost: Vec<_> = live.claims.iter().filter_map(over).collect();
        let mut unclaimed: Vec<_> = live.offers.iter().filter_map(over).collect();
        lost.sort_unstable();
        unclaimed.sort_unstable();
        (lost, unclaimed)
    }

    /// Takes batches from workers that are gone.
    pub(super) async fn lose(&self, batches: Vec<BatchId>) -> Result<(), AppError> {
        if batches.is_empty() {
            return Ok(());
        }
        let over = batches.clone();
        self.write(move |tx, now, dispatcher| {
                for id in batches {
                    let batch = readable_batch(tx, id)?.filter(|batch| batch.state.claim().is_some());
                    let Some(mut batch) = batch else { continue };
                    lose(tx, now, dispatcher, &mut batch)?;
                    if planted::is(Bug::OffersAgainAfterIntent) {
                        settle_unseen(tx, now, dispatcher, &mut batch)?;
                    }
                    tracing::warn!(batch.id = %id, repository = %batch.repository, worker.node = batch.state.node(), "worker lost; its batch waits for that node");
                }
                Ok(())
            })
            .await?;
        let mut live = self.live();
        over.into_iter().for_each(|id| live.forget_claim(id));
        Ok(())
    }

    async fn offer_again(&self, batches: Vec<BatchId>) -> Result<(), AppError> {
        if batches.is_empty() {
            return Ok(());
        }
        let over = batches.clone();
        self.write(move |tx, _, _| {
            for id in batches {
                if let Some(mut batch) = readable_batch(tx, id)?
                    && batch.offer_again().is_ok()
                {
                    tx.update_batch(&batch)?;
                }
            }
            Ok(())
        })
        .await?;
        let mut live = self.live();
        for id in over {
            live.offers.remove(&id);
            self.dispatcher.workers.offer_over(id);
            self.broker.recorded(id);
        }
        drop(live);
        self.broker.announce();
        Ok(())
    }
}

/// What a server does with a lost batch that takes silence for proof. Only ever planted.
fn settle_unseen(tx: &mut Tx<'_>, now: Timestamp, dispatcher: &Dispatcher, batch: &mut Batch) -> Result<(), AppError> {
    for member in &batch.jobs {
        let job = job_or_not_found(tx, member.job_id)?;
        if matches!(job.progress.state, JobState::Recovering { batch: of, .. } if of == batch.id) {
            advance(tx, now, dispatcher, job, &JobEvent::FoundUnpublished)?;
        }
    }
    batch.state = BatchState::Settled;
    Ok(tx.update_batch(batch)?)
}
