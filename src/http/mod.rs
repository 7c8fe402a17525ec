//! The HTTP server: API, web page and, for development, the repositories themselves.
//!
//! Every handler reads its request, makes one call of [`Engine`] and writes the reply. [`router`] works without a socket;
//! [`serve()`] runs it on listeners that somebody else has bound, until somebody else says stop.

mod access;
mod blobs;
mod body;
mod changes;
mod closing;
mod cvmfs;
mod error;
mod events;
mod extract;
mod health;
mod jobs;
mod log_stream;
mod login;
mod logs;
mod openapi;
mod page;
mod repositories;
mod request;
mod serve;
mod stall;
mod standby;
#[cfg(test)]
#[allow(clippy::expect_used, clippy::unwrap_used)]
mod tests;
mod text;
mod tokens;
mod watch;
mod worker_list;
mod workers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::Engine;
pub use health::Readiness;
pub use log_stream::{LogEnd, LogText};
pub use serve::{Listener, serve};
pub use standby::until_leading;

/// What the handlers work with.
pub struct AppState {
    /// The use cases. Without a token known to them nobody may do anything but what is open to all.
    pub engine: Arc<Engine>,
    /// Whether jobs, logs and the page are shown to those without a token; may change.
    pub anonymous_read: Receiver<bool>,
    /// Directory whose repositories are served below `/cvmfs`; for development.
    pub repositories_dir: Option<PathBuf>,
    /// What slow clients are granted.
    pub limits: Limits,
    /// Ends streams and long polls.
    pub shutdown: CancellationToken,
}

/// What slow and large requests are granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Until a request's head is complete; an idle connection is closed after it, too.
    pub header_timeout: Duration,
    /// Without a byte of a request's body.
    pub body_idle: Duration,
    /// Without a byte of a reply taken.
    pub write_idle: Duration,
    /// For requests that run when the server is stopped.
    pub shutdown_grace: Duration,
    /// How long an idle connection is still served then: long enough for a request that is on its way.
    pub last_request: Duration,
    /// At the same time; more wait in the kernel's queue.
    pub connections: usize,
    /// Size of a submission in bytes.
    pub submission_bytes: usize,
    /// Size of any other JSON body in bytes.
    pub json_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(30),
            body_idle: Duration::from_secs(60),
            write_idle: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(10),
            last_request: Duration::from_millis(500),
            connections: 10_000,
            submission_bytes: 64 * 1024 * 1024,
            json_bytes: 1024 * 1024,
        }
    }
}

/// The state as handlers share it.
type Shared = Arc<AppState>;

/// Builds the server's routes.
pub fn router(state: AppState) -> Router {
    let state = Arc::new(state);
    routes()
        .split_for_parts()
        .0
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(from_fn_with_state(Arc::clone(&state), access::check))
        .layer(from_fn(request::accompany))
        .with_state(state)
}

/// Every route with its description. Who may use it stands in [`access`].
fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(jobs::submit, jobs::list))
        .routes(routes!(jobs::get))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::retry))
        .routes(routes!(jobs::resolve))
        .routes(routes!(jobs::revert))
        .routes(routes!(events::of_job))
        .routes(routes!(events::all))
        .routes(routes!(watch::submission, watch::jobs))
        .routes(routes!(logs::log))
        .routes(routes!(log_stream::follow))
        .routes(routes!(changes::changes))
        .routes(routes!(blobs::put, blobs::get))
        .routes(routes!(workers::offers))
        .routes(routes!(workers::claim))
        .routes(routes!(workers::heartbeat))
        .routes(routes!(worker_list::list))
        .routes(routes!(workers::intent))
        .routes(routes!(workers::outcome))
        .routes(routes!(workers::finding))
        .routes(routes!(workers::pin))
        .routes(routes!(workers::append_log))
        .routes(routes!(workers::append_changes))
        .routes(routes!(repositories::list))
        .routes(routes!(repositories::get))
        .routes(routes!(repositories::pause))
        .routes(routes!(repositories::resume))
        .routes(routes!(repositories::hold))
        .routes(routes!(repositories::release))
        .routes(routes!(tokens::create, tokens::list))
        .routes(routes!(tokens::revoke))
        .routes(routes!(openapi::document))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(cvmfs::file))
        .routes(routes!(login::form, login::enter))
        .routes(routes!(page::index))
        .routes(routes!(page::job::job))
        .routes(routes!(page::workers::workers))
        .routes(routes!(page::asset))
}
