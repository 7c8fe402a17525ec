//! Every error's body, and which status it has.

use std::error::Error;

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tracing::Instrument;
use uuid::Uuid;

use crate::app::AppError;
use crate::domain::protocol::{ErrorBody, ErrorDetail};
use crate::store::StoreError;
use crate::store::blobs::BlobError;

/// What a route answers when it cannot do what was asked.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    detail: ErrorDetail,
}

pub(super) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>, hint: &str) -> Self {
        let detail = ErrorDetail { code: code.into(), message: message.into(), hint: hint.into() };
        Self { status, detail }
    }

    /// The request cannot be understood.
    pub(super) fn bad_request(code: &str, message: impl Into<String>, hint: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message, hint)
    }

    fn internal(error: &(dyn Error + 'static)) -> Self {
        let id = Uuid::now_v7();
        tracing::error!(error, incident = %id, "internal error");
        let message = format!("internal error {id}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            message,
            "tell the operator this number; the server's log says more",
        )
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.detail })).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(self.status, StatusCode::INSUFFICIENT_STORAGE | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        }
        response
    }
}

impl From<AppError> for ApiError {
    fn from(error: AppError) -> Self {
        match error {
            AppError::NotFound { .. } => {
                Self::new(StatusCode::NOT_FOUND, "not_found", error.to_string(), "check the id")
            }
            AppError::Invalid { code, message, hint } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message, hint)
            }
            AppError::Conflict { code, message, hint } => Self::new(StatusCode::CONFLICT, code, message, hint),
            AppError::Blob(BlobError::Store(error)) | AppError::Store(error) => error.into(),
            AppError::Blob(error @ BlobError::Mismatch { .. }) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "digest_mismatch",
                error.to_string(),
                "send the bytes that the name belongs to",
            ),
            AppError::Blob(error @ BlobError::TooLarge { .. }) => too_large(error.to_string()),
            AppError::Blob(BlobError::Receive(source)) => body_error(&source),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Full { .. } => {
                tracing::error!(error = &error as &dyn Error, "no room left");
                let message = "the server has no room left; nothing was kept of this request";
                Self::new(
                    StatusCode::INSUFFICIENT_STORAGE,
                    "storage_full",
                    message,
                    "try again later; the operator must free space",
                )
            }
            StoreError::Stopped | StoreError::NotLeader { .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "stopping",
                "the server is stopping",
                "try again in a moment",
            ),
            _ => Self::internal(&error),
        }
    }
}

/// A body larger than is taken.
pub(super) fn too_large(message: String) -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message, "send less; large payloads go into blobs")
}

/// A body that did not arrive.
pub(super) fn body_error(source: &std::io::Error) -> ApiError {
    if source.kind() == std::io::ErrorKind::TimedOut {
        return ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            "the body stopped coming",
            "send it faster, or in parts",
        );
    }
    ApiError::bad_request("body_incomplete", format!("the body could not be received: {source}"), "send it again")
}

pub(super) async fn no_such_route(request: Request) -> ApiError {
    let message = format!("there is no route {}", request.uri().path());
    ApiError::new(StatusCode::NOT_FOUND, "no_such_route", message, "see /api/v1/openapi.json")
}

pub(super) async fn wrong_method(request: Request) -> ApiError {
    let message = format!("{} is not for {}", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message, "see /api/v1/openapi.json")
}

/// Gives each request an id, shown in the log and in the answer; a panic in a route is that request's failure alone.
pub(super) async fn with_request_id(request: Request, next: Next) -> Response {
    let id = Uuid::now_v7().to_string();
    let span =
        tracing::debug_span!("request", request.id = id, method = %request.method(), path = request.uri().path());
    let answer = std::panic::AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span).await;
    let mut response = answer.unwrap_or_else(|_| {
        let message = format!("internal error {id}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message, "tell the operator this number")
            .into_response()
    });
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}
