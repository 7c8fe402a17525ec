//! The paths that a job changed, as text.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::Shared;
use super::error::ApiError;
use super::extract::{ApiPath, Params};
use super::logs::attempt;
use crate::domain::ids::JobId;
use crate::domain::protocol::ErrorBody;

/// Gives the paths that an attempt changes, or would have changed, a line each: `A /path` (added), `M /path` (modified) or
/// `D /path` (removed, with all below it). Bytes that are not printable UTF-8, and the backslash, are written as `\xHH`. Where
/// there are too many, the last line begins with `#` and says how many are left out.
#[utoipa::path(get, operation_id = "get_changes", path = "/api/v1/jobs/{id}/changes", tag = "logs",
    params(
        ("id" = JobId, Path, description = "the job"),
        ("attempt" = Option<u32>, Query, description = "number of the attempt; the last where absent"),
    ),
    responses(
        (status = 200, description = "the paths; nothing where there are none, or before they are known", body = String, content_type = "text/plain; charset=utf-8"),
        (status = "default", description = "refused", body = ErrorBody),
    ))]
pub(super) async fn changes(
    State(state): State<Shared>,
    ApiPath(id): ApiPath<JobId>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let wanted = params.one("attempt")?;
    params.finish()?;
    let attempt = attempt(&state, id, wanted).await?;
    let pieces = stream::unfold(Some(0), move |from| {
        let state = Shared::clone(&state);
        async move {
            let from = from?;
            match state.engine.read_changes(id, attempt, from).await {
                Ok(Some(piece)) => {
                    let next = piece.start + piece.data.len() as u64;
                    Some((Ok(Bytes::from(piece.data)), Some(next)))
                }
                Ok(None) => None,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, job.id = %id, "cannot read a list of changed paths");
                    Some((Err(error), None))
                }
            }
        }
    });
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(pieces)).into_response())
}
