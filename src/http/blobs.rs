//! Routes of payload bytes.

use axum::Json as Reply;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio_util::io::ReaderStream;

use super::AppState;
use super::body::{Path, content_length, reader};
use super::error::{ApiResult, too_large};
use crate::domain::digest::Sha256Digest;
use crate::domain::protocol::BlobReply;
use crate::store::StoreError;

pub(super) async fn put(
    State(state): State<AppState>,
    Path(digest): Path<Sha256Digest>,
    request: Request,
) -> ApiResult<Reply<BlobReply>> {
    let limit = state.engine.max_blob_bytes();
    if content_length(&request).is_some_and(|length| length > limit) {
        return Err(too_large(format!("the body is larger than {limit} bytes")));
    }
    Ok(Reply(state.engine.put_blob(digest, reader(request.into_body())).await?))
}

/// Also answers HEAD.
pub(super) async fn get(State(state): State<AppState>, Path(digest): Path<Sha256Digest>) -> ApiResult<Response> {
    let (path, size) = state.engine.blob(digest).await?;
    let file = tokio::fs::File::open(&path)
        .await
        .map_err(|source| StoreError::Io { what: format!("open blob {digest}"), source })?;
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CONTENT_LENGTH, size.to_string())];
    Ok((headers, Body::from_stream(ReaderStream::with_capacity(file, 256 * 1024))).into_response())
}
