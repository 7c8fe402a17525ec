//! What happens to jobs, as server-sent events. The event's number is its id, so that a client can go on where it was.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use serde_json::json;
use tokio::sync::watch;

use super::Shared;
use super::error::ApiError;
use super::extract::{ApiPath, Params};
use crate::app::{AppError, RecentEvent};
use crate::domain::ids::{JobId, SubmissionId};
use crate::domain::job::LoggedEvent;
use crate::domain::progress::JobProgress;
use crate::domain::protocol::ErrorBody;

/// Events read from the database at once; the next are read when these are taken.
const READ: usize = 500;
/// After a commit that had nothing for this stream, others of the same kind are looked at together.
const PAUSE: Duration = Duration::from_millis(20);

/// Tells what happens to all jobs, or to those of one submission.
///
/// Each event is of type `job`; a comment comes every 15 seconds without one. Type `reset` means that the numbers given are
/// not those of this database (it was replaced), or that events after the last one known were pruned: forget what you know and start anew. Type `progress` (its data is a
/// `JobProgress`) tells how far a running attempt has come: it has no number, only the latest is ever told, and one may
/// still come right after the event that ended its attempt.
#[utoipa::path(get, operation_id = "follow_events", path = "/api/v1/events", tag = "events",
    params(
        ("after" = Option<u64>, Query, description = "number of the last event known. Without it (and without Last-Event-ID) what comes from now on, or all of a submission"),
        ("submission" = Option<SubmissionId>, Query, description = "of the jobs of this submission only"),
        ("Last-Event-ID" = Option<u64>, Header, description = "number of the last event known; goes before `after`"),
    ),
    responses(
        (status = 200, description = "the events", body = LoggedEvent, content_type = "text/event-stream"),
        (status = "default", description = "refused", body = ErrorBody),
    ))]
pub(super) async fn all(
    State(state): State<Shared>,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let after = after(&mut params, &headers)?;
    let submission = params.one("submission")?;
    params.finish()?;
    follow(state, None, submission, after).await
}

/// Tells what happened and happens to one job, from its beginning. The types of events are those of `/api/v1/events`.
#[utoipa::path(get, operation_id = "follow_job_events", path = "/api/v1/jobs/{id}/events", tag = "events",
    params(
        ("id" = JobId, Path, description = "the job"),
        ("after" = Option<u64>, Query, description = "number of the last event known"),
        ("Last-Event-ID" = Option<u64>, Header, description = "number of the last event known; goes before `after`"),
    ),
    responses(
        (status = 200, description = "the events", body = LoggedEvent, content_type = "text/event-stream"),
        (status = "default", description = "refused", body = ErrorBody),
    ))]
pub(super) async fn of_job(
    State(state): State<Shared>,
    ApiPath(id): ApiPath<JobId>,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let after = after(&mut params, &headers)?;
    params.finish()?;
    state.engine.log_attempt(id).await?;
    follow(state, Some(id), None, after).await
}

/// The header that a browser sends when it comes back.
pub(super) const LAST_EVENT_ID: &str = "last-event-id";

pub(super) fn after(params: &mut Params, headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    // SQLite counts to 2^63 only.
    let largest = u64::MAX / 2;
    let given = params.one("after")?.map(|after: u64| after.min(largest));
    let Some(last) = headers.get(LAST_EVENT_ID).filter(|last| !last.is_empty()) else { return Ok(given) };
    let number = last.to_str().ok().and_then(|last| last.parse().ok()).map(|last: u64| last.min(largest));
    number.map(Some).ok_or_else(|| {
        ApiError::bad_request(
            "bad_header",
            "the header Last-Event-ID is not the number of an event",
            "send the id of the last event that came, or no such header",
        )
    })
}

/// Tells whether a number that a client gives is not of this database, or of a time of which events were pruned.
pub(super) async fn is_foreign(state: &Shared, after: u64, last: u64) -> Result<bool, AppError> {
    if after > 0 && after < state.engine.events_pruned_to().await? {
        return Ok(true);
    }
    // A commit may be readable an instant before its number is announced.
    Ok(after > last && state.engine.events(None, None, after - 1, 1).await?.is_empty())
}

async fn follow(
    state: Shared,
    job: Option<JobId>,
    submission: Option<SubmissionId>,
    after: Option<u64>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    // Registered before the table is read: what comes in between is noticed.
    let mut committed = state.engine.store().committed();
    let last = *committed.borrow_and_update();
    let beginning = if job.is_some() || submission.is_some() { 0 } else { last };
    let progressed = state.engine.progress_changed();
    let mut feed = Feed {
        state,
        job,
        submission,
        after: beginning,
        committed,
        ready: Vec::new().into_iter(),
        is_drained: false,
        progressed,
        progress_after: 0,
        progress: Vec::new().into_iter(),
    };
    let mut reset = None;
    let is_pruned = match after {
        // Of one job or submission all is told, or nothing.
        Some(after) if after > 0 && job.is_none() && submission.is_none() => {
            after < feed.state.engine.events_pruned_to().await?
        }
        _ => false,
    };
    let announce = || Event::default().event("reset").id(beginning.to_string()).data(json!({"last": last}).to_string());
    match after {
        Some(_) if is_pruned => reset = Some(announce()),
        // A commit may be readable an instant before its number is announced.
        Some(after) if after > last && feed.state.engine.events(None, None, after - 1, 1).await?.is_empty() => {
            reset = Some(announce());
        }
        Some(after) => feed.after = after,
        None => {}
    }
    let events = stream::unfold((reset, feed), |(reset, mut feed)| async move {
        let event = match reset {
            Some(reset) => reset,
            None => feed.next().await?,
        };
        Some((Ok(event), (None, feed)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

/// One client's place in the log of events.
struct Feed {
    state: Shared,
    job: Option<JobId>,
    submission: Option<SubmissionId>,
    after: u64,
    committed: watch::Receiver<u64>,
    ready: std::vec::IntoIter<Arc<RecentEvent>>,
    /// Nothing is left to be read until the next commit.
    is_drained: bool,
    progressed: watch::Receiver<u64>,
    /// The last change of progress that was looked at.
    progress_after: u64,
    progress: std::vec::IntoIter<JobProgress>,
}

impl Feed {
    /// The next event; none when the server stops or cannot read: the client comes back with its Last-Event-ID.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.next() {
                self.after = event.event.number;
                return Some(Event::default().event("job").id(self.after.to_string()).data(event.json()));
            }
            match self.read().await {
                Ok(true) => {}
                Ok(false) => match self.next_progress() {
                    // Without an id: a client that comes back goes on behind the last event that is stored.
                    Some(progress) => {
                        let data = serde_json::to_string(&progress).ok()?;
                        return Some(Event::default().event("progress").data(data));
                    }
                    None => self.wait().await?,
                },
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "cannot read events; the stream ends");
                    return None;
                }
            }
        }
    }

    async fn read(&mut self) -> Result<bool, AppError> {
        if self.is_drained {
            return Ok(false);
        }
        let seen = *self.committed.borrow_and_update();
        // Who keeps up shares one reading of the database with all others.
        if let Some(recent) = self.state.engine.recent_events(self.after).await? {
            let events: Vec<_> = recent.events.into_iter().filter(|event| self.is_ours(&event.event)).collect();
            self.is_drained = recent.to >= seen;
            if events.is_empty() {
                self.after = recent.to;
            }
            self.ready = events.into_iter();
            return Ok(self.ready.len() > 0);
        }
        let events = self.state.engine.events(self.job, self.submission, self.after, READ).await?;
        self.is_drained = events.is_empty();
        if self.is_drained {
            // Nothing up to there is ours, and it need not be searched again.
            self.after = self.after.max(seen);
        }
        self.ready = events.into_iter().map(RecentEvent::new).map(Arc::new).collect::<Vec<_>>().into_iter();
        Ok(self.ready.len() > 0)
    }

    fn is_ours(&self, event: &LoggedEvent) -> bool {
        self.job.is_none_or(|job| job == event.job_id)
            && self.submission.is_none_or(|submission| submission == event.submission_id)
    }

    fn next_progress(&mut self) -> Option<JobProgress> {
        if self.progress.len() == 0 {
            let changed = *self.progressed.borrow_and_update();
            if changed > self.progress_after {
                self.progress = self.state.engine.progress(self.job, self.submission, self.progress_after).into_iter();
                self.progress_after = changed;
            }
        }
        self.progress.next()
    }

    async fn wait(&mut self) -> Option<()> {
        let shutdown = self.state.shutdown.clone();
        let is_filtered = self.job.is_some() || self.submission.is_some();
        let (committed, progressed) = (&mut self.committed, &mut self.progressed);
        let changed = async {
            tokio::select! {
                // Events that are stored go first.
                biased;
                changed = committed.changed() => changed.ok()?,
                changed = progressed.changed() => return changed.ok(),
            }
            if is_filtered {
                tokio::time::sleep(PAUSE).await;
            }
            self.is_drained = false;
            Some(())
        };
        shutdown.run_until_cancelled(changed).await?
    }
}
