//! Who may use which route: one table, one check.

use std::fmt;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Shared;
use super::error::ApiError;
use super::page::{Login, html};

/// What a route demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing.
    Open,
    /// To be allowed to look.
    Read,
    /// To be allowed to change jobs.
    Submit,
    /// To be a worker.
    Worker,
}

use Access::{Open, Read, Submit, Worker};

/// Every route. One that is missing here demands the most; a test finds it.
pub(super) const TABLE: &[(Method, &str, Access)] = &[
    (Method::POST, "/api/v1/jobs", Submit),
    (Method::GET, "/api/v1/jobs", Read),
    (Method::GET, "/api/v1/jobs/{id}", Read),
    (Method::POST, "/api/v1/jobs/{id}/cancel", Submit),
    (Method::POST, "/api/v1/jobs/{id}/retry", Submit),
    (Method::GET, "/api/v1/jobs/{id}/events", Read),
    (Method::GET, "/api/v1/events", Read),
    (Method::GET, "/api/v1/jobs/{id}/log", Read),
    (Method::GET, "/api/v1/jobs/{id}/log/stream", Read),
    (Method::PUT, "/api/v1/blobs/{digest}", Submit),
    (Method::GET, "/api/v1/blobs/{digest}", Read),
    (Method::GET, "/api/v1/fleets/{fleet}/offers", Worker),
    (Method::POST, "/api/v1/batches/{batch}/claim", Worker),
    (Method::POST, "/api/v1/workers/heartbeat", Worker),
    (Method::POST, "/api/v1/batches/{batch}/intent", Worker),
    (Method::POST, "/api/v1/batches/{batch}/outcome", Worker),
    (Method::POST, "/api/v1/batches/{batch}/finding", Worker),
    (Method::POST, "/api/v1/batches/{batch}/jobs/{job}/pin", Worker),
    (Method::PUT, "/api/v1/batches/{batch}/jobs/{job}/log", Worker),
    (Method::GET, "/api/v1/openapi.json", Open),
    (Method::GET, "/healthz", Open),
    (Method::GET, "/readyz", Open),
    (Method::GET, "/metrics", Read),
    (Method::GET, "/cvmfs/{repository}/{*path}", Open),
    (Method::GET, "/login", Open),
    (Method::POST, "/login", Open),
    (Method::GET, "/assets/{file}", Open),
    (Method::GET, "/", Read),
    (Method::GET, "/jobs/{id}", Read),
];

/// Routes whose refusal is a page.
const PAGES: &[&str] = &["/", "/jobs/{id}"];

/// What a client is told that it lacks.
pub(super) const CHALLENGE: &str = "Bearer realm=\"conveyor\"";

fn demanded(method: &Method, route: &str) -> Access {
    // Where GET is answered, axum answers HEAD.
    let method = if method == Method::HEAD { &Method::GET } else { method };
    TABLE.iter().find(|(m, path, _)| m == method && *path == route).map_or(Worker, |(_, _, access)| *access)
}

/// A secret that clients send. Only its digest is kept.
#[derive(Clone, Copy)]
pub struct Token([u8; 32]);

impl Token {
    /// Takes the secret.
    pub fn new(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Tells whether a secret is this one, in a time that does not depend on where they differ.
    pub fn is(&self, secret: &str) -> bool {
        self.0.ct_eq(&Self::new(secret).0).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Name of the cookie that the page uses instead of a header.
pub(super) const COOKIE: &str = "conveyor_token";

/// Lets a request through that may use its route.
pub(super) async fn check(State(state): State<Shared>, request: Request, next: Next) -> Result<Response, ApiError> {
    // What matches no route is answered with 404, and there is nothing to protect.
    let Some(route) = request.extensions().get::<MatchedPath>() else { return Ok(next.run(request).await) };
    let demanded = demanded(request.method(), route.as_str());
    let headers = request.headers();
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    let proven = |token: &Token| {
        bearer(headers).is_some_and(|secret| token.is(secret))
            || looks && cookie(headers).is_some_and(|secret| token.is(&secret))
    };
    let allowed = match (demanded, &state.token) {
        (Open, _) => true,
        (Read, _) if state.anonymous_read => true,
        (_, Some(token)) => proven(token),
        // Without a token only browsers need care: a foreign page must not act through its reader.
        (_, None) if looks || same_site(headers) => true,
        (_, None) => {
            return Err(ApiError::forbidden("cross_site", "this request was sent by the page of another site"));
        }
    };
    if allowed {
        Ok(next.run(request).await)
    } else if PAGES.contains(&route.as_str()) {
        // A browser shows this; it knows no other way to ask.
        let page = html(StatusCode::UNAUTHORIZED, &Login { wrong: false });
        Ok(([(header::WWW_AUTHENTICATE, CHALLENGE)], page).into_response())
    } else {
        Err(ApiError::unauthorized())
    }
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

/// Tells whether a request comes from no page at all or from one of ours.
fn same_site(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    match headers.get(header::ORIGIN).map(|origin| origin.to_str()) {
        None => true,
        Some(Err(_)) => false,
        Some(Ok(origin)) => origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host),
    }
}
