//! `conveyor notify`: the service of notifications, alone; and how it is put together, also beside a server.

mod background;
mod publish;
mod subscribe;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::listeners::{self, Inherited, Kind};
use super::serving;
use super::token_lists::TokenLists;
use crate::app::clock::{SystemClock, SystemEntropy};
use crate::app::notifications::Notifications;
use crate::app::{Engine, Settings};
use crate::config::{BrokerConfig, ListenAddress, NotifyAlone, NotifyConfig, ServerFlags};
use crate::domain::fleet::Repositories;
use crate::domain::names::RepositoryName;
use crate::domain::signed::Claims;
use crate::http::{self, Limits, Listener, Notify, NotifySettings};
use crate::notify::verify::{Sources, Verifier};
use crate::store::Store;
use crate::store::logs::LogStore;

/// Subscribers that the main listener may have: it must have connections left for everything else.
const BESIDE: usize = 2000;

/// `conveyor notify …`.
#[derive(Debug, Subcommand)]
pub(super) enum NotifyCommand {
    /// Run the service of notifications alone, without jobs
    Server(NotifyServerArgs),
    /// Tell the service of notifications what a repository has published
    Publish(publish::PublishArgs),
    /// Be told of new revisions as they come, for ever
    Subscribe(subscribe::SubscribeArgs),
}

impl NotifyCommand {
    pub(super) fn is_daemon(&self) -> bool {
        matches!(self, Self::Server(_))
    }
}

/// Arguments of `conveyor notify server`.
#[derive(Debug, Args)]
pub(super) struct NotifyServerArgs {
    /// Address and port to listen on, such as 0.0.0.0:4930, or a Unix socket, such as unix:/run/conveyor/notify.sock; may be
    /// repeated
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<ListenAddress>,
    /// Where the last messages are kept
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// Runs one of them.
pub(super) async fn run(command: NotifyCommand, inherited: Inherited, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        NotifyCommand::Server(args) => serve_alone(args, inherited, context).await,
        NotifyCommand::Publish(args) => publish::run(args, context).await,
        NotifyCommand::Subscribe(args) => subscribe::run(args, context).await,
    }
}

/// A revision, for programs.
fn view(repository: &RepositoryName, claims: &Claims) -> serde_json::Value {
    let published_at = claims.published_at.and_then(|seconds| Timestamp::from_second(seconds).ok());
    serde_json::json!({
        "repository": repository,
        "revision": claims.revision,
        "root_hash": claims.root_hash,
        "published_at": published_at,
    })
}

/// Both sides of the service.
pub(super) struct Service {
    /// For a listener of its own.
    pub(super) own: Arc<Notify>,
    /// For the main listener.
    pub(super) beside: Arc<Notify>,
    subscribers: usize,
    pub(super) notifications: Arc<Notifications>,
}

impl Service {
    /// Starts on a store. `engine` knows the tokens.
    pub(super) async fn start(
        config: &NotifyConfig,
        keys_dir: PathBuf,
        store: Store,
        engine: &Arc<Engine>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let sources = Sources {
            verify: config.verify,
            keys_dir,
            urls: config.urls.clone(),
            pattern: config.repository_url.clone(),
        };
        allow_many_files();
        if !config.verify {
            tracing::warn!(
                "[notify] verify = \"off\": who may publish notifications can make clients believe in any revision"
            );
        }
        let notifications =
            Arc::new(Notifications::start(store, Verifier::new(sources), Arc::new(SystemClock::default())).await?);
        let settings = NotifySettings {
            open_publish: config.open_publish,
            open_subscribe: config.open_subscribe,
            notifiers: config.notifiers.clone(),
            subscribers: config.subscribers,
            subscribers_per_address: config.subscribers_per_address,
            publishes_per_s: config.publishes_per_s,
            ..NotifySettings::default()
        };
        let with =
            |settings| Arc::new(Notify::new(Arc::clone(&notifications), Arc::clone(engine), settings, stop.clone()));
        let beside = NotifySettings { subscribers: config.subscribers.min(BESIDE), ..settings.clone() };
        let (own, beside) = (with(settings), with(beside));
        Ok(Self { own, beside, subscribers: config.subscribers, notifications })
    }

    /// Does what is done beside answering requests, until it is dropped.
    pub(super) fn drive(
        &self,
        config: &NotifyConfig,
        broker: Option<&BrokerConfig>,
        engine: &Arc<Engine>,
    ) -> anyhow::Result<JoinSet<()>> {
        background::drive(&self.notifications, config, broker, engine)
    }

    /// Serves on listeners of its own.
    pub(super) fn serve(&self, listeners: Vec<Listener>, stop: CancellationToken) -> impl Future<Output = ()> + use<> {
        // Some more, for those who publish or are told that there is no room.
        let limits = Limits { connections: self.subscribers + 500, ..Limits::default() };
        http::serve(listeners, http::notify_router(Arc::clone(&self.own)), limits, stop)
    }
}

/// Every subscriber is an open file, and services begin with a limit of 1024.
fn allow_many_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(error) = raised {
        tracing::warn!(error = &error as &dyn std::error::Error, "the limit of open files could not be raised");
    }
}

async fn serve_alone(args: NotifyServerArgs, inherited: Inherited, context: &Context) -> anyhow::Result<ExitCode> {
    let NotifyAlone { notify: config, broker, warnings } =
        context.config.notify_alone(&args.listen, args.state_dir.as_ref())?;
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let flags = ServerFlags { token_file: context.flags.token_file.clone(), ..ServerFlags::default() };
    // Its tokens are a server's.
    let server = context.config.server(&flags)?;
    let mut signalled = serving::until_signal()?;
    serving::make_private(&config.state_dir)?;
    let open = listeners::open(inherited, Kind::Notify, &config.listen).await?;
    let store = Store::open(&config.state_dir)?;
    // Knows tokens, and is asked for nothing else.
    let engine = Engine::start(
        store.clone(),
        LogStore::in_memory()?,
        None,
        Repositories::new(),
        Arc::new(SystemClock::default()),
        Arc::new(SystemEntropy),
        Settings::default(),
    );
    let engine = Arc::new(engine.await?);
    if let Some(token) = &server.token {
        engine.set_bootstrap_token(token);
    }
    let lists = TokenLists::read(server.tokens)?;
    engine.set_file_tokens(lists.tokens());
    let stop = CancellationToken::new();
    let service = Service::start(&config, context.config.keys_dir(), store, &engine, &stop).await?;
    let driving = service.drive(&config, broker.as_ref(), &engine)?;
    for address in &open.addresses {
        tracing::info!("notifications at {}", address.url());
    }
    let (_keep, no_other_lists) = tokio::sync::mpsc::unbounded_channel();
    let watching = tokio::spawn(lists.watch(engine, no_other_lists));
    tokio::spawn({
        let stop = stop.clone();
        async move {
            let _ = signalled.wait_for(|stop| *stop).await;
            stop.cancel();
        }
    });
    service.serve(open.listeners, stop).await;
    drop(driving);
    watching.abort();
    Ok(ExitCode::SUCCESS)
}
