//! The worker: claims batches, runs their payloads, drives the publisher, reports.
//!
//! One worker runs on a node at a time (a lock in its state directory). All it knows is in memory: what a lost life left
//! behind is found out from the repository, on request of the server.

mod about;
mod batch;
mod changes;
mod check;
pub mod control;
mod drain;
mod drained;
mod failure;
mod faults;
mod fence;
mod handle;
mod health;
mod heartbeat;
mod held;
mod isolation;
mod log;
mod offers;
mod recover;
mod revert;
mod source;
mod stage;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::broker::rabbitmq;
use crate::client::{Client, ClientError};
use crate::domain::ids::InstanceId;
use crate::domain::protocol::{ClaimRequest, Offer};
use crate::domain::worker::Drained;
use crate::payload::fetch::{FetchLimits, Fetcher};
use crate::publisher::Publisher;
pub use check::check;
use drain::Draining;
pub use drain::Halt;
pub use failure::WorkerError;
pub use handle::{Adjustable, Handle};
use held::Held;
pub use isolation::try_isolation;
use offers::{Came, Receipt};

/// What a worker is told.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// The name of this machine: what is lost here is looked for here.
    pub node: String,
    /// The fleet that it serves.
    pub fleet: String,
    /// What can change while it runs: [`Handle::adjust`].
    pub adjustable: Adjustable,
    /// Where its lock is.
    pub state_dir: PathBuf,
    /// Where payloads are fetched and scripts run; cleared at the start, so nothing else may be kept there.
    pub temp_dir: PathBuf,
    /// The account that scripts run as; needed where the worker is root.
    pub run_as: Option<Account>,
    /// Whether the worker must not run where it cannot isolate scripts. In a repository that everybody on the machine sees
    /// no script runs without isolation in any case.
    pub isolation_required: bool,
    /// Files and directories that no script may see, besides the worker's own and the publisher's.
    pub hidden: Vec<PathBuf>,
    /// What a download may cost.
    pub fetch: FetchLimits,
    /// Where offers come from; the server is asked for them where there is no broker.
    pub broker: Option<rabbitmq::Settings>,
    /// Whether it ends after one batch.
    pub once: Option<Once>,
}

/// A worker for one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Once {
    /// How long it waits for one; for ever where not said.
    pub wait: Option<Duration>,
}

/// Why a worker ended that had no reason to complain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Told,
    /// Its one batch is over, however that ended.
    Once,
    /// Nothing came in the time that it was to wait.
    NothingCame,
}

/// A user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Numeric user.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
}

/// How long an offer is waited for in one request.
const OFFER_WAIT: Duration = Duration::from_secs(25);
/// Pause after a request for offers failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(500);

/// How long a claim is asked for, for an offer that waits on the broker meanwhile.
const CLAIM_PATIENCE: Duration = Duration::from_secs(60);

/// A running worker's parts, shared by its tasks.
struct Worker {
    client: Client,
    publisher: Arc<dyn Publisher>,
    fetcher: Fetcher,
    settings: WorkerSettings,
    adjustable: RwLock<Adjustable>,
    pulse: Arc<handle::Pulse>,
    /// Whether this host can isolate scripts.
    isolates: bool,
    instance: InstanceId,
    held: Held,
    slots: handle::Slots,
    /// Whether the broker delivers offers now.
    by_broker: AtomicBool,
    /// Wakes the heartbeat.
    beat: Notify,
    served: about::Served,
    draining: Draining,
    faults: faults::Faults,
    whitelists: health::Whitelists,
    started_at: Timestamp,
    /// Whether the server has heard of this worker: before, it does not know what may be offered to it.
    registered: watch::Sender<bool>,
}

/// Runs until it is told to halt, until its one batch is over, or until the worker must not go on.
pub async fn run(
    client: Client,
    publisher: Arc<dyn Publisher>,
    settings: WorkerSettings,
    mut halt: watch::Receiver<Halt>,
    handle: &Handle,
) -> Result<Ended, WorkerError> {
    let _lock = lock(&settings.state_dir)?;
    clear(&settings.temp_dir)?;
    let draining = Draining::default();
    draining.set_drained(drained::load(&settings.state_dir)?);
    let isolates = isolation::available(&settings).await?;
    let worker = Arc::new(Worker {
        client,
        publisher,
        fetcher: Fetcher::new(settings.fetch)?,
        instance: InstanceId(uuid::Uuid::now_v7()),
        held: Held::default(),
        slots: handle::Slots::new(settings.adjustable.slots),
        adjustable: RwLock::new(settings.adjustable.clone()),
        pulse: handle.pulse(),
        by_broker: AtomicBool::new(false),
        beat: Notify::new(),
        served: about::Served::default(),
        draining,
        faults: faults::Faults::default(),
        whitelists: health::Whitelists::default(),
        started_at: Timestamp::now(),
        registered: watch::Sender::new(false),
        isolates,
        settings,
    });
    worker.look().await;
    tracing::info!(
        worker.name = worker.settings.node,
        fleet = worker.settings.fleet,
        slots = worker.slots.number(),
        "worker started"
    );
    if let Some(Drained { since, why }) = worker.draining.drained() {
        tracing::warn!(%since, why, "an operator has drained this worker: it takes nothing until: conveyor worker resume");
    }

    // Tasks end with this set, also when this future is dropped.
    let mut tasks = JoinSet::new();
    let (mut heartbeats, mut looking) = (JoinSet::new(), JoinSet::new());
    let (recover, mut to_recover) = tokio::sync::mpsc::unbounded_channel();
    heartbeats.spawn(heartbeat::run(Arc::clone(&worker), recover));
    looking.spawn(Arc::clone(&worker).keep_looking());
    looking.spawn(Arc::clone(&worker).keep_tidy());
    looking.spawn(Arc::clone(&worker).keep_looking_after());
    let mut controls = JoinSet::new();
    match control::Socket::bind(&worker.settings.state_dir) {
        Ok(socket) => drop(controls.spawn(control::serve(Arc::clone(&worker), socket))),
        // Jobs need it less than the operator does.
        Err(error) => {
            let at = worker.settings.state_dir.join(control::SOCKET);
            tracing::warn!(error = &error as &dyn std::error::Error, path = %at.display(), "cannot listen for: conveyor worker status, drain, resume");
        }
    }
    handle.set_ready(&worker);
    // One request goes on while other things happen: to give it up would lose what is on its way in the answer, and the
    // server offers that again only when the offer's time is over.
    let (came, mut by_broker) = tokio::sync::mpsc::unbounded_channel();
    let mut receiving = JoinSet::new();
    if let Some(settings) = worker.settings.broker.clone() {
        receiving.spawn(offers::receive(Arc::clone(&worker), settings, came));
    }
    let mut offers = Box::pin(worker.next_offers());
    let once = worker.settings.once;
    let mut nothing_came = std::pin::pin!(waited_long(once));
    let result = loop {
        tokio::select! {
            biased;
            _ = halt.wait_for(|halt| *halt != Halt::No) => break Ok(Ended::Told),
            ended = heartbeats.join_next() => break match ended {
                Some(Ok(error)) => Err(error),
                Some(Err(panic)) => Err(WorkerError::Panicked(panic.to_string())),
                None => Ok(Ended::Told),
            },
            Some(request) = to_recover.recv() => {
                let recovering = recover::run(Arc::clone(&worker), request);
                tasks.spawn(async move { recovering.await; false });
            }
            Some(ended) = tasks.join_next() => {
                note_panic(&ended);
                if once.is_some() && ended.unwrap_or(true) {
                    break Ok(Ended::Once);
                }
            }
            // One that is being claimed is not nothing.
            () = &mut nothing_came, if worker.held.taken_count() == 0 => break Ok(Ended::NothingCame),
            came = &mut offers => {
                for came in came {
                    tasks.spawn(Arc::clone(&worker).take(came));
                }
                offers.set(worker.next_offers());
            }
            Some(came) = by_broker.recv() => drop(tasks.spawn(Arc::clone(&worker).take(came))),
            Some(Err(panic)) = receiving.join_next() => break Err(WorkerError::Panicked(panic.to_string())),
        }
    };
    drop(offers);
    drop(by_broker);
    let at_once = result.is_err() || *halt.borrow() == Halt::Now;
    drain::drain(&worker, &mut tasks, &mut receiving, halt, at_once).await;
    if result.is_ok() {
        heartbeat::last(&worker).await;
    }
    // The socket must be gone before the lock is: the next worker makes its own.
    controls.shutdown().await;
    result
}

/// Ends when a worker for one batch has waited for it as long as it was to.
async fn waited_long(once: Option<Once>) {
    match once.and_then(|once| once.wait) {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// Complains about a task that failed.
fn note_panic(ended: &Result<bool, tokio::task::JoinError>) {
    if let Err(panic) = ended {
        tracing::error!(error = %panic, "a batch's task panicked; its claim expires and the batch is recovered");
    }
}

impl Worker {
    /// Waits for a free slot, then for offers. What is in the answer when this is dropped is offered again, but late.
    async fn next_offers(&self) -> Vec<Came> {
        if self.settings.broker.is_some() {
            return std::future::pending().await;
        }
        let mut registered = self.registered.subscribe();
        let _ = registered.wait_for(|registered| *registered).await;
        self.draining.until_it_takes().await;
        let permits = self.slots.take_all().await;
        let free = u32::try_from(permits.len()).unwrap_or(u32::MAX);
        let client = self.client.with_retry_for(Duration::ZERO);
        match client.offers(&self.settings.fleet, &self.settings.node, self.instance, OFFER_WAIT, free).await {
            Ok(list) => {
                let offers = list.offers.into_iter().zip(permits);
                offers.map(|(offer, permit)| Came { offer, permit, receipt: None }).collect()
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot ask for offers; trying again");
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                Vec::new()
            }
        }
    }

    /// Claims an offered batch and runs it to its end; tells whether it was ours.
    async fn take(self: Arc<Self>, came: Came) -> bool {
        let Came { offer, permit, receipt } = came;
        let mut was_ours = false;
        if !self.draining.takes() {
            return false;
        }
        if !self.serves(&offer.repository) {
            // A server that has just begun may not know yet, and RabbitMQ never does.
            tracing::debug!(batch.id = %offer.batch_id, repository = %offer.repository, "an offer for a repository that is not served here");
            receipt.as_ref().inspect(|receipt| receipt.gone());
        } else if let Some(_taken) = self.held.take(offer.batch_id) {
            crate::crash::point("worker.received");
            was_ours = self.claim(&offer, receipt.as_ref()).await;
        }
        if was_ours && self.settings.once.is_some() {
            // Nothing must come behind it.
            permit.forget();
        } else {
            // In this order: the acknowledgement lets the next offer come, which needs the slot.
            drop(permit);
        }
        drop(receipt);
        was_ours
    }

    /// Tells whether the claim was granted, once its batch has ended.
    async fn claim(self: &Arc<Self>, offer: &Offer, receipt: Option<&Receipt>) -> bool {
        let request =
            ClaimRequest { generation: offer.generation, node: self.settings.node.clone(), instance: self.instance };
        let client = match receipt {
            Some(_) => self.client.with_retry_for(CLAIM_PATIENCE),
            None => self.client.clone(),
        };
        match client.claim(offer.batch_id, &request).await {
            Ok(claim) => {
                if let Some(receipt) = receipt {
                    receipt.claimed();
                }
                crate::crash::point("worker.claimed");
                batch::run(Arc::clone(self), offer.batch_id, claim).await;
                return true;
            }
            Err(ClientError::Refused { status: 409 | 404, detail, .. }) => {
                if let Some(receipt) = receipt {
                    receipt.gone();
                }
                tracing::debug!(batch.id = %offer.batch_id, reason = detail.message, "offer is gone");
            }
            Err(error) => {
                if let Some(receipt) = receipt {
                    receipt.unanswered();
                }
                tracing::warn!(batch.id = %offer.batch_id, error = &error as &dyn std::error::Error, "cannot claim the batch; the server will offer it again");
            }
        }
        false
    }

    fn free_slots(&self) -> u32 {
        if !self.draining.takes() {
            return 0;
        }
        // Permits tell something else: those of the request that waits for offers are free for the server.
        self.slots.number().saturating_sub(u32::try_from(self.held.taken_count()).unwrap_or(u32::MAX))
    }
}

/// Makes sure that this is the only worker with this state directory.
fn lock(state_dir: &Path) -> Result<nix::fcntl::Flock<File>, WorkerError> {
    let path = state_dir.join("worker.lock");
    let io = |source| WorkerError::Io { what: format!("open {}", path.display()), source };
    std::fs::create_dir_all(state_dir).map_err(io)?;
    let file = File::create(&path).map_err(io)?;
    crate::file_lock::exclusive(file).map_err(|_| WorkerError::AlreadyRuns { lock: path })
}

/// Makes the temporary directory where it is not there.
fn make_temp_dir(temp_dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    // Scripts of another account pass through, but cannot look around.
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(temp_dir)
}

/// Empties the temporary directory of what an earlier life left there.
fn clear(temp_dir: &Path) -> Result<(), WorkerError> {
    use std::os::unix::fs::PermissionsExt;
    let io = |source| WorkerError::Io { what: format!("clear {}", temp_dir.display()), source };
    make_temp_dir(temp_dir).map_err(io)?;
    for entry in std::fs::read_dir(temp_dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.is_dir() && !path.is_symlink() {
            for folder in walkdir::WalkDir::new(&path).into_iter().flatten().filter(|entry| entry.file_type().is_dir())
            {
                // A script may have left directories that their owner cannot write in.
                let _ = std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700));
            }
            std::fs::remove_dir_all(&path).map_err(io)?;
        } else {
            std::fs::remove_file(&path).map_err(io)?;
        }
    }
    Ok(())
}
