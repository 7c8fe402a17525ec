//! A real server in this process: file store, HTTP over a socket, clock.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use conveyor::app::clock::{SystemClock, SystemEntropy};
use conveyor::app::{Engine, Settings};
use conveyor::broker::rabbitmq;
use conveyor::client::Client;
use conveyor::domain::ids::JobId;
use conveyor::domain::job::spec::{JobSpec, Payload, Publish, Work};
use conveyor::domain::names::{LeasePath, RepositoryName};
use conveyor::domain::plan::BatchLimits;
use conveyor::domain::token::Token;
use conveyor::http::{self, AppState, Limits};
use conveyor::store::Store;
use conveyor::store::logs::LogStore;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Repositories that every server has.
pub(crate) const REPOSITORIES: usize = 64;

/// Batches of one job.
pub(crate) fn one_by_one() -> Settings {
    Settings { batches: BatchLimits { jobs: 1, ..BatchLimits::default() }, ..Settings::default() }
}

/// What opens every server.
const TOKEN: &str = "benchmark";

pub(crate) struct Server {
    pub(crate) engine: Arc<Engine>,
    url: String,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    own: Option<TempDir>,
}

/// The engine on its files.
pub(crate) async fn engine(directory: &Path, settings: Settings) -> Arc<Engine> {
    let store = Store::open(directory).unwrap();
    let logs = LogStore::open(&directory.join("logs.db")).unwrap();
    let repositories = (0..REPOSITORIES).map(|number| (repository(number), Default::default())).collect();
    let (clock, entropy) = (Arc::new(SystemClock::default()), Arc::new(SystemEntropy));
    Arc::new(Engine::start(store, logs, None, repositories, clock, entropy, settings).await.unwrap())
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(Settings::default(), None).await
    }

    /// With batches of one, or more, and with a broker.
    pub(crate) async fn start_with(settings: Settings, broker: Option<rabbitmq::Settings>) -> Self {
        let own = tempfile::tempdir().unwrap();
        let server = Self::start_in(own.path(), settings, broker).await;
        Self { own: Some(own), ..server }
    }

    /// On what is there.
    pub(crate) async fn start_in(directory: &Path, settings: Settings, broker: Option<rabbitmq::Settings>) -> Self {
        let engine = engine(directory, settings).await;
        engine.set_bootstrap_token(&Token::new(TOKEN).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, limits) = (CancellationToken::new(), Limits::default());
        let state = AppState {
            engine: Arc::clone(&engine),
            anonymous_read: tokio::sync::watch::channel(true).1,
            repositories_dir: None,
            notify: None,
            limits: limits.clone(),
            shutdown: stop.clone(),
        };
        let serving = tokio::spawn(http::serve([listener], http::router(state), limits, stop.clone()));
        let ticking = tokio::spawn({
            let engine = Arc::clone(&engine);
            async move {
                let mut interval = tokio::time::interval(Duration::from_millis(250));
                loop {
                    interval.tick().await;
                    engine.tick().await.unwrap();
                }
            }
        });
        let mut tasks = vec![serving, ticking];
        if let Some(broker) = broker {
            let engine = Arc::clone(&engine);
            tasks.push(tokio::spawn(async move { match engine.drive_rabbitmq(&broker).await {} }));
        }
        Self { engine, url, stop, tasks, own: None }
    }

    /// A client with connections of its own.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url, Some(Token::new(TOKEN).unwrap())).unwrap()
    }

    /// A directory of its own, where it has one.
    pub(crate) fn directory(&self) -> &Path {
        self.own.as_ref().unwrap().path()
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks[1..].iter().for_each(JoinHandle::abort);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

pub(crate) fn repository(number: usize) -> RepositoryName {
    RepositoryName::new(format!("bench-{number}.example.org")).unwrap()
}

/// A job without a payload.
pub(crate) fn job(number: usize) -> JobSpec {
    JobSpec {
        id: JobId(uuid::Uuid::now_v7()),
        name: format!("job {number}"),
        work: Work::Publish(Publish::new(repository(number % REPOSITORIES), LeasePath::root(), Payload::Empty)),
        dependencies: Vec::new(),
        priority: 0,
        attempts: 1,
        timeout_s: 60,
        alone: false,
        deadline: None,
        visible_at: Vec::new(),
        visible_within_s: None,
        labels: BTreeMap::new(),
        submitter: "bench".into(),
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}
