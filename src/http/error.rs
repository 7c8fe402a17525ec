//! What every refusal and failure looks like: `{"error":{"code","message","hint"}}`.

use std::error::Error;
use std::sync::Arc;

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::access::CHALLENGE;
use super::body::BodyError;
use crate::app::AppError;
use crate::domain::protocol::{ErrorBody, ErrorDetail};
use crate::store::StoreError;
use crate::store::blobs::BlobError;

/// Seconds after which a client may ask again when a disk is full or the server stops.
const RETRY_AFTER: u32 = 10;

/// A reply that is an error.
///
/// As a response it has no body yet: [`render`] writes it once the request's id is at hand.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    hint: &'static str,
    retry_after: Option<u32>,
    /// What is logged, and never shown.
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>, hint: &'static str) -> Self {
        Self { status, code, message: message.into(), hint, retry_after: None, cause: None }
    }

    pub(super) fn bad_request(code: &'static str, message: impl Into<String>, hint: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message, hint)
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        let hint =
            "give a token: --token-file or CONVEYOR_TOKEN_FILE; over HTTP the header `Authorization: Bearer TOKEN`";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message, hint)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        let hint = "use a token with that role; an admin makes one: conveyor token create --role ROLE";
        Self::new(StatusCode::FORBIDDEN, "forbidden", message, hint)
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn not_found(code: &'static str, message: impl Into<String>, hint: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message, hint)
    }

    pub(super) fn too_large(limit: u64) -> Self {
        let message = format!("the body is larger than the {limit} bytes that are accepted here");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message, "send less, or send it in several requests")
    }

    /// Something of ours broke; the client learns the request's id only.
    pub(super) fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let hint = "try again; if it happens again, give the request id to the server's operator";
        Self {
            cause: Some(cause.into()),
            ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error", hint)
        }
    }

    /// Another server leads on the same state.
    pub(super) fn not_leader() -> Self {
        let hint =
            "ask the server that leads: the one whose /readyz answers 200; this one takes over when that one is gone";
        let message = "this server stands by: it is not the leader";
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_leader", message, hint);
        // Taking over takes less.
        Self { retry_after: Some(1), ..error }
    }

    fn with_retry_after(mut self) -> Self {
        self.retry_after = Some(RETRY_AFTER);
        self
    }

    fn store(error: StoreError) -> Self {
        match error {
            StoreError::Full { .. } => Self {
                cause: Some(error.into()),
                ..Self::new(
                    StatusCode::INSUFFICIENT_STORAGE,
                    "storage_full",
                    "the server's disk is full; nothing was changed or lost",
                    "ask the server's operator to free some space, then try again",
                )
            }
            .with_retry_after(),
            StoreError::Unwritable { .. } => Self {
                cause: Some(error.into()),
                ..Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "storage_unwritable",
                    "the server's disk cannot be written; nothing was changed or lost",
                    "ask the server's operator to look at that disk, then try again",
                )
            }
            .with_retry_after(),
            StoreError::Stopped | StoreError::NotLeader { .. } => Self {
                cause: Some(error.into()),
                ..Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "unavailable",
                    "the server is stopping or does not lead",
                    "try again in a moment",
                )
            }
            .with_retry_after(),
            error => Self::internal(error),
        }
    }
}

impl From<AppError> for ApiError {
    fn from(error: AppError) -> Self {
        match error {
            AppError::NotFound { .. } => {
                Self::not_found("not_found", error.to_string(), "check the id; `conveyor list` shows the jobs")
            }
            AppError::Invalid { code, message, hint } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message, hint)
            }
            AppError::Conflict { code, message, hint } => Self::new(StatusCode::CONFLICT, code, message, hint),
            AppError::Blob(BlobError::Mismatch { .. }) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "digest_mismatch",
                innermost(&error),
                "the bytes changed on their way or the name is wrong; send them again",
            ),
            AppError::Blob(BlobError::TooLarge { limit }) => Self::too_large(limit),
            AppError::Blob(BlobError::Receive(io)) => BodyError::from_io(&io).into(),
            AppError::Blob(BlobError::Store(error)) | AppError::Store(error) => Self::store(error),
        }
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { limit } => Self::too_large(limit),
            BodyError::Idle { .. } => Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                error.to_string(),
                "send the request again over a better connection",
            ),
            BodyError::Broken => Self::bad_request("bad_body", error.to_string(), "send the request again"),
        }
    }
}

fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// Writes the body of a response that is an error, and logs the cause of a failure: the one place where that happens.
pub(super) fn render(response: Response, request_id: &str) -> Response {
    let (mut parts, body) = response.into_parts();
    let Some(error) = parts.extensions.remove::<Arc<ApiError>>() else { return Response::from_parts(parts, body) };
    let mut message = error.message.clone();
    if let Some(cause) = &error.cause {
        tracing::error!(error = &**cause as &dyn Error, error.chain = chain(&**cause), "request failed");
        message = format!("{message} (request id {request_id})");
    }
    let detail = ErrorDetail { code: error.code.into(), message, hint: error.hint.into() };
    (parts, Json(ErrorBody { error: detail })).into_response()
}

/// The causes of an error, outermost first.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// Answers what no route matches.
pub(super) async fn no_such_route(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::not_found("no_such_route", format!("there is no {method} {path}"), "see /api/v1/openapi.json")
}

/// Answers a known path with a method that it does not have.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    let message = format!("{path} does not take {method}");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message, "see /api/v1/openapi.json")
}
