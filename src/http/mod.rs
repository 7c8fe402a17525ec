//! The HTTP interface: routes, access, streams. The library binds no socket and catches no signal; [`serve`] is handed both.

mod access;
mod batches;
mod blobs;
mod body;
mod error;
mod events;
mod health;
mod jobs;
mod logs;
mod repositories;
mod server;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post, put};
use tokio::sync::watch;

use crate::app::Engine;
pub use server::serve;

/// What every route works with.
#[derive(Clone)]
pub struct AppState {
    engine: Arc<Engine>,
    token: Option<Arc<str>>,
    anonymous_read: bool,
    repositories_dir: Option<Arc<PathBuf>>,
    shutdown: watch::Receiver<bool>,
}

impl AppState {
    /// A server of this engine. Without a token nothing but open routes answers.
    pub fn new(engine: Arc<Engine>, token: Option<String>) -> Self {
        let (_, shutdown) = watch::channel(false);
        Self { engine, token: token.map(Arc::from), anonymous_read: false, repositories_dir: None, shutdown }
    }

    /// Lets everyone look, without a token.
    pub fn with_anonymous_read(mut self, anonymous_read: bool) -> Self {
        self.anonymous_read = anonymous_read;
        self
    }

    /// Serves the repositories below this directory at `/cvmfs/NAME/`.
    pub fn with_repositories(mut self, directory: Option<PathBuf>) -> Self {
        self.repositories_dir = directory.map(Arc::new);
        self
    }

    /// Ends streams and long polls when this says true.
    pub fn with_shutdown(mut self, shutdown: watch::Receiver<bool>) -> Self {
        self.shutdown = shutdown;
        self
    }
}

/// All routes.
pub fn router(state: AppState) -> Router {
    let api = Router::new()
        .route("/jobs", post(jobs::submit).get(jobs::list))
        .route("/jobs/{id}", get(jobs::show))
        .route("/jobs/{id}/cancel", post(jobs::cancel))
        .route("/jobs/{id}/retry", post(jobs::retry))
        .route("/jobs/{id}/events", get(events::of_job))
        .route("/jobs/{id}/log", get(logs::read))
        .route("/jobs/{id}/log/stream", get(logs::stream))
        .route("/events", get(events::of_all))
        .route("/blobs/{digest}", put(blobs::put).get(blobs::get))
        .route("/fleets/{fleet}/offers", get(batches::offers))
        .route("/batches/{id}/claim", post(batches::claim))
        .route("/batches/{id}/intent", post(batches::intent))
        .route("/batches/{id}/outcome", post(batches::outcome))
        .route("/batches/{id}/finding", post(batches::finding))
        .route("/batches/{batch}/jobs/{job}/pin", post(batches::pin))
        .route("/batches/{batch}/jobs/{job}/log", put(logs::append))
        .route("/workers/heartbeat", post(batches::heartbeat));
    Router::new()
        .nest("/api/v1", api)
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/cvmfs/{repository}/{*path}", get(repositories::file))
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(axum::extract::DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn_with_state(state.clone(), access::check))
        .layer(axum::middleware::from_fn(error::with_request_id))
        .with_state(state)
}
