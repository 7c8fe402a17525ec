//! Who may use which route: one table, one check.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;

use super::Shared;
use super::error::ApiError;
use super::page::{Login, html};
use crate::app::{Caller, Denied};
use crate::domain::access::{Role, Roles};
use crate::domain::ids::JobId;

/// What a route demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing.
    Open,
    /// This role, or one that includes it.
    Role(Role),
    /// `operator`, or `submit` for jobs of the same name's tokens: the handler asks [`may_steer`].
    Steer,
    /// `submit` or `worker`: who stores a payload looks whether it is there, who carries it out fetches it.
    Payload,
}

const READ: Access = Access::Role(Role::Read);
const SUBMIT: Access = Access::Role(Role::Submit);
const WORKER: Access = Access::Role(Role::Worker);
const OPERATOR: Access = Access::Role(Role::Operator);
const ADMIN: Access = Access::Role(Role::Admin);

use Access::{Open, Payload, Steer};

impl Access {
    fn allows(self, roles: &Roles) -> bool {
        match self {
            Self::Open => true,
            Self::Role(role) => roles.include(role),
            Self::Steer => roles.include(Role::Submit),
            Self::Payload => roles.include(Role::Submit) || roles.include(Role::Worker),
        }
    }

    /// What is needed, in words.
    fn needed(self) -> &'static str {
        match self {
            // Never asked: everybody may.
            Self::Open => "no role",
            Self::Role(role) => role.as_str(),
            Self::Steer => "submit or operator",
            Self::Payload => "submit or worker",
        }
    }
}

/// Every route. One that is missing here demands the most; a test finds it.
pub(super) const TABLE: &[(Method, &str, Access)] = &[
    (Method::POST, "/api/v1/jobs", SUBMIT),
    (Method::GET, "/api/v1/jobs", READ),
    (Method::GET, "/api/v1/jobs/{id}", READ),
    (Method::POST, "/api/v1/jobs/{id}/cancel", Steer),
    (Method::POST, "/api/v1/jobs/{id}/retry", Steer),
    (Method::POST, "/api/v1/jobs/{id}/resolve", OPERATOR),
    (Method::POST, "/api/v1/jobs/{id}/revert", SUBMIT),
    (Method::GET, "/api/v1/jobs/{id}/events", READ),
    (Method::GET, "/api/v1/events", READ),
    (Method::GET, "/api/v1/watch", READ),
    (Method::POST, "/api/v1/watch", READ),
    (Method::GET, "/api/v1/jobs/{id}/log", READ),
    (Method::GET, "/api/v1/jobs/{id}/log/stream", READ),
    (Method::GET, "/api/v1/jobs/{id}/changes", READ),
    (Method::PUT, "/api/v1/blobs/{digest}", SUBMIT),
    (Method::GET, "/api/v1/blobs/{digest}", Payload),
    (Method::GET, "/api/v1/fleets/{fleet}/offers", WORKER),
    (Method::POST, "/api/v1/batches/{batch}/claim", WORKER),
    (Method::POST, "/api/v1/workers/heartbeat", WORKER),
    (Method::GET, "/api/v1/workers", READ),
    (Method::POST, "/api/v1/batches/{batch}/intent", WORKER),
    (Method::POST, "/api/v1/batches/{batch}/outcome", WORKER),
    (Method::POST, "/api/v1/batches/{batch}/finding", WORKER),
    (Method::POST, "/api/v1/batches/{batch}/jobs/{job}/pin", WORKER),
    (Method::PUT, "/api/v1/batches/{batch}/jobs/{job}/log", WORKER),
    (Method::PUT, "/api/v1/batches/{batch}/jobs/{job}/changes", WORKER),
    (Method::GET, "/api/v1/repositories", READ),
    (Method::GET, "/api/v1/repositories/{name}", READ),
    (Method::POST, "/api/v1/repositories/{name}/pause", OPERATOR),
    (Method::POST, "/api/v1/repositories/{name}/resume", OPERATOR),
    (Method::POST, "/api/v1/repositories/{name}/hold", OPERATOR),
    (Method::POST, "/api/v1/repositories/{name}/release", OPERATOR),
    (Method::POST, "/api/v1/tokens", ADMIN),
    (Method::GET, "/api/v1/tokens", ADMIN),
    (Method::POST, "/api/v1/tokens/{id}/revoke", ADMIN),
    (Method::GET, "/api/v1/openapi.json", Open),
    (Method::GET, "/healthz", Open),
    (Method::GET, "/readyz", Open),
    (Method::GET, "/metrics", READ),
    (Method::GET, "/cvmfs/{repository}/{*path}", Open),
    (Method::GET, "/login", Open),
    (Method::POST, "/login", Open),
    (Method::GET, "/assets/{file}", Open),
    (Method::GET, "/", READ),
    (Method::GET, "/jobs/{id}", READ),
    (Method::GET, "/workers", READ),
];

/// Routes whose refusal is a page.
const PAGES: &[&str] = &["/", "/jobs/{id}", "/workers"];

/// What a client is told that it lacks.
pub(super) const CHALLENGE: &str = "Bearer realm=\"conveyor\"";

fn demanded(method: &Method, route: &str) -> Access {
    // Where GET is answered, axum answers HEAD.
    let method = if method == Method::HEAD { &Method::GET } else { method };
    TABLE.iter().find(|(m, path, _)| m == method && *path == route).map_or(ADMIN, |(_, _, access)| *access)
}

/// Name of the cookie that the page uses instead of a header.
pub(super) const COOKIE: &str = "conveyor_token";

/// Lets a request through that may use its route. Handlers find the [`Caller`] among its extensions.
pub(super) async fn check(State(state): State<Shared>, mut request: Request, next: Next) -> Result<Response, ApiError> {
    // What matches no route is answered with 404, and there is nothing to protect.
    let Some(route) = request.extensions().get::<MatchedPath>() else { return Ok(next.run(request).await) };
    let is_page = PAGES.contains(&route.as_str());
    let demanded = demanded(request.method(), route.as_str());
    if demanded == Open {
        return Ok(next.run(request).await);
    }
    let proven = proven(&state, &request, demanded);
    if let Ok(caller) = &proven {
        tracing::Span::current().record("token.id", tracing::field::display(&caller.id));
    }
    let refusal = match proven {
        Ok(caller) if demanded.allows(&caller.roles) => {
            request.extensions_mut().insert(caller.clone());
            if request.method() != Method::GET {
                return Ok(next.run(request).await);
            }
            // A look may wait long for something to come; nothing is given to somebody who may no longer have it.
            let response = {
                let engine = Arc::clone(&state.engine);
                tokio::select! {
                    biased;
                    response = next.run(request) => Some(response),
                    () = engine.until_void(&caller) => None,
                }
            };
            return match response {
                Some(response) => Ok(until(response, async move { state.engine.until_void(&caller).await })),
                None => {
                    Err(ApiError::unauthorized("the request's token was good when it began to wait, and is not now"))
                }
            };
        }
        _ if demanded == READ && *state.anonymous_read.borrow() => {
            let response = next.run(request).await;
            return Ok(until(response, until_closed(state)));
        }
        Ok(caller) => ApiError::forbidden(format!(
            "this needs the role {}, and token {} ({}) has {}",
            demanded.needed(),
            caller.id,
            caller.name,
            caller.roles
        )),
        Err(why) => {
            let why = why.map_or_else(|| "the request has none".to_owned(), |denied| denied.to_string());
            ApiError::unauthorized(format!("this needs a token with the role {}: {why}", demanded.needed()))
        }
    };
    if is_page {
        // A browser shows this; it knows no other way to ask.
        let page = html(refusal.status(), &Login { problem: None });
        return Ok(([(header::WWW_AUTHENTICATE, CHALLENGE)], page).into_response());
    }
    Err(refusal)
}

/// Who sends a request; without a token the error is empty.
fn proven(state: &Shared, request: &Request, demanded: Access) -> Result<Caller, Option<Denied>> {
    let headers = request.headers();
    // A cookie comes with requests that another site's page caused, and lies in the browser: it looks, and no more.
    let looks = demanded == READ && matches!(*request.method(), Method::GET | Method::HEAD);
    let secret = bearer(headers).map(Cow::from).or_else(|| cookie(headers).filter(|_| looks).map(Cow::from));
    state.engine.authenticate(&secret.ok_or(None)?).map_err(Some)
}

/// Ends a stream of events when whoever opened it may look no more: it would go on for ever.
fn until(response: Response, over: impl Future<Output = ()> + Send + 'static) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE);
    if kind.is_none_or(|kind| kind != "text/event-stream") {
        return response;
    }
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(over))))
}

/// Waits until nothing is shown any more to those without a token.
async fn until_closed(state: Shared) {
    let mut open = state.anonymous_read.clone();
    if open.wait_for(|open| !*open).await.is_err() {
        // Nobody is there who could change it.
        std::future::pending().await
    }
}

/// Lets through who may change this job: an operator, or whose it is.
///
/// What hangs on one's own jobs goes with them, also where it is another's: they asked for that when they submitted it so.
pub(super) async fn may_steer(state: &Shared, caller: &Caller, id: JobId) -> Result<(), ApiError> {
    if caller.roles.include(Role::Operator) {
        return Ok(());
    }
    let owner = state.engine.owner(id).await?;
    if owner.as_ref() == Some(&caller.name) {
        return Ok(());
    }
    let of = owner.map_or_else(|| "nobody that is known".to_owned(), |name| name.to_string());
    Err(ApiError::forbidden(format!(
        "job {id} is of {of}; to change it needs the role operator, and token {} ({}) has {}",
        caller.id, caller.name, caller.roles
    )))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, secret) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

/// The secret in the page's cookie: hexadecimal, so that any secret fits.
fn cookie(headers: &HeaderMap) -> Option<String> {
    let value = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))?;
    String::from_utf8(hex::decode(value).ok()?).ok()
}
