//! The routes without a socket, and over one where the socket is what matters.

mod access;
mod blobs;
mod cvmfs;
mod errors;
mod events;
mod hostile;
mod jobs;
mod logs;
mod offers;
mod openapi;
mod page;
mod progress;
mod roles;
mod socket;
mod standby;
mod tokens;
mod watch;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use eventsource_stream::{Event, Eventsource};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use uuid::Uuid;

use super::notify::tests::notify;
use super::{AppState, Limits, NotifySettings, router};
use crate::app::clock::{SystemClock, SystemEntropy};
use crate::app::{Engine, Settings};
use crate::domain::plan::BatchLimits;
use crate::domain::protocol::ErrorBody;
use crate::domain::token::Token;
use crate::store::Store;
use crate::store::blobs::BlobStore;
use crate::store::logs::LogStore;

pub(super) const TOKEN: &str = "a;secret;of;seven,words,\"quoted\"";
pub(super) const REPOSITORY: &str = "software.example.org";

/// A server without a socket, and how to talk to it.
pub(super) struct Server {
    pub(super) engine: Arc<Engine>,
    pub(super) router: Router,
    pub(super) shutdown: CancellationToken,
    pub(super) directory: tempfile::TempDir,
}

/// What a server answered.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The error's code, once it is certain that it is one of ours.
    pub(super) fn code(&self) -> String {
        let body: ErrorBody = serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}: not an error body: {}", self.status, self.text()));
        assert!(!body.error.message.is_empty() && !body.error.hint.is_empty());
        body.error.code
    }
}

/// One job a batch, so that each is claimed by itself.
fn one_by_one() -> Settings {
    Settings { batches: BatchLimits { jobs: 1, ..BatchLimits::default() }, ..Settings::default() }
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut AppState)) -> Self {
        Self::on(Store::in_memory().unwrap(), tempfile::tempdir().unwrap(), change).await
    }

    /// With a database in a file, and so with a writer and readers on threads of their own.
    pub(super) async fn on_disk() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::on(Store::open(directory.path()).unwrap(), directory, |_| {}).await
    }

    /// With other settings of the engine.
    pub(super) async fn with_settings(settings: Settings) -> Self {
        Self::assemble(Store::in_memory().unwrap(), tempfile::tempdir().unwrap(), settings, |_| {}).await
    }

    /// On a store of the test's own.
    pub(super) async fn on(store: Store, directory: tempfile::TempDir, change: impl FnOnce(&mut AppState)) -> Self {
        Self::assemble(store, directory, one_by_one(), change).await
    }

    async fn assemble(
        store: Store,
        directory: tempfile::TempDir,
        settings: Settings,
        change: impl FnOnce(&mut AppState),
    ) -> Self {
        let blobs = BlobStore::open(&directory.path().join("blobs"), 64 * 1024).unwrap();
        let repositories =
            [(REPOSITORY.parse_name(), Default::default()), ("other.example.org".parse_name(), Default::default())];
        let engine = Engine::start(
            store,
            LogStore::in_memory().unwrap(),
            Some(blobs),
            repositories.into(),
            Arc::new(SystemClock::default()),
            Arc::new(SystemEntropy),
            settings,
        );
        let engine = Arc::new(engine.await.unwrap());
        engine.set_bootstrap_token(&Token::new(TOKEN).unwrap());
        let shutdown = CancellationToken::new();
        let mut state = AppState {
            engine: Arc::clone(&engine),
            anonymous_read: tokio::sync::watch::channel(false).1,
            repositories_dir: Some(directory.path().join("repositories")),
            notify: Some(notify(&engine, &shutdown, NotifySettings::default()).await),
            limits: Limits::default(),
            shutdown: shutdown.clone(),
        };
        change(&mut state);
        Self { engine, router: router(state), shutdown, directory }
    }

    /// Sends a request as it is.
    pub(super) async fn raw(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        assert!(parts.headers.contains_key("x-request-id"));
        Reply { status: parts.status, headers: parts.headers, body }
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.raw(request("GET", path).body(Body::empty()).unwrap()).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Reply {
        let request = request("POST", path).header("content-type", "application/json");
        self.raw(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// The status alone; the body may never end.
    pub(super) async fn status(&self, request: Request<Body>) -> StatusCode {
        self.router.clone().oneshot(request).await.unwrap().status()
    }

    /// Opens a stream of events.
    pub(super) async fn stream(&self, path: &str, last_event_id: Option<&str>) -> Sse {
        let mut request = request("GET", path);
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Sse(response.into_body().into_data_stream().eventsource().map(Result::unwrap).boxed())
    }

    /// Opens a stream of events by a request with a body.
    pub(super) async fn stream_of(&self, path: &str, body: Value) -> Sse {
        let request = request("POST", path).header("content-type", "application/json");
        let response = self.router.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Sse(response.into_body().into_data_stream().eventsource().map(Result::unwrap).boxed())
    }

    /// Opens a stream of events with another token.
    pub(super) async fn stream_as(&self, secret: &str, path: &str) -> Sse {
        let request = Request::get(path).header("authorization", format!("Bearer {secret}"));
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Sse(response.into_body().into_data_stream().eventsource().map(Result::unwrap).boxed())
    }

    /// Submits one job and returns its id.
    pub(super) async fn submit(&self, name: &str) -> String {
        let job = job(name);
        let reply = self.post("/api/v1/jobs", job.clone()).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
        job["id"].as_str().unwrap().to_owned()
    }

    pub(super) async fn state_of(&self, job: &str) -> String {
        self.get(&format!("/api/v1/jobs/{job}")).await.json()["state"].as_str().unwrap().to_owned()
    }
}

/// A stream of events.
pub(super) struct Sse(BoxStream<'static, Event>);

impl Sse {
    /// The next event; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Event> {
        tokio::time::timeout(Duration::from_secs(120), self.0.next()).await.expect("an event or the end comes")
    }

    /// The next event's type, id and data.
    pub(super) async fn event(&mut self) -> (String, String, Value) {
        let event = self.next().await.expect("the stream goes on");
        (event.event, event.id, serde_json::from_str(&event.data).unwrap())
    }

    /// Tells that nothing is there yet.
    pub(super) fn is_silent(&mut self) -> bool {
        self.0.next().now_or_never().is_none()
    }
}

/// A request with the token.
pub(super) fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header("authorization", format!("Bearer {TOKEN}"))
}

/// A job that changes nothing.
pub(super) fn job(name: &str) -> Value {
    json!({
        "id": Uuid::now_v7(),
        "name": name,
        "work": {"kind": "publish", "repository": REPOSITORY, "lease_path": "/a", "payload": {"type": "empty"}},
    })
}

trait ParseName {
    fn parse_name(&self) -> crate::domain::names::RepositoryName;
}

impl ParseName for str {
    fn parse_name(&self) -> crate::domain::names::RepositoryName {
        crate::domain::names::RepositoryName::new(self).unwrap()
    }
}
