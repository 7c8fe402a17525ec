//! A job's log as it grows, as server-sent events.

use std::convert::Infallible;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use utoipa::ToSchema;

use super::Shared;
use super::error::ApiError;
use super::events::LAST_EVENT_ID;
use super::extract::{ApiPath, Params};
use super::logs::attempt;
use super::text::Utf8;
use crate::app::AppError;
use crate::domain::ids::JobId;
use crate::domain::job::state::StateKind;
use crate::domain::protocol::ErrorBody;

/// Data of an event of type `log`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogText {
    /// The attempt that wrote it.
    pub attempt: u32,
    /// Where it begins in that attempt's log, in bytes. More than the end of the event before: the middle was dropped.
    pub offset: u64,
    /// Whole characters.
    pub text: String,
}

/// Data of the event of type `end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogEnd {
    /// Where the job stands.
    pub state: StateKind,
}

/// A place in a job's logs: `attempt:offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    attempt: u32,
    offset: u64,
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (attempt, offset) = text.split_once(':')?;
            Some(Self { attempt: attempt.parse().ok()?, offset: offset.parse::<i64>().ok()?.try_into().ok()? })
        };
        parse().ok_or("write attempt:offset, such as 1:4096")
    }
}

/// Follows a job's log until the job has ended, across attempts unless one is named.
///
/// Events of type `log` carry the text; their id is `attempt:offset after it`. Type `end` comes last.
#[utoipa::path(get, operation_id = "follow_log", path = "/api/v1/jobs/{id}/log/stream", tag = "logs",
    params(
        ("id" = JobId, Path, description = "the job"),
        ("attempt" = Option<u32>, Query, description = "this attempt only"),
        ("after" = Option<String>, Query, description = "id of the last event known, `attempt:offset`"),
        ("Last-Event-ID" = Option<String>, Header, description = "id of the last event known; goes before `after`"),
    ),
    responses(
        (status = 200, description = "the log; the last event has a `LogEnd`", body = LogText, content_type = "text/event-stream"),
        (status = "default", description = "refused", body = ErrorBody),
    ))]
pub(super) async fn follow(
    State(state): State<Shared>,
    ApiPath(id): ApiPath<JobId>,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let (only, mut after) = (params.one("attempt")?, params.one::<Place>("after")?);
    params.finish()?;
    if let Some(last) = headers.get(LAST_EVENT_ID).and_then(|last| last.to_str().ok()).filter(|last| !last.is_empty()) {
        after = Some(last.parse().map_err(|why| {
            ApiError::bad_request("bad_header", "the header Last-Event-ID is not a place in this log", why)
        })?);
    }
    // Registered before anything is read: what comes in between is noticed.
    let (appended, committed) = (state.engine.log_store().appended(), state.engine.store().committed());
    let last = attempt(&state, id, only).await?;
    let start = Place { attempt: last, offset: 0 };
    let place = after.filter(|after| only.is_none_or(|only| only == after.attempt)).unwrap_or(start);
    let follower =
        Follower { state, id, only, place, utf8: Utf8::default(), appended, committed, known: None, end_sent: false };
    let events = stream::unfold(follower, |mut follower| async move { Some((Ok(follower.next().await?), follower)) });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

/// One client's place in a job's logs.
struct Follower {
    state: Shared,
    id: JobId,
    only: Option<u32>,
    /// Of the next byte to be read.
    place: Place,
    utf8: Utf8,
    appended: watch::Receiver<u64>,
    committed: watch::Receiver<u64>,
    /// The job's last attempt and state, as far as nothing was committed since.
    known: Option<(u32, StateKind)>,
    end_sent: bool,
}

impl Follower {
    /// The next event; none after the end, when the server stops, or when it cannot read.
    async fn next(&mut self) -> Option<Event> {
        if self.end_sent {
            return None;
        }
        loop {
            match self.read().await {
                Ok(Some(event)) => return Some(event),
                Ok(None) => self.wait().await?,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, job.id = %self.id, "cannot follow a log");
                    return None;
                }
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Event>, AppError> {
        loop {
            self.appended.mark_unchanged();
            // The job is looked at before its log: when it has ended, the log read afterwards is all of it.
            let known = self.known.filter(|_| !self.committed.has_changed().unwrap_or(true));
            let (last, state) = match known {
                Some(known) => known,
                None => {
                    self.committed.mark_unchanged();
                    let job = self.state.engine.job(self.id).await?;
                    (job.attempt, job.state)
                }
            };
            self.known = Some((last, state));
            if let Some(text) = self.text().await? {
                return Ok(Some(self.event(text)));
            }
            let is_over = state.is_final() || self.place.attempt < last;
            if is_over && self.utf8.held() > 0 {
                let offset = self.place.offset - self.utf8.held();
                let text = self.utf8.flush();
                return Ok(Some(self.event(LogText { attempt: self.place.attempt, offset, text })));
            }
            if self.only.is_none() && self.place.attempt < last {
                self.place = Place { attempt: self.place.attempt + 1, offset: 0 };
            } else if is_over {
                self.end_sent = true;
                let data = serde_json::to_string(&LogEnd { state }).unwrap_or_default();
                return Ok(Some(Event::default().event("end").data(data)));
            } else {
                return Ok(None);
            }
        }
    }

    /// The next text, where there is any.
    async fn text(&mut self) -> Result<Option<LogText>, AppError> {
        let attempt = self.place.attempt;
        while let Some(piece) = self.state.engine.read_log(self.id, attempt, self.place.offset).await? {
            if piece.start > self.place.offset {
                // The end of a character that was begun was dropped with the middle.
                self.utf8.flush();
            }
            let offset = piece.start - self.utf8.held();
            self.place.offset = piece.start + piece.data.len() as u64;
            let text = self.utf8.push(&piece.data);
            if !text.is_empty() {
                return Ok(Some(LogText { attempt, offset, text }));
            }
        }
        Ok(None)
    }

    fn event(&self, text: LogText) -> Event {
        let id = format!("{}:{}", self.place.attempt, self.place.offset - self.utf8.held());
        Event::default().event("log").id(id).data(serde_json::to_string(&text).unwrap_or_default())
    }

    async fn wait(&mut self) -> Option<()> {
        tokio::select! {
            changed = self.appended.changed() => changed.ok(),
            changed = self.committed.changed() => {
                self.known = None;
                changed.ok()
            }
            () = self.state.shutdown.cancelled() => None,
        }
    }
}
