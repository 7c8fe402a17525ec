//! Reading of request bodies: within a size, and within a time from one piece to the next.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

/// Why a body could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("no byte of the body came for {} s", idle.as_secs_f64())]
    Idle { idle: Duration },
    #[error("the body ended early")]
    Broken,
}

impl BodyError {
    /// Finds the reason again after it went through a reader.
    pub(super) fn from_io(error: &io::Error) -> Self {
        error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()).cloned().unwrap_or(Self::Broken)
    }
}

/// The size that a request announces, where it does.
pub(super) fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Refuses a body whose announced size is beyond the limit, before a byte of it is read.
pub(super) fn check_announced(headers: &HeaderMap, limit: u64) -> Result<(), BodyError> {
    if announced(headers).is_some_and(|size| size > limit) { Err(BodyError::TooLarge { limit }) } else { Ok(()) }
}

/// Reads a whole body.
pub(super) async fn collect(headers: &HeaderMap, body: Body, limit: usize, idle: Duration) -> Result<Bytes, BodyError> {
    let too_large = BodyError::TooLarge { limit: limit as u64 };
    check_announced(headers, limit as u64)?;
    let mut pieces = std::pin::pin!(pieces(body, idle));
    let Some(first) = pieces.next().await.transpose()? else { return Ok(Bytes::new()) };
    // Most bodies come in one piece and need no copy.
    let mut whole = Vec::new();
    let mut only = Some(first);
    loop {
        let size = whole.len() + only.as_ref().map_or(0, Bytes::len);
        if size > limit {
            return Err(too_large);
        }
        let Some(piece) = pieces.next().await.transpose()? else { break };
        if let Some(first) = only.take() {
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(only.unwrap_or_else(|| whole.into()))
}

/// A body as a reader.
pub(super) fn reader(body: Body, idle: Duration) -> impl AsyncRead + Unpin + Send {
    StreamReader::new(Box::pin(pieces(body, idle).map_err(io::Error::other)))
}

fn pieces(body: Body, idle: Duration) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    futures_util::stream::unfold(Some(body.into_data_stream()), move |stream| async move {
        let mut stream = stream?;
        match tokio::time::timeout(idle, stream.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(stream))),
            Ok(Some(Err(_))) => Some((Err(BodyError::Broken), None)),
            Err(_) => Some((Err(BodyError::Idle { idle }), None)),
        }
    })
}
