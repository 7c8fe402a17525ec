//! Notifications in the two dialects that clients of CernVM-FS speak: that of `cvmfs-notify` ([`websocket`]) and that of the
//! gateway ([`sse`]). docs/notifications.md says what each client does with which answer; little of it may be changed.

mod clients;
mod health;
mod publish;
mod sse;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests;
mod websocket;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::{CHALLENGE, bearer};
use super::stall::Stalled;
use super::{error, request};
use crate::app::notifications::{Counted, Dialect, Notifications};
use crate::app::{Caller, Engine};
use crate::domain::access::{Role, TokenName};
use crate::domain::names::RepositoryName;
use clients::{Clients, Place};
pub(super) use health::figures;

/// What subscribers and publishers are granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifySettings {
    /// Anybody may publish: what is told is verified in any case.
    pub open_publish: bool,
    /// Anybody may subscribe.
    pub open_subscribe: bool,
    /// The owners of the tokens that may publish about a repository; all with the role, where it is not named.
    pub notifiers: BTreeMap<RepositoryName, BTreeSet<TokenName>>,
    /// Subscribers at the same time.
    pub subscribers: usize,
    /// Subscribers at the same time of one address.
    pub subscribers_per_address: usize,
    /// Messages a second that one address may publish without a token.
    pub publishes_per_s: u32,
    /// Size of a message in bytes.
    pub message_bytes: usize,
    /// Repositories of one WebSocket.
    pub repositories_per_socket: usize,
    /// Least time between two events on one stream: a proxy may make one chunk of two, of which the C++ client loses the second.
    pub pause: Duration,
    /// Without a byte of a body, or of an answer taken.
    pub idle: Duration,
}

impl Default for NotifySettings {
    fn default() -> Self {
        Self {
            open_publish: false,
            open_subscribe: true,
            notifiers: BTreeMap::new(),
            subscribers: 20_000,
            subscribers_per_address: 1000,
            publishes_per_s: 20,
            message_bytes: 1 << 20,
            repositories_per_socket: 256,
            pause: Duration::from_secs(1),
            idle: Duration::from_secs(60),
        }
    }
}

/// What these routes work with.
pub struct Notify {
    notifications: Arc<Notifications>,
    engine: Arc<Engine>,
    settings: NotifySettings,
    clients: Arc<Clients>,
    /// Anybody may read figures.
    anonymous_read: watch::Receiver<bool>,
    shutdown: CancellationToken,
}

impl Notify {
    /// `engine` knows the tokens. Figures are anybody's while `anonymous_read` says so. Streams are cut when `shutdown` is
    /// cancelled.
    pub fn new(
        notifications: Arc<Notifications>,
        engine: Arc<Engine>,
        settings: NotifySettings,
        anonymous_read: watch::Receiver<bool>,
        shutdown: CancellationToken,
    ) -> Self {
        let clients = Arc::new(Clients::new(&settings));
        Self { notifications, engine, settings, clients, anonymous_read, shutdown }
    }

    /// What is told here.
    pub fn notifications(&self) -> &Arc<Notifications> {
        &self.notifications
    }

    /// Lets in who has a role, or anybody where that is open.
    fn authorize(&self, headers: &HeaderMap, open: bool, role: Role) -> Result<Option<Caller>, Refused> {
        let Some(secret) = bearer(headers) else {
            if open {
                return Ok(None);
            }
            return Err(Refused::unauthorized(format!(
                "this needs a token with the role {role}: the request has none"
            )));
        };
        match self.engine.authenticate(secret) {
            Ok(caller) if caller.roles.include(role) => Ok(Some(caller)),
            _ if open => Ok(None),
            Ok(caller) => Err(Refused::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                format!("this needs the role {role}, and token {} ({}) has {}", caller.id, caller.name, caller.roles),
            )),
            Err(denied) => Err(Refused::unauthorized(format!("this needs a token with the role {role}: {denied}"))),
        }
    }

    /// Lets a subscriber in and counts it; its stream is to end with what is given.
    fn admit(
        self: &Arc<Self>,
        headers: &HeaderMap,
        (peer, stalled): (Peer, Stalled),
        dialect: Dialect,
    ) -> Result<(Option<Caller>, Seat), Refused> {
        let caller = self.authorize(headers, self.settings.open_subscribe, Role::Read)?;
        let caller = caller.filter(|_| !self.settings.open_subscribe);
        let figures = self.notifications.figures();
        let place = Clients::enter(&self.clients, peer.0).map_err(|why| {
            figures.turned_away();
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_subscribers", why)
        })?;
        Ok((caller, Seat { counted: figures.subscriber(dialect), stalled, _place: place }))
    }

    /// Waits for the end of a stream: the server stops, or the token that opened it is not good any more.
    async fn cut(self: Arc<Self>, caller: Option<Caller>) {
        match caller {
            None => self.shutdown.cancelled().await,
            Some(caller) => tokio::select! {
                () = self.shutdown.cancelled() => {}
                () = self.engine.until_void(&caller) => {}
            },
        }
    }
}

/// What a subscriber has while it is there.
struct Seat {
    counted: Counted,
    stalled: Stalled,
    _place: Place,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.stalled.is_so() {
            self.counted.dropped();
        }
    }
}

/// The routes with their descriptions.
pub(super) fn routes() -> OpenApiRouter<Arc<Notify>> {
    OpenApiRouter::new()
        .routes(routes!(publish::publish))
        .routes(routes!(publish::publish_to_gateway))
        .routes(routes!(websocket::subscribe))
        .routes(routes!(sse::subscribe))
}

/// These routes, and those that tell how the service stands, for a listener of their own.
pub fn notify_router(notify: Arc<Notify>) -> Router {
    Router::from(routes())
        .merge(health::routes())
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(from_fn(request::accompany))
        .with_state(notify)
}

/// Where a request comes from; unknown over a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer(pub(super) Option<IpAddr>);

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = std::convert::Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get().copied().unwrap_or(Self(None)))
    }
}

/// What both dialects ask with.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct SubscribeRequest {
    /// Always 1.
    #[allow(dead_code, reason = "clients must send it, and any number will do")]
    version: i64,
    /// Fully qualified name.
    repository: String,
}

/// What both dialects answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Answer {
    /// `ok` or `error`.
    status: &'static str,
    /// A word for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// A sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl Answer {
    const OK: Self = Self { status: "ok", reason: None, message: None };

    fn error(reason: &'static str, message: String) -> Self {
        Self { status: "error", reason: Some(reason), message: Some(message).filter(|text| !text.is_empty()) }
    }
}

/// A refusal in the form of these dialects.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    reason: &'static str,
    message: String,
}

impl Refused {
    fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }

    fn unauthorized(message: String) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(Answer::error(self.reason, self.message))).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        response
    }
}
