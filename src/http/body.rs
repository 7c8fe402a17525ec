//! Reading requests: bodies with limits, and parameters whose errors say what is wrong.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use futures_util::{Stream, StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;
use tokio_util::io::StreamReader;

use super::error::{ApiError, body_error, too_large};

/// Longest silence inside a body.
const IDLE: Duration = Duration::from_secs(60);
/// Bytes of a JSON body.
const JSON_LIMIT: usize = 1024 * 1024;
/// Bytes of a submission.
pub(super) const SUBMISSION_LIMIT: usize = 64 * 1024 * 1024;

/// A JSON body of at most `LIMIT` bytes.
pub(super) struct Json<T, const LIMIT: usize = JSON_LIMIT>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned, const LIMIT: usize> FromRequest<S> for Json<T, LIMIT> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let kind =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
            let status = axum::http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(ApiError::new(status, "not_json", "the body must be application/json", "set the Content-Type"));
        }
        let bytes = collect(request, LIMIT).await?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let value = T::deserialize(&mut json).and_then(|value| json.end().map(|()| value));
        value.map(Self).map_err(|error| {
            ApiError::bad_request(
                "bad_json",
                format!("the body is not what this route takes: {error}"),
                "see /api/v1/openapi.json",
            )
        })
    }
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn collect(request: Request, limit: usize) -> Result<Vec<u8>, ApiError> {
    let refuse = || too_large(format!("the body is larger than {limit} bytes"));
    if content_length(&request).is_some_and(|length| length > limit as u64) {
        return Err(refuse());
    }
    let mut bytes = Vec::new();
    let mut pieces = std::pin::pin!(pieces(request.into_body()));
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| body_error(&error))?;
        if bytes.len() + piece.len() > limit {
            return Err(refuse());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// A body to be read as it comes.
pub(super) fn reader(body: Body) -> StreamReader<impl Stream<Item = std::io::Result<bytes::Bytes>>, bytes::Bytes> {
    StreamReader::new(pieces(body).boxed())
}

pub(super) fn content_length(request: &Request) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The pieces of a body; one that falls silent ends with an error.
fn pieces(body: Body) -> impl Stream<Item = std::io::Result<bytes::Bytes>> {
    let pieces = body.into_data_stream().map_err(std::io::Error::other);
    tokio_stream::StreamExt::timeout(pieces, IDLE)
        .map(|piece| piece.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())))
}

/// Parameters of the path.
pub(super) struct Path<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let extracted = axum::extract::Path::from_request_parts(parts, state).await;
        extracted.map(|axum::extract::Path(value)| Self(value)).map_err(|error| {
            ApiError::bad_request(
                "bad_path",
                format!("{} is not understood: {}", parts.uri.path(), error.body_text()),
                "check the id",
            )
        })
    }
}

/// Parameters of the query.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let extracted = axum::extract::Query::from_request_parts(parts, state).await;
        extracted.map(|axum::extract::Query(value)| Self(value)).map_err(|error| {
            ApiError::bad_request(
                "bad_query",
                format!("the query is not understood: {}", error.body_text()),
                "see /api/v1/openapi.json",
            )
        })
    }
}
