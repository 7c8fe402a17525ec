//! `conveyor notify`: the service of notifications, alone; and how it is put together, also beside a server.

mod alone;
mod background;
mod publish;
mod subscribe;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use jiff::Timestamp;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::listeners::Inherited;
use crate::app::Engine;
use crate::app::clock::SystemClock;
use crate::app::notifications::Notifications;
use crate::config::{BrokerConfig, NotifyConfig};
use crate::domain::names::RepositoryName;
use crate::domain::signed::Claims;
use crate::http::{self, Limits, Listener, Notify, NotifySettings};
use crate::notify::verify::{Sources, Verifier};
use crate::store::Store;
pub(super) use alone::checked;

/// Subscribers that the main listener may have: it must have connections left for everything else.
const BESIDE: usize = 2000;

/// `conveyor notify …`.
#[derive(Debug, Subcommand)]
pub(super) enum NotifyCommand {
    /// Run the service of notifications alone, without jobs
    Server(alone::NotifyServerArgs),
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

/// Runs one of them.
pub(super) async fn run(command: NotifyCommand, inherited: Inherited, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        NotifyCommand::Server(args) => alone::run(args, inherited, context).await,
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
    /// Starts on a store. `engine` knows the tokens; figures are anybody's while `anonymous_read` says so.
    pub(super) async fn start(
        config: &NotifyConfig,
        keys_dir: PathBuf,
        store: Store,
        engine: &Arc<Engine>,
        anonymous_read: &watch::Receiver<bool>,
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
        let with = |settings| {
            let (notifications, engine) = (Arc::clone(&notifications), Arc::clone(engine));
            Arc::new(Notify::new(notifications, engine, settings, anonymous_read.clone(), stop.clone()))
        };
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
