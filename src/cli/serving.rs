//! Puts a server together: store, engine, sockets, and the clock that drives it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::listeners::{self, Inherited, Kind, Listeners};
use super::notify::Service;
use super::supervision::{Leading, Phase, Plan};
use super::token_lists::{OtherLists, TokenLists};
use crate::app::clock::{SystemClock, SystemEntropy};
use crate::app::notifications::Notifications;
use crate::app::{Engine, Pruned, Settings};
use crate::config::{ListenAddress, ServerConfig};
use crate::domain::retention::Retention;
use crate::http::{self, AppState, Limits, Listener};
use crate::socket_file::SocketFile;
use crate::store::blobs::BlobStore;
use crate::store::logs::LogStore;
use crate::store::{Leadership, Store};
use crate::worker::Halt;

/// How often the engine looks at its clock.
const TICK: Duration = Duration::from_millis(250);

/// Least pause between two steps of pruning.
const STEP_PAUSE: Duration = Duration::from_millis(2);

/// A server that runs.
pub(super) struct Serving {
    /// Where it listens.
    pub(super) addresses: Vec<ListenAddress>,
    /// They go when it has ended.
    _files: Vec<SocketFile>,
    task: JoinHandle<anyhow::Result<()>>,
}

/// What a server does where another one leads on its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Second {
    /// Waits, and leads when the other one is gone.
    StandsBy,
    /// Ends.
    IsRefused,
}

/// What it takes to lead, and what was found to be right before.
struct Candidate {
    state_dir: PathBuf,
    plan: Arc<Plan>,
    repositories_dir: Option<PathBuf>,
    /// Where notifications have listeners of their own.
    notify: Vec<Listener>,
    /// How far it is.
    phase: watch::Sender<Phase>,
    stop: CancellationToken,
}

/// A server that leads.
struct Leader {
    engine: Arc<Engine>,
    router: axum::Router,
    lists: TokenLists,
    broker: Option<crate::broker::rabbitmq::Settings>,
    keys_dir: PathBuf,
    notifications: Arc<Notifications>,
    retention: watch::Receiver<Retention>,
    /// Other token lists that are to be watched.
    other_lists: OtherLists,
    phase: watch::Sender<Phase>,
    leading: Arc<Leading>,
    /// Serves notifications.
    notifying: JoinHandle<()>,
    /// What notifications do beside that.
    driving: tokio::task::JoinSet<()>,
}

/// Takes over the inherited sockets or binds those of the settings, opens the state and serves until `shutdown` says true.
///
/// `repositories_dir`: repositories that are served at `/cvmfs/NAME/`, where there are any. `phase` is told how far it is.
pub(super) async fn start(
    mut config: ServerConfig,
    mut inherited: Inherited,
    repositories_dir: Option<PathBuf>,
    second: Second,
    phase: watch::Sender<Phase>,
    mut shutdown: watch::Receiver<bool>,
) -> anyhow::Result<Serving> {
    if config.repositories.is_empty() {
        tracing::warn!(
            "no repositories are configured: every job will be refused; add [repositories.\"NAME\"] to the configuration"
        );
    }
    let lists = TokenLists::read(config.tokens.clone())?;
    make_private(&config.state_dir)?;
    let notify = inherited.split(Kind::Notify);
    let Listeners { listeners, addresses, files } = listeners::open(inherited, Kind::Http, &config.listen).await?;
    if let (Some(_), Some(address)) = (&repositories_dir, addresses.first()) {
        for (name, rules) in &mut config.repositories {
            rules.url.get_or_insert_with(|| format!("{}/cvmfs/{name}", address.url()));
        }
    }
    // It is answered by a leader only: who waits in its queue keeps trying, and who is refused gives up.
    let notify = listeners::open(notify, Kind::Notify, &config.notify.listen).await?;
    for address in &notify.addresses {
        tracing::info!("notifications at {}", address.url());
    }
    let files = files.into_iter().chain(notify.files).collect();
    let leadership = match second {
        Second::StandsBy => Leadership::take_now(&config.state_dir)?,
        Second::IsRefused => Some(Leadership::take(&config.state_dir)?),
    };
    let stop = CancellationToken::new();
    let (state_dir, plan) = (config.state_dir.clone(), Arc::new(Plan::new(config, lists)));
    let candidate =
        Candidate { state_dir, plan, repositories_dir, notify: notify.listeners, phase, stop: stop.clone() };
    let task = match leadership {
        Some(leadership) => {
            let leader = candidate.lead(leadership).await?;
            let serving = http::serve(listeners, leader.router.clone(), Limits::default(), stop.clone());
            tokio::spawn(async move {
                leader.run_beside(serving).await;
                Ok(())
            })
        }
        None => tokio::spawn(candidate.stand_by(listeners)),
    };
    tokio::spawn(async move {
        let _ = shutdown.wait_for(|stop| *stop).await;
        stop.cancel();
    });
    Ok(Serving { addresses, _files: files, task })
}

impl Serving {
    /// Waits until it has ended.
    pub(super) async fn ended(self) -> anyhow::Result<()> {
        self.task.await.context("the server failed")?
    }
}

impl Candidate {
    /// Answers that it does not lead, until it does.
    async fn stand_by(self, listeners: Vec<Listener>) -> anyhow::Result<()> {
        let (state_dir, stop, phase) = (self.state_dir.clone(), self.stop.clone(), self.phase.clone());
        let plan = Arc::clone(&self.plan);
        tracing::info!(
            "standing by: another server leads on {}; this one leads when that one is gone",
            state_dir.display()
        );
        let leading = Arc::new(OnceLock::new());
        let router = http::until_leading(Arc::clone(&leading));
        let serving = tokio::spawn(http::serve(listeners, router, Limits::default(), stop.clone()));
        phase.send_replace(Phase::StandingBy(plan));
        let leader = async {
            let Some(leadership) = stop.run_until_cancelled(Leadership::wait(&state_dir)).await else {
                return Ok(None);
            };
            self.lead(leadership?).await.map(Some)
        };
        match leader.await {
            Ok(Some(leader)) => {
                tracing::info!("this server leads now");
                // Nobody else sets it.
                let _ = leading.set(leader.router.clone());
                leader.run_beside(serving).await.map_err(anyhow::Error::from)
            }
            Ok(None) => serving.await.map_err(anyhow::Error::from),
            Err(error) => {
                stop.cancel();
                let _ = serving.await;
                Err(error)
            }
        }
    }

    /// Opens the state.
    async fn lead(self, leadership: Leadership) -> anyhow::Result<Leader> {
        let (config, mut lists) = self.plan.take().context("a server leads once")?;
        let store = Store::lead(&self.state_dir, leadership)?;
        let for_notifications = store.clone();
        let logs = LogStore::open(&self.state_dir.join("logs.db"))?;
        let blobs = BlobStore::open(&self.state_dir.join("blobs"), config.max_blob_bytes)?;
        let settings = Settings {
            claim_expiry: config.claim_expiry,
            recovery_limit: config.recovery_limit,
            batches: config.batches,
            submitter_is_owner: config.submitter_is_owner,
            visible_urls: config.visible_urls,
            ..Settings::default()
        };
        let (clock, entropy) = (Arc::new(SystemClock::default()), Arc::new(SystemEntropy));
        let engine =
            Arc::new(Engine::start(store, logs, Some(blobs), config.repositories, clock, entropy, settings).await?);
        if let Some(token) = &config.token {
            engine.set_bootstrap_token(token);
        }
        // They may be older than this moment by as long as it stood by.
        lists.look();
        engine.set_file_tokens(lists.tokens());
        let (anonymous_read, may_read) = watch::channel(config.anonymous_read);
        let keys_dir = config.keys_dir.clone();
        let service =
            Service::start(&config.notify, keys_dir, for_notifications, &engine, &may_read, &self.stop).await?;
        let notifications = Arc::clone(&service.notifications);
        let driving = service.drive(&config.notify, config.broker.as_ref(), &engine)?;
        let notifying = tokio::spawn(service.serve(self.notify, self.stop.clone()));
        let (retain, retention) = watch::channel(config.retention);
        let (send_lists, other_lists) = mpsc::unbounded_channel();
        let leading = Leading {
            engine: Arc::clone(&engine),
            anonymous_read,
            retention: retain,
            lists: send_lists,
            broker: config.broker.as_ref().map(|broker| format!("{}:{}", broker.host, broker.port)),
        };
        let state = AppState {
            engine: Arc::clone(&engine),
            anonymous_read: may_read,
            repositories_dir: self.repositories_dir,
            notify: Some(service.beside),
            limits: Limits::default(),
            shutdown: self.stop,
        };
        Ok(Leader {
            engine,
            router: http::router(state),
            lists,
            broker: config.broker.as_ref().map(super::broker::settings),
            keys_dir: config.keys_dir,
            notifications,
            retention,
            other_lists,
            phase: self.phase,
            leading: Arc::new(leading),
            notifying,
            driving,
        })
    }
}

impl Leader {
    /// Does what a leader does beside answering requests, until that ends.
    async fn run_beside<T>(self, serving: impl Future<Output = T>) -> T {
        let engine = self.engine;
        let mut tasks = tokio::task::JoinSet::new();
        if let Some(settings) = self.broker {
            let engine = Arc::clone(&engine);
            tasks.spawn(async move { match engine.drive_rabbitmq(&settings).await {} });
        }
        tasks.spawn(tick(Arc::clone(&engine)));
        tasks.spawn(self.lists.watch(Arc::clone(&engine), self.other_lists));
        tasks.spawn(prune(Arc::clone(&engine), self.retention));
        tasks.spawn(super::distributing::drive(Arc::clone(&engine), self.keys_dir, self.notifications));
        // The sockets are bound, and what comes there is taken from the next line on.
        self.phase.send_replace(Phase::Leading(self.leading));
        let served = serving.await;
        // It has been told to stop as well.
        let _ = self.notifying.await;
        drop((tasks, self.driving));
        if let Err(error) = engine.save_token_use().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "when tokens were used last could not be stored");
        }
        served
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
async fn prune(engine: Arc<Engine>, mut set: watch::Receiver<Retention>) {
    let mut interval = tokio::time::interval(set.borrow().interval);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            // Settings that were read again count at once.
            Ok(()) = set.changed() => {
                interval = tokio::time::interval(set.borrow().interval);
                interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                continue;
            }
        }
        let retention = set.borrow().clone();
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
                tokens = pruned.tokens,
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
