//! What surrounds every request: an id, a span of the log, and care that a panic ends this request only.

use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tracing::Instrument;
use uuid::Uuid;

use super::error::{ApiError, render};

/// The header that carries a request's id.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Runs a request under an id of its own and finishes its response.
pub(super) async fn accompany(request: Request, next: Next) -> Response {
    let id = Uuid::now_v7().to_string();
    // Neither headers nor the query: they may hold secrets or be long.
    let span = tracing::info_span!("request", request.id = %id, method = %request.method(), path = request.uri().path(), token.id = tracing::field::Empty);
    async {
        let response = AssertUnwindSafe(next.run(request))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| ApiError::internal("the handler panicked").into_response());
        let mut response = render(response, &id);
        tracing::debug!(status = response.status().as_u16(), "answered");
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(REQUEST_ID, id);
        }
        response
    }
    .instrument(span)
    .await
}
