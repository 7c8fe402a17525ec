//! The worker: claims batches, runs their payloads, drives the publisher, reports.
//!
//! One worker runs on a node at a time (a lock in its state directory). All it knows is in memory: what a lost life left
//! behind is found out from the repository, on request of the server.

mod batch;
mod failure;
mod fence;
mod heartbeat;
mod held;
mod log;
mod offers;
mod recover;
mod source;
mod stage;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use crate::broker::rabbitmq;
use crate::client::{Client, ClientError};
use crate::domain::ids::InstanceId;
use crate::domain::protocol::{ClaimRequest, Offer};
use crate::payload::fetch::{FetchLimits, Fetcher};
use crate::publisher::Publisher;
pub use failure::WorkerError;
use held::Held;
use offers::{Came, Receipt};

/// What a worker is told.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// The name of this machine: what is lost here is looked for here.
    pub node: String,
    /// The fleet that it serves.
    pub fleet: String,
    /// Batches at a time.
    pub slots: u32,
    /// Where its lock is.
    pub state_dir: PathBuf,
    /// Where payloads are fetched and scripts run; cleared at the start, so nothing else may be kept there.
    pub temp_dir: PathBuf,
    /// The account that scripts run as; needed where the worker is root.
    pub run_as: Option<Account>,
    /// What a download may cost.
    pub fetch: FetchLimits,
    /// Where offers come from; the server is asked for them where there is no broker.
    pub broker: Option<rabbitmq::Settings>,
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
    instance: InstanceId,
    held: Held,
    slots: Arc<Semaphore>,
    /// Whether the broker delivers offers now.
    by_broker: AtomicBool,
    /// Wakes the heartbeat.
    beat: Notify,
}

/// Runs until `shutdown` says true (then what is staged is given back and what is being published is finished), or until
/// the worker must not go on.
pub async fn run(
    client: Client,
    publisher: Arc<dyn Publisher>,
    settings: WorkerSettings,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), WorkerError> {
    let _lock = lock(&settings.state_dir)?;
    clear(&settings.temp_dir)?;
    let worker = Arc::new(Worker {
        client,
        publisher,
        fetcher: Fetcher::new(settings.fetch)?,
        instance: InstanceId(uuid::Uuid::now_v7()),
        held: Held::default(),
        slots: Arc::new(Semaphore::new(settings.slots as usize)),
        by_broker: AtomicBool::new(false),
        beat: Notify::new(),
        settings,
    });
    tracing::info!(
        worker.name = worker.settings.node,
        fleet = worker.settings.fleet,
        slots = worker.settings.slots,
        "worker started"
    );

    // Tasks end with this set, also when this future is dropped.
    let mut tasks = JoinSet::new();
    let mut heartbeats = JoinSet::new();
    let (recover, mut to_recover) = tokio::sync::mpsc::unbounded_channel();
    heartbeats.spawn(heartbeat::run(Arc::clone(&worker), recover));
    // One request goes on while other things happen: to give it up would lose what is on its way in the answer, and the
    // server offers that again only when the offer's time is over.
    let (came, mut by_broker) = tokio::sync::mpsc::unbounded_channel();
    let mut receiving = JoinSet::new();
    if let Some(settings) = worker.settings.broker.clone() {
        receiving.spawn(offers::receive(Arc::clone(&worker), settings, came));
    }
    let mut offers = Box::pin(worker.next_offers());
    let result = loop {
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => break Ok(()),
            ended = heartbeats.join_next() => break match ended {
                Some(Ok(error)) => Err(error),
                Some(Err(panic)) => Err(WorkerError::Panicked(panic.to_string())),
                None => Ok(()),
            },
            Some(request) = to_recover.recv() => drop(tasks.spawn(recover::run(Arc::clone(&worker), request))),
            Some(ended) = tasks.join_next() => {
                if let Err(panic) = ended {
                    tracing::error!(error = %panic, "a batch's task panicked; its claim expires and the batch is recovered");
                }
            }
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
    worker.held.stop_all();
    if !tasks.is_empty() {
        tracing::info!(batches = tasks.len(), "worker stops; what is being published is finished first");
    }
    while tasks.join_next().await.is_some() {}
    result
}

impl Worker {
    /// Waits for a free slot, then for offers. What is in the answer when this is dropped is offered again, but late.
    async fn next_offers(&self) -> Vec<Came> {
        if self.settings.broker.is_some() {
            return std::future::pending().await;
        }
        let Ok(first) = Arc::clone(&self.slots).acquire_owned().await else { return std::future::pending().await };
        let mut permits = vec![first];
        permits.extend(std::iter::from_fn(|| Arc::clone(&self.slots).try_acquire_owned().ok()));
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

    /// Claims an offered batch and runs it to its end.
    async fn take(self: Arc<Self>, came: Came) {
        let Came { offer, permit, receipt } = came;
        if let Some(_taken) = self.held.take(offer.batch_id) {
            self.claim(&offer, receipt.as_ref()).await;
        }
        // In this order: the acknowledgement lets the next offer come, which needs the slot.
        drop(permit);
        drop(receipt);
    }

    async fn claim(self: &Arc<Self>, offer: &Offer, receipt: Option<&Receipt>) {
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
    }

    fn free_slots(&self) -> u32 {
        // Permits tell something else: those of the request that waits for offers are free for the server.
        self.settings.slots.saturating_sub(u32::try_from(self.held.taken_count()).unwrap_or(u32::MAX))
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

/// Empties the temporary directory of what an earlier life left there.
fn clear(temp_dir: &Path) -> Result<(), WorkerError> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let io = |source| WorkerError::Io { what: format!("clear {}", temp_dir.display()), source };
    // Scripts of another account pass through, but cannot look around.
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(temp_dir).map_err(io)?;
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
