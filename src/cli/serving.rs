//! Puts a server together: store, engine, sockets, and the clock that drives it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::token_lists::TokenLists;
use crate::app::clock::{SystemClock, SystemEntropy};
use crate::app::{Engine, Pruned, Settings};
use crate::config::ServerConfig;
use crate::domain::retention::Retention;
use crate::http::{self, AppState, Limits};
use crate::store::Store;
use crate::store::blobs::BlobStore;
use crate::store::logs::LogStore;
use crate::worker::Halt;

/// How often the engine looks at its clock.
const TICK: Duration = Duration::from_millis(250);

/// Least pause between two steps of pruning.
const STEP_PAUSE: Duration = Duration::from_millis(2);

/// A server that runs.
pub(super) struct Serving {
    /// Where it listens.
    pub(super) addresses: Vec<SocketAddr>,
    task: JoinHandle<()>,
}

/// Opens the state, binds the sockets and serves until `shutdown` says true.
///
/// `repositories_dir`: repositories that are served at `/cvmfs/NAME/`, where there are any.
pub(super) async fn start(
    config: ServerConfig,
    repositories_dir: Option<PathBuf>,
    mut shutdown: watch::Receiver<bool>,
) -> anyhow::Result<Serving> {
    if config.repositories.is_empty() {
        tracing::warn!(
            "no repositories are configured: every job will be refused; add [repositories.\"NAME\"] to the configuration"
        );
    }
    let lists = TokenLists::read(config.tokens)?;
    make_private(&config.state_dir)?;
    let store = Store::open(&config.state_dir)?;
    let logs = LogStore::open(&config.state_dir.join("logs.db"))?;
    let blobs = BlobStore::open(&config.state_dir.join("blobs"), config.max_blob_bytes)?;
    let broker = config.broker.as_ref().map(super::broker::settings);
    let settings = Settings {
        claim_expiry: config.claim_expiry,
        batches: config.batches,
        submitter_is_owner: config.submitter_is_owner,
        ..Settings::default()
    };
    let (clock, entropy) = (Arc::new(SystemClock::default()), Arc::new(SystemEntropy));
    let engine =
        Arc::new(Engine::start(store, logs, Some(blobs), config.repositories, clock, entropy, settings).await?);
    if let Some(token) = &config.token {
        engine.set_bootstrap_token(token);
    }
    engine.set_file_tokens(lists.tokens());

    let mut listeners = Vec::new();
    for address in &config.listen {
        listeners.push(TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?);
    }
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    let stop = CancellationToken::new();
    let state = AppState {
        engine: Arc::clone(&engine),
        anonymous_read: config.anonymous_read,
        repositories_dir,
        limits: Limits::default(),
        shutdown: stop.clone(),
    };
    let router = http::router(state);
    let task = tokio::spawn(async move {
        let sending = broker.map(|settings| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move { engine.drive_rabbitmq(&settings).await })
        });
        let ticking = tokio::spawn(tick(Arc::clone(&engine)));
        let watching = tokio::spawn(lists.watch(Arc::clone(&engine)));
        let pruning = tokio::spawn(prune(Arc::clone(&engine), config.retention));
        let stopped = stop.clone();
        let stopping = tokio::spawn(async move {
            let _ = shutdown.wait_for(|stop| *stop).await;
            stopped.cancel();
        });
        http::serve(listeners, router, Limits::default(), stop).await;
        if let Some(sending) = sending {
            sending.abort();
        }
        ticking.abort();
        watching.abort();
        pruning.abort();
        stopping.abort();
        if let Err(error) = engine.save_token_use().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "when tokens were used last could not be stored");
        }
    });
    Ok(Serving { addresses, task })
}

impl Serving {
    /// Waits until it has ended.
    pub(super) async fn ended(self) -> anyhow::Result<()> {
        self.task.await.context("the server failed")
    }
}

async fn tick(engine: Arc<Engine>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if let Err(error) = engine.tick().await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the passing of time could not be recorded; trying again"
            );
        }
    }
}

/// Prunes for as long as the server runs. After each step others have the writer for at least as long as the step took.
async fn prune(engine: Arc<Engine>, retention: Retention) {
    let mut interval = tokio::time::interval(retention.interval);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(mut round) = engine.begin_round() else { continue };
        loop {
            let began = tokio::time::Instant::now();
            match engine.prune(&retention, &mut round).await {
                Ok(true) => tokio::time::sleep(began.elapsed().clamp(STEP_PAUSE, TICK)).await,
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "pruning stopped; the next round goes on"
                    );
                    break;
                }
            }
        }
        let pruned = round.pruned();
        if pruned != Pruned::default() {
            tracing::info!(
                jobs = pruned.jobs,
                logs = pruned.logs,
                blobs = pruned.blobs,
                blob_bytes = pruned.blob_bytes,
                "pruned what is over"
            );
        }
    }
}

/// Makes a directory that only its owner can look into.
pub(super) fn make_private(directory: &std::path::Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("cannot make {}", directory.display()))
}

/// Says true on the first SIGTERM or SIGINT; on the second the process ends at once.
pub(super) fn until_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let (stop, shutdown) = watch::channel(false);
    let mut signals = Signals::new()?;
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!("stopping; a second signal ends the program at once");
        stop.send_replace(true);
        signals.next().await;
        std::process::exit(130);
    });
    Ok(shutdown)
}

/// Tells a worker to drain on the first SIGTERM or SIGINT, to give back what it has on the second; on the third the process
/// ends at once.
pub(super) fn until_halt() -> anyhow::Result<watch::Receiver<Halt>> {
    let (stop, halt) = watch::channel(Halt::No);
    let mut signals = Signals::new()?;
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!("draining; a second signal gives back what is not published yet");
        stop.send_replace(Halt::Drain);
        signals.next().await;
        tracing::info!("giving back what is not published yet; a third signal ends the program at once");
        stop.send_replace(Halt::Now);
        signals.next().await;
        std::process::exit(130);
    });
    Ok(halt)
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
