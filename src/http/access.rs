//! Who may do what: one rule for every route, in one place.

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::AppState;
use super::error::ApiError;

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing.
    Open,
    /// To look at jobs.
    Read,
    /// To submit and stop jobs.
    Submit,
    /// To carry them out.
    Worker,
}

/// The rule for a request. Whatever is not listed is for workers: too strict is the safe mistake.
pub(super) fn rule(method: &Method, path: &str) -> Access {
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    match path.strip_prefix("/api/v1/") {
        None => Access::Open,
        Some("openapi.json") => Access::Open,
        Some(route) => {
            let first = route.split('/').next().unwrap_or_default();
            match (first, is_read) {
                ("jobs" | "events", true) => Access::Read,
                ("jobs" | "blobs", _) => Access::Submit,
                _ => Access::Worker,
            }
        }
    }
}

/// Lets a request through or not. One token opens all for now; roles come with their own tokens.
pub(super) async fn check(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let allowed = match rule(request.method(), request.uri().path()) {
        Access::Open => true,
        Access::Read if state.anonymous_read => true,
        Access::Read | Access::Submit | Access::Worker => has_token(&state, &request),
    };
    if allowed {
        return next.run(request).await;
    }
    let message = "this needs a token, and the request has none or another one";
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        message,
        "send `Authorization: Bearer TOKEN`; the operator has the token",
    )
    .into_response()
}

fn has_token(state: &AppState, request: &Request) -> bool {
    let given =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    match (&state.token, given) {
        (Some(token), Some(given)) => token.as_bytes().ct_eq(given).into(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_its_rule() {
        let table = [
            (Method::GET, "/healthz", Access::Open),
            (Method::GET, "/cvmfs/a.b/.cvmfspublished", Access::Open),
            (Method::GET, "/api/v1/jobs", Access::Read),
            (Method::GET, "/api/v1/jobs/1/log/stream", Access::Read),
            (Method::GET, "/api/v1/events", Access::Read),
            (Method::POST, "/api/v1/jobs", Access::Submit),
            (Method::POST, "/api/v1/jobs/1/cancel", Access::Submit),
            (Method::PUT, "/api/v1/blobs/x", Access::Submit),
            (Method::GET, "/api/v1/blobs/x", Access::Submit),
            (Method::GET, "/api/v1/fleets/default/offers", Access::Worker),
            (Method::POST, "/api/v1/batches/1/claim", Access::Worker),
            (Method::POST, "/api/v1/workers/heartbeat", Access::Worker),
            (Method::POST, "/api/v1/anything", Access::Worker),
        ];
        for (method, path, access) in table {
            assert_eq!(rule(&method, path), access, "{method} {path}");
        }
    }
}
