//! Routes of logs: whole, as a stream, and from the worker.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json as Reply;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use super::AppState;
use super::body::{Path, Query, collect};
use super::error::{ApiError, ApiResult};
use super::events::HEARTBEAT;
use crate::app::Engine;
use crate::domain::ids::{BatchId, JobId};
use crate::domain::job::state::StateKind;
use crate::domain::protocol::LogPosition;

/// Bytes of one piece from a worker.
const PIECE_LIMIT: usize = 1024 * 1024;

#[derive(Deserialize)]
pub(super) struct Wanted {
    attempt: Option<u32>,
    tail: Option<u64>,
}

/// The log of one attempt as text.
pub(super) async fn read(
    State(state): State<AppState>,
    Path(id): Path<JobId>,
    Query(query): Query<Wanted>,
) -> ApiResult<Response> {
    let (last, _) = state.engine.log_attempt(id).await?;
    let attempt = query.attempt.unwrap_or(last);
    let from = match query.tail {
        Some(tail) => state.engine.log_end(id, attempt).await?.saturating_sub(tail),
        None => 0,
    };
    let engine = Arc::clone(&state.engine);
    let pieces = futures_util::stream::try_unfold(from, move |from| {
        let engine = Arc::clone(&engine);
        async move {
            let piece = engine.read_log(id, attempt, from).await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(piece.map(|piece| {
                let mut data = gap(piece.start - from).into_bytes();
                let next = piece.start + piece.data.len() as u64;
                data.extend_from_slice(&piece.data);
                (bytes::Bytes::from(data), next)
            }))
        }
    });
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(pieces)).into_response())
}

fn gap(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!("\n… {bytes} bytes left out …\n") }
}

#[derive(Deserialize)]
pub(super) struct Append {
    offset: u64,
}

/// Takes a piece from the worker that holds the claim.
pub(super) async fn append(
    State(state): State<AppState>,
    Path((batch, job)): Path<(BatchId, JobId)>,
    Query(query): Query<Append>,
    request: Request,
) -> ApiResult<Reply<LogPosition>> {
    let token = request.headers().get("conveyor-claim").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let token = token.ok_or_else(|| {
        ApiError::bad_request("no_claim", "the header Conveyor-Claim is missing", "send the claim's token in it")
    })?;
    let data = collect(request, PIECE_LIMIT).await?;
    let end = state.engine.append_log(batch, job, token, query.offset, data).await?;
    Ok(Reply(LogPosition { end }))
}

struct Follow {
    engine: Arc<Engine>,
    job: JobId,
    /// Only this attempt; otherwise later ones are followed too.
    only: Option<u32>,
    attempt: u32,
    offset: u64,
    /// The first bytes of a character whose rest has not come yet.
    rest: Vec<u8>,
    ready: VecDeque<Event>,
    ended: bool,
    appended: watch::Receiver<u64>,
    committed: watch::Receiver<u64>,
    shutdown: watch::Receiver<bool>,
}

/// The log as it grows, until the job has ended and all was sent.
pub(super) async fn stream(
    State(state): State<AppState>,
    Path(id): Path<JobId>,
    Query(query): Query<Wanted>,
    headers: HeaderMap,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    state.engine.log_attempt(id).await?;
    let seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.split_once(':'));
    let seen = seen.and_then(|(attempt, offset)| Some((attempt.parse().ok()?, offset.parse().ok()?)));
    let (attempt, offset) = seen.unwrap_or((query.attempt.unwrap_or(1), 0));
    let follow = Follow {
        job: id,
        only: query.attempt,
        attempt,
        offset,
        rest: Vec::new(),
        ready: VecDeque::new(),
        ended: false,
        appended: state.engine.log_store().appended(),
        committed: state.engine.store().committed(),
        shutdown: state.shutdown.clone(),
        engine: Arc::clone(&state.engine),
    };
    let events = futures_util::stream::unfold(follow, |mut follow| async move {
        let event = follow.next().await?;
        Some((Ok(event), follow))
    });
    Ok(Sse::new(events.boxed()).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

impl Follow {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            self.appended.borrow_and_update();
            self.committed.borrow_and_update();
            match self.advance().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot read a log; the stream ends and its client comes back"
                    );
                    return None;
                }
            }
            tokio::select! {
                changed = self.appended.changed() => changed.ok()?,
                changed = self.committed.changed() => changed.ok()?,
                () = super::server::stopped(&mut self.shutdown) => return None,
            }
        }
    }

    /// Goes one step on; false when there is nothing to do but wait.
    async fn advance(&mut self) -> Result<bool, crate::app::AppError> {
        // The state is read before the log: a job that had ended then can have no more to say.
        let (current, job_ended) = self.engine.log_attempt(self.job).await?;
        if let Some(piece) = self.engine.read_log(self.job, self.attempt, self.offset).await? {
            let left_out = gap(piece.start - self.offset);
            self.offset = piece.start + piece.data.len() as u64;
            let text = left_out + &self.text(piece.data);
            self.push(text);
            return Ok(true);
        }
        if self.only.is_none() && self.attempt < current {
            self.attempt += 1;
            self.offset = 0;
            self.rest.clear();
            return Ok(true);
        }
        if job_ended || self.only.is_some_and(|only| only < current) {
            let state = self.engine.job(self.job).await?.state;
            self.end(state);
            return Ok(true);
        }
        Ok(false)
    }

    /// The bytes as text; a character that is cut off waits for its rest.
    fn text(&mut self, data: Vec<u8>) -> String {
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(&data);
        let cut = match std::str::from_utf8(&bytes) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => bytes.len(),
        };
        self.rest = bytes.split_off(cut);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn push(&mut self, text: String) {
        let after = self.offset - self.rest.len() as u64;
        let event = Event::default().id(format!("{}:{after}", self.attempt)).event("log");
        let data = json!({"attempt": self.attempt, "offset": after.saturating_sub(text.len() as u64), "text": text});
        self.ready.extend(event.json_data(data).ok());
    }

    fn end(&mut self, state: StateKind) {
        self.ended = true;
        self.ready.extend(Event::default().event("end").json_data(json!({"state": state})).ok());
    }
}
