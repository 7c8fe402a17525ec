//! A job's log as text.

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::Shared;
use super::error::ApiError;
use super::extract::{ApiPath, Params};
use super::text::{Utf8, skip_continuation};
use crate::app::AppError;
use crate::domain::ids::JobId;
use crate::domain::protocol::ErrorBody;

/// Gives the log of an attempt as it is now. Where its middle was dropped, a line says how much.
#[utoipa::path(get, operation_id = "get_log", path = "/api/v1/jobs/{id}/log", tag = "logs",
    params(
        ("id" = JobId, Path, description = "the job"),
        ("attempt" = Option<u32>, Query, description = "number of the attempt; the last where absent"),
        ("tail" = Option<u64>, Query, description = "only so many bytes from the end"),
    ),
    responses(
        (status = 200, description = "the log", body = String, content_type = "text/plain; charset=utf-8"),
        (status = "default", description = "refused", body = ErrorBody),
    ))]
pub(super) async fn log(
    State(state): State<Shared>,
    ApiPath(id): ApiPath<JobId>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let (wanted, tail) = (params.one("attempt")?, params.one::<u64>("tail")?);
    params.finish()?;
    let attempt = attempt(&state, id, wanted).await?;
    let end = state.engine.log_end(id, attempt).await?;
    let from = tail.map_or(0, |tail| end.saturating_sub(tail));
    let reading = Reading { state, id, attempt, at: from, end, utf8: Utf8::default(), is_cut: from > 0 };
    let pieces = stream::unfold(Some(reading), |reading| async move {
        let mut reading = reading?;
        match reading.next().await {
            Ok(Some(text)) => Some((Ok(text), Some(reading))),
            Ok(None) => Some((Ok(reading.utf8.flush()), None)),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, job.id = %reading.id, "cannot read a log");
                Some((Err(error), None))
            }
        }
    });
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// The attempt that is meant, checked to be one that the job has had.
pub(super) async fn attempt(state: &Shared, id: JobId, wanted: Option<u32>) -> Result<u32, ApiError> {
    let (last, _) = state.engine.log_attempt(id).await?;
    match wanted {
        None => Ok(last),
        Some(wanted) if (1..=last).contains(&wanted) => Ok(wanted),
        Some(wanted) => {
            let message = format!("job {id} has had {last} attempts, and none is number {wanted}");
            Err(ApiError::not_found("no_such_attempt", message, "leave the attempt out to get the last one's log"))
        }
    }
}

/// How far a log has been read.
struct Reading {
    state: Shared,
    id: JobId,
    attempt: u32,
    at: u64,
    /// Where it ended when it was asked for; what is appended meanwhile does not prolong the reply.
    end: u64,
    utf8: Utf8,
    /// Begins anywhere, perhaps inside a character.
    is_cut: bool,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<String>, AppError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let Some(piece) = self.state.engine.read_log(self.id, self.attempt, self.at).await? else { return Ok(None) };
        let mut text = String::new();
        if piece.start > self.at {
            text = self.utf8.flush();
            text += &format!("\n… {} bytes left out …\n", piece.start - self.at);
        }
        self.at = piece.start + piece.data.len() as u64;
        let data = if std::mem::take(&mut self.is_cut) { skip_continuation(&piece.data) } else { &piece.data };
        text += &self.utf8.push(data);
        Ok(Some(text))
    }
}
