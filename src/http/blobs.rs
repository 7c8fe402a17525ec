//! Payload bytes, named by what they hash to.

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::error::ApiError;
use super::extract::ApiPath;
use super::{Shared, body};
use crate::domain::digest::Sha256Digest;
use crate::domain::protocol::{BlobReply, ErrorBody};
use crate::store::StoreError;

/// Bytes read from a file at once.
pub(super) const PIECE: usize = 128 * 1024;

/// Stores a blob. It is there when the reply comes, whole and on stable storage; storing it again changes nothing.
#[utoipa::path(put, operation_id = "put_blob", path = "/api/v1/blobs/{digest}", tag = "blobs",
    params(("digest" = String, Path, description = "`sha256:` and 64 hexadecimal digits")),
    request_body(content = String, content_type = "application/octet-stream", description = "the bytes"),
    responses(
        (status = 201, description = "stored", body = BlobReply),
        (status = 200, description = "was there already", body = BlobReply),
        (status = "default", description = "refused", body = ErrorBody),
    ))]
pub(super) async fn put(
    State(state): State<Shared>,
    ApiPath(digest): ApiPath<Sha256Digest>,
    request: Request,
) -> Result<(StatusCode, Json<BlobReply>), ApiError> {
    let limit = state.engine.max_blob_bytes();
    body::check_announced(request.headers(), limit)?;
    let mut content = body::reader(request.into_body(), state.limits.body_idle);
    let Ok((_, size)) = state.engine.blob(digest).await else {
        let reply = state.engine.put_blob(digest, content).await?;
        return Ok((StatusCode::CREATED, Json(reply)));
    };
    // Taken in all the same: many clients see a broken connection, and no reply, when they are cut short.
    let mut rest = (&mut content).take(limit);
    let copied = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
    copied.map_err(|error| body::BodyError::from_io(&error))?;
    Ok((StatusCode::OK, Json(BlobReply { digest, size })))
}

/// Gives a blob, or with HEAD only tells whether it is there.
#[utoipa::path(method(get, head), operation_id = "get_blob", path = "/api/v1/blobs/{digest}", tag = "blobs",
    params(("digest" = String, Path, description = "`sha256:` and 64 hexadecimal digits")),
    responses(
        (status = 200, description = "the bytes", body = String, content_type = "application/octet-stream"),
        (status = "default", description = "refused", body = ErrorBody),
    ))]
pub(super) async fn get(
    State(state): State<Shared>,
    ApiPath(digest): ApiPath<Sha256Digest>,
) -> Result<Response, ApiError> {
    let (path, size) = state.engine.blob(digest).await?;
    let file = tokio::fs::File::open(&path)
        .await
        .map_err(|error| ApiError::internal(StoreError::io(format!("open blob {digest}"))(error)))?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
        (header::CACHE_CONTROL, "private, max-age=31536000, immutable".to_owned()),
    ];
    Ok((headers, Body::from_stream(ReaderStream::with_capacity(file, PIECE))).into_response())
}
