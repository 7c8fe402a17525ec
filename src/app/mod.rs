//! The use cases: one file each. They take time, randomness and store as arguments, so that the whole of it runs in a
//! seeded simulation too.

mod advance;
mod announce;
mod blobs;
mod cancel;
mod claim;
pub mod clock;
mod dispatch;
pub mod error;
mod finding;
mod heartbeat;
mod holds;
mod intent;
mod logs;
pub mod notifications;
mod offers;
mod outcome;
mod pin;
mod progress;
mod query;
mod rabbitmq;
mod recent;
mod repositories;
mod resolve;
mod retention;
mod retry;
mod revert;
mod rules;
mod submit;
#[cfg(test)]
mod tests;
mod tick;
mod tokens;
mod visible;
mod workers;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::broker::{Embedded, Status};
use crate::domain::batch::BatchState;
use crate::domain::fleet::Repositories;
use crate::domain::ids::{BatchId, HoldId, JobId};
use crate::domain::job::Job;
use crate::domain::job::event::JobEvent;
use crate::domain::job::state::JobState;
use crate::domain::names::RepositoryName;
use crate::domain::plan::BatchLimits;
use crate::domain::visible::VisibleUrls;
use crate::planted::{self, Bug};
use crate::store::blobs::BlobStore;
use crate::store::logs::LogStore;
use crate::store::{Db, Store, StoreError};
use advance::advance;
use clock::{Clock, Entropy};
use dispatch::Dispatcher;
pub use error::AppError;
pub use offers::MAX_WAIT;
use progress::Reported;
pub use query::MAX_PAGE;
pub use rabbitmq::{Broken, Carrier};
use recent::Recent;
pub use recent::{RecentEvent, RecentEvents, Watched};
pub use retention::{Pruned, Round};
pub use rules::{Load, Rules};
use tokens::Keyring;
pub use tokens::{Caller, Denied};
use visible::Distribution;
pub use visible::{Answers, Awaited};

/// What can be set about the engine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Silence after which a claim is lost.
    pub claim_expiry: Duration,
    /// How often a worker is asked to show that it lives.
    pub heartbeat: Duration,
    /// How long an offer may stay unclaimed before it is offered anew.
    pub offer_ttl: Duration,
    /// How long a lost batch may stay unreadable before a person is asked.
    pub recovery_limit: Duration,
    /// How large a batch may become.
    pub batches: BatchLimits,
    /// Whether a job's submitter is the name of the token that submitted it, whatever the job says.
    pub submitter_is_owner: bool,
    /// The URLs that jobs may have asked for their revision.
    pub visible_urls: VisibleUrls,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            claim_expiry: Duration::from_secs(30),
            heartbeat: Duration::from_secs(2),
            offer_ttl: Duration::from_secs(15),
            recovery_limit: Duration::from_secs(3600),
            batches: BatchLimits::default(),
            submitter_is_owner: false,
            visible_urls: VisibleUrls::default(),
        }
    }
}

/// The server's heart: every use case is a method of it.
pub struct Engine {
    store: Store,
    logs: LogStore,
    blobs: Option<BlobStore>,
    clock: Arc<dyn Clock>,
    dispatcher: Arc<Dispatcher>,
    broker: Embedded,
    settings: Settings,
    live: Mutex<Live>,
    keyring: Keyring,
    /// The number of the last change in [`Live::progress`].
    progress_changed: watch::Sender<u64>,
    /// How RabbitMQ stands, where it is used.
    rabbitmq: OnceLock<Arc<Status>>,
    recent: Arc<Recent>,
    /// Changes when something was published that is to be announced.
    announcements: watch::Sender<()>,
    unannounced: Mutex<announce::Unannounced>,
    /// How the exchange of notifications stands, where it is used.
    exchange: OnceLock<Status>,
    /// Every fleet that a repository belongs to.
    fleets: watch::Sender<BTreeSet<String>>,
}

/// What is never stored: what is known about time, since it counts on the monotonic clock of this process, and progress.
#[derive(Default)]
struct Live {
    /// When each claim is lost unless its worker shows that it lives.
    claims: HashMap<BatchId, Duration>,
    /// What the worker of a claim said last of its progress; goes with the claim.
    progress: HashMap<BatchId, Reported>,
    /// The jobs that wait for their URLs.
    distributing: HashMap<JobId, Distribution>,
    /// When each offer is made anew unless it is claimed.
    offers: HashMap<BatchId, Duration>,
    /// When a lost batch was first found unreadable.
    unreadable: HashMap<BatchId, Duration>,
    /// Batches that a person settled and whose node has not looked since. What it finds may say otherwise.
    unconfirmed: HashMap<BatchId, (String, RepositoryName)>,
    /// When a round of pruning was asked for last, on both clocks.
    round_asked: Option<(jiff::Timestamp, Duration)>,
    /// When each hold for maintenance is over unless it is renewed.
    holds: HashMap<HoldId, Duration>,
    /// The repositories whose maintenance windows were open at the last tick.
    in_window: BTreeSet<RepositoryName>,
    /// Repositories whose rules changed and whose offers could not be withdrawn yet.
    unsettled: Option<BTreeSet<RepositoryName>>,
    /// When the clock was looked at last.
    last_tick: Option<Duration>,
}

impl Live {
    fn forget_claim(&mut self, batch: BatchId) {
        self.claims.remove(&batch);
        self.progress.remove(&batch);
    }
}

impl Engine {
    /// Starts on a store: every claim in it gets its full time anew, every offer is made anew, every repository is planned.
    pub async fn start(
        store: Store,
        logs: LogStore,
        blobs: Option<BlobStore>,
        repositories: Repositories,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        let rules = Rules {
            repositories: Arc::new(repositories),
            batches: settings.batches,
            recovery_limit: settings.recovery_limit,
            submitter_is_owner: settings.submitter_is_owner,
            visible_urls: settings.visible_urls.clone(),
        };
        let fleets = watch::Sender::new(rabbitmq::fleets(&rules.repositories));
        let engine = Self {
            store,
            logs,
            blobs,
            clock,
            dispatcher: Arc::new(Dispatcher::new(rules, entropy)),
            broker: Embedded::default(),
            settings,
            live: Mutex::default(),
            keyring: Keyring::default(),
            progress_changed: watch::channel(0).0,
            rabbitmq: OnceLock::new(),
            recent: Arc::default(),
            announcements: watch::channel(()).0,
            unannounced: Mutex::default(),
            exchange: OnceLock::new(),
            fleets,
        };
        engine.keyring.load(engine.store.read(|db| db.tokens()).await?);
        engine.dispatcher.restore_shares(engine.store.read(|db| db.pending()).await?);
        engine.withdraw_changed(BTreeSet::new()).await?;
        let batches = engine.store.read(|db| db.live_batches()).await?;
        let now = engine.time();
        let expiry = if planted::is(Bug::ForgetsDowntime) { now } else { now + engine.settings.claim_expiry };
        {
            let mut live = engine.live();
            // Standing still counts from here on, not from the first tick.
            live.last_tick = Some(engine.clock.monotonic());
            for batch in &batches {
                match batch.state {
                    BatchState::Claimed { .. } | BatchState::Publishing { .. } => {
                        live.claims.insert(batch.id, expiry);
                    }
                    // What was on its way died with the earlier life, so nobody may have heard of it: it is made anew at the
                    // first tick. Whoever did hear gets 409 and the new one. Waiting longer would hold up a server that
                    // restarts often for ever.
                    BatchState::Offered { .. } => {
                        live.offers.insert(batch.id, now);
                    }
                    BatchState::Unsent | BatchState::Recovering { .. } | BatchState::Settled => {}
                }
            }
        }
        engine.dispatch_all().await?;
        Ok(engine)
    }

    /// The store, to watch for committed events.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The logs, to watch for new pieces.
    pub fn log_store(&self) -> &LogStore {
        &self.logs
    }

    /// The repositories that jobs are accepted for.
    pub fn repositories(&self) -> Arc<Repositories> {
        self.dispatcher.repositories()
    }

    /// The time that claims and offers expire by: it does not jump.
    fn time(&self) -> Duration {
        match planted::is(Bug::ExpiresOnWallClock) {
            true => {
                Duration::try_from(self.clock.now().duration_since(jiff::Timestamp::UNIX_EPOCH)).unwrap_or_default()
            }
            false => self.clock.monotonic(),
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // The map is valid after every single operation, so a panic elsewhere cannot leave it half-changed.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a write that may make jobs ready; planning is part of the same commit.
    async fn write<T, F>(&self, work: F) -> Result<T, AppError>
    where
        T: Send + 'static,
        F: FnOnce(&mut crate::store::Tx<'_>, jiff::Timestamp, &Dispatcher) -> Result<T, AppError> + Send + 'static,
    {
        let (dispatcher, now, epoch) = (Arc::clone(&self.dispatcher), self.clock.now(), self.store.epoch());
        let result = self
            .store
            .write(move |tx| {
                if !tx.is_epoch(epoch)? && !planted::is(Bug::IgnoresEpoch) {
                    return Err(AppError::not_leader());
                }
                let result = work(tx, now, &dispatcher)?;
                let offers = dispatcher.run(tx, now)?;
                Ok::<_, AppError>((result, offers))
            })
            .await;
        match result {
            Ok((result, offers)) => {
                if offers > 0 {
                    self.broker.announce();
                }
                Ok(result)
            }
            Err(error) => {
                if matches!(error, AppError::Store(_)) {
                    self.dispatcher.plan_everything();
                }
                Err(error)
            }
        }
    }

    async fn dispatch_all(&self) -> Result<(), StoreError> {
        self.dispatcher.plan_everything();
        match self.write(|_, _, _| Ok(())).await {
            Err(AppError::Store(error)) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Takes an offer back that nobody has claimed: its jobs are ready again.
fn withdraw_offer(
    tx: &mut crate::store::Tx<'_>,
    now: jiff::Timestamp,
    dispatcher: &Dispatcher,
    batch: &mut crate::domain::batch::Batch,
) -> Result<(), AppError> {
    for member in &batch.jobs {
        let Some(job) = readable_job(tx, member.job_id)? else { continue };
        if matches!(job.progress.state, JobState::Offered { batch: of } if of == batch.id) {
            advance(tx, now, dispatcher, job, &JobEvent::OfferWithdrawn)?;
        }
    }
    batch.state = BatchState::Settled;
    Ok(tx.update_batch(batch)?)
}

/// The job of this id, or the answer that there is none.
fn job_or_not_found(db: &Db<'_>, id: JobId) -> Result<Job, AppError> {
    db.job(id)?.ok_or_else(|| AppError::NotFound { what: "job", id: id.to_string() })
}

/// The job of this id, where its row can be read: one that cannot is told, and must not hold up the rest of its batch.
fn readable_job(db: &Db<'_>, id: JobId) -> Result<Option<Job>, AppError> {
    match db.job(id) {
        Ok(job) => Ok(job),
        Err(error) => Ok(db.pass_over(error).map(|()| None)?),
    }
}

/// The batch of this id, where its row can be read.
fn readable_batch(db: &Db<'_>, id: BatchId) -> Result<Option<crate::domain::batch::Batch>, AppError> {
    match db.batch(id) {
        Ok(batch) => Ok(batch),
        Err(error) => Ok(db.pass_over(error).map(|()| None)?),
    }
}

/// The batch of this id, or the answer that there is none.
fn batch_or_not_found(db: &Db<'_>, id: BatchId) -> Result<crate::domain::batch::Batch, AppError> {
    db.batch(id)?.ok_or_else(|| AppError::NotFound { what: "batch", id: id.to_string() })
}
