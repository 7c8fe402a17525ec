//! Streams of what happens to jobs. Ids are the events' numbers; a client that comes back says the last one it saw.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use tokio::sync::watch;

use super::AppState;
use super::body::{Path, Query};
use super::error::ApiResult;
use crate::app::Engine;
use crate::domain::ids::{JobId, SubmissionId};
use crate::domain::job::LoggedEvent;

/// Events read at once.
const PAGE: usize = 500;
/// Silence after which a comment is sent.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
pub(super) struct Wanted {
    after: Option<u64>,
    submission: Option<SubmissionId>,
}

pub(super) async fn of_job(
    State(state): State<AppState>,
    Path(id): Path<JobId>,
    Query(query): Query<Wanted>,
    headers: HeaderMap,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    state.engine.job(id).await?;
    Ok(stream(&state, Some(id), None, query.after.unwrap_or(0), &headers))
}

/// Without `after`, a submission's stream begins at its beginning, that of all jobs with what comes.
pub(super) async fn of_all(
    State(state): State<AppState>,
    Query(query): Query<Wanted>,
    headers: HeaderMap,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let newest = *state.engine.store().committed().borrow();
    let after = query.after.unwrap_or(if query.submission.is_some() { 0 } else { newest });
    Ok(stream(&state, None, query.submission, after, &headers))
}

struct Cursor {
    engine: Arc<Engine>,
    job: Option<JobId>,
    submission: Option<SubmissionId>,
    after: u64,
    read: VecDeque<LoggedEvent>,
    reset: bool,
    committed: watch::Receiver<u64>,
    shutdown: watch::Receiver<bool>,
}

fn stream(
    state: &AppState,
    job: Option<JobId>,
    submission: Option<SubmissionId>,
    after: u64,
    headers: &HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let last_seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    // Registered before anything is read: what is committed meanwhile is not missed.
    let committed = state.engine.store().committed();
    let newest = *committed.borrow();
    let after = last_seen.unwrap_or(after);
    // Numbers that were never given out come from another database.
    let reset = after > newest;
    let cursor = Cursor {
        engine: Arc::clone(&state.engine),
        job,
        submission,
        after: if reset { 0 } else { after },
        read: VecDeque::new(),
        reset,
        committed,
        shutdown: state.shutdown.clone(),
    };
    let events = futures_util::stream::unfold(cursor, |mut cursor| async move {
        let event = cursor.next().await?;
        Some((Ok(event), cursor))
    });
    Sse::new(events.boxed()).keep_alive(KeepAlive::new().interval(HEARTBEAT))
}

impl Cursor {
    async fn next(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.reset) {
            return Some(Event::default().event("reset").data("{}"));
        }
        loop {
            if let Some(event) = self.read.pop_front() {
                self.after = event.number;
                return Event::default().id(event.number.to_string()).event("job").json_data(&event).ok();
            }
            self.committed.borrow_and_update();
            match self.engine.events(self.job, self.submission, self.after, PAGE).await {
                Ok(events) if events.is_empty() => {}
                Ok(events) => {
                    self.read = events.into();
                    continue;
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot read events; the stream ends and its client comes back"
                    );
                    return None;
                }
            }
            tokio::select! {
                changed = self.committed.changed() => changed.ok()?,
                () = super::server::stopped(&mut self.shutdown) => return None,
            }
        }
    }
}
