//! Waiting for many jobs by one stream: how they stand, then each that ends, then the end of the stream itself.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;

use super::Shared;
use super::error::ApiError;
use super::events::{after, is_foreign};
use super::extract::{ApiJson, Params};
use crate::app::{AppError, RecentEvent, Watched};
use crate::domain::ids::{JobId, SubmissionId};
use crate::domain::job::LoggedEvent;
use crate::domain::progress::JobProgress;
use crate::domain::protocol::ErrorBody;
use crate::domain::standing::{JobStanding, MAX_WATCHED, UnknownJob, WatchRequest};

/// Events read from the database at once where they are not at hand.
const READ: usize = 500;
/// Who is further behind is told anew how all stand: that costs less than going through all that happened.
const FAR_BEHIND: u64 = 20_000;
/// After a commit others of the same kind are looked at together.
const PAUSE: Duration = Duration::from_millis(20);

/// Tells how the jobs of a submission stand, then who ends, until all have ended.
///
/// Type `standing` (its data is a `JobStanding`) tells of each job once, and again whenever it ends; `synced` that all were
/// told. `job` and `progress` are those of `/api/v1/events`; with `ends` they are left out. `unknown` names a job that is not
/// known. `end` comes last, when no job is left that has not ended. The ids are event numbers: with `Last-Event-ID` only what
/// happened since is told. `reset` means that the number is not of this database: forget what you know; all is told anew.
#[utoipa::path(get, operation_id = "watch_submission", path = "/api/v1/watch", tag = "events",
    params(
        ("submission" = SubmissionId, Query, description = "of which submission"),
        ("ends" = Option<bool>, Query, description = "only tell who ends; false where absent"),
        ("after" = Option<u64>, Query, description = "number of the last event known"),
        ("Last-Event-ID" = Option<u64>, Header, description = "number of the last event known; goes before `after`"),
    ),
    responses(
        (status = 200, description = "how they stand", body = JobStanding, content_type = "text/event-stream"),
        (status = "default", description = "refused", body = ErrorBody),
    ))]
pub(super) async fn submission(
    State(state): State<Shared>,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let after = after(&mut params, &headers)?;
    let submission: SubmissionId = params.required("submission")?;
    let ends = params.one("ends")?.unwrap_or(false);
    params.finish()?;
    follow(state, Watched::Submission(submission), ends, after).await
}

/// The same for jobs that are named one by one.
#[utoipa::path(post, operation_id = "watch_jobs", path = "/api/v1/watch", tag = "events",
    params(("Last-Event-ID" = Option<u64>, Header, description = "number of the last event known")),
    request_body = WatchRequest,
    responses(
        (status = 200, description = "how they stand", body = JobStanding, content_type = "text/event-stream"),
        (status = "default", description = "refused", body = ErrorBody),
    ))]
pub(super) async fn jobs(
    State(state): State<Shared>,
    mut params: Params,
    headers: HeaderMap,
    ApiJson(request): ApiJson<WatchRequest>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let after = after(&mut params, &headers)?;
    params.finish()?;
    if request.jobs.is_empty() || request.jobs.len() > MAX_WATCHED {
        let message = format!("{} jobs are named; 1 to {MAX_WATCHED} can be watched by one stream", request.jobs.len());
        let hint = "split the list, or watch a submission";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_watch", message, hint));
    }
    follow(state, Watched::Jobs(request.jobs), request.ends, after).await
}

async fn follow(
    state: Shared,
    watched: Watched,
    ends: bool,
    after: Option<u64>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    // Registered before anything is read: what comes in between is noticed.
    let mut committed = state.engine.store().committed();
    let last = *committed.borrow_and_update();
    let named = match &watched {
        Watched::Submission(_) => HashSet::new(),
        Watched::Jobs(jobs) => jobs.iter().copied().collect(),
    };
    let mut told = Vec::new();
    let goes_on = match after {
        Some(after) if is_foreign(&state, after, last).await? => {
            told.push(Event::default().event("reset").data(json!({"last": last}).to_string()));
            None
        }
        Some(after) => Some(after).filter(|after| last.saturating_sub(*after) <= FAR_BEHIND),
        None => None,
    };
    let standings = state.engine.standings(watched.clone()).await?;
    let pending = standings.iter().filter(|job| !job.state.is_final()).map(|job| job.job_id).collect();
    let mut watch = Watch {
        progressed: state.engine.progress_changed(),
        state,
        named,
        ends,
        pending,
        after: goes_on.unwrap_or(last),
        committed,
        is_drained: false,
        beginning: Vec::new().into_iter(),
        told: told.into_iter(),
        is_over: false,
        progress_after: 0,
        watched,
    };
    if goes_on.is_none() {
        watch.begin(standings, last);
    }
    let events = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok(event), watch))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

/// One client's place.
struct Watch {
    state: Shared,
    watched: Watched,
    /// The jobs, where they are named.
    named: HashSet<JobId>,
    /// Only ends are told.
    ends: bool,
    /// Those that have not ended, as of the last event looked at.
    pending: HashSet<JobId>,
    after: u64,
    committed: watch::Receiver<u64>,
    /// Nothing is left to be looked at until the next commit.
    is_drained: bool,
    /// How the jobs stood at the beginning; made into events one by one, since they may be thousands.
    beginning: std::vec::IntoIter<Beginning>,
    told: std::vec::IntoIter<Event>,
    is_over: bool,
    progressed: watch::Receiver<u64>,
    /// The last change of progress that was looked at.
    progress_after: u64,
}

/// What is told first.
enum Beginning {
    Standing(Box<JobStanding>),
    Unknown(JobId),
    Synced(u64),
}

impl Watch {
    fn begin(&mut self, standings: Vec<JobStanding>, last: u64) {
        let known: HashSet<JobId> = standings.iter().map(|job| job.job_id).collect();
        let mut unknown: Vec<_> = self.named.difference(&known).copied().collect();
        unknown.sort_unstable();
        let all = standings
            .into_iter()
            .map(Box::new)
            .map(Beginning::Standing)
            .chain(unknown.into_iter().map(Beginning::Unknown));
        self.beginning = all.chain([Beginning::Synced(last)]).collect::<Vec<_>>().into_iter();
    }

    /// The next event; none after the last, and when the server stops or cannot read: the client comes back.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.told.next() {
                return Some(event);
            }
            match self.beginning.next() {
                Some(Beginning::Standing(job)) => return event("standing", None, &job),
                Some(Beginning::Unknown(job_id)) => return event("unknown", None, &UnknownJob { job_id }),
                // Only from here on a client may go on with what comes later.
                Some(Beginning::Synced(number)) => return event("synced", Some(number), &json!({"last": number})),
                None => {}
            }
            if self.is_over {
                return None;
            }
            if !self.is_drained {
                match self.look().await {
                    Ok(told) => self.told = told.into_iter(),
                    Err(error) => {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "cannot read events; the stream ends"
                        );
                        return None;
                    }
                }
                continue;
            }
            if self.pending.is_empty() {
                self.is_over = true;
                return event("end", Some(self.after), &json!({"last": self.after}));
            }
            match self.progress() {
                Some(told) => self.told = told.into_iter(),
                None => self.wait().await?,
            }
        }
    }

    /// Looks at what happened since.
    async fn look(&mut self) -> Result<Vec<Event>, AppError> {
        let seen = *self.committed.borrow_and_update();
        let (events, to) = match self.state.engine.recent_events(self.after).await? {
            Some(recent) => (recent.events, recent.to),
            None => {
                let events = self.state.engine.events(None, None, self.after, READ).await?;
                let to = events.last().map_or(self.after.max(seen), |event| event.number);
                (events.into_iter().map(RecentEvent::new).map(Arc::new).collect(), to)
            }
        };
        self.is_drained = to >= seen;
        let told = self.tell(&events).await?;
        self.after = to;
        Ok(told)
    }

    fn is_wanted(&self, event: &LoggedEvent) -> bool {
        match &self.watched {
            Watched::Submission(submission) => event.submission_id == *submission,
            Watched::Jobs(_) => self.named.contains(&event.job_id),
        }
    }

    async fn tell(&mut self, events: &[Arc<RecentEvent>]) -> Result<Vec<Event>, AppError> {
        let wanted: Vec<&Arc<RecentEvent>> = events.iter().filter(|event| self.is_wanted(&event.event)).collect();
        // What a job's last event says is how it stands.
        let mut last = HashMap::new();
        for event in &wanted {
            last.insert(event.event.job_id, event.event.number);
            if event.event.state.is_final() {
                self.pending.remove(&event.event.job_id);
            } else {
                self.pending.insert(event.event.job_id);
            }
        }
        let is_end = |event: &RecentEvent| {
            event.event.state.is_final() && last.get(&event.event.job_id) == Some(&event.event.number)
        };
        let ended: Vec<JobId> = wanted.iter().filter(|event| is_end(event)).map(|event| event.event.job_id).collect();
        let mut standings: HashMap<JobId, JobStanding> = HashMap::new();
        if !ended.is_empty() {
            let jobs = self.state.engine.standings(Watched::Jobs(ended)).await?;
            standings.extend(jobs.into_iter().map(|job| (job.job_id, job)));
        }
        let mut told = Vec::new();
        for wanted in wanted {
            let number = wanted.event.number;
            if !self.ends {
                told.push(Event::default().event("job").id(number.to_string()).data(wanted.json()));
            }
            if !is_end(wanted) {
                continue;
            }
            match standings.remove(&wanted.event.job_id) {
                Some(job) => told.extend(event("standing", Some(number), &job)),
                // Pruned meanwhile.
                None => told.extend(event("unknown", Some(number), &UnknownJob { job_id: wanted.event.job_id })),
            }
        }
        Ok(told)
    }

    /// What changed of the progress of those that run; nothing where nothing did.
    fn progress(&mut self) -> Option<Vec<Event>> {
        let changed = *self.progressed.borrow_and_update();
        if self.ends || changed <= self.progress_after {
            return None;
        }
        let submission = match &self.watched {
            Watched::Submission(submission) => Some(*submission),
            Watched::Jobs(_) => None,
        };
        let all = self.state.engine.progress(None, submission, self.progress_after);
        self.progress_after = changed;
        let is_wanted = |of: &JobProgress| self.pending.contains(&of.job_id);
        // Without an id: who comes back goes on behind the last event that is stored.
        Some(all.iter().filter(|of| is_wanted(of)).filter_map(|of| event("progress", None, of)).collect())
    }

    async fn wait(&mut self) -> Option<()> {
        let shutdown = self.state.shutdown.clone();
        let (committed, progressed, ends) = (&mut self.committed, &mut self.progressed, self.ends);
        let changed = async {
            tokio::select! {
                biased;
                changed = committed.changed() => changed.ok()?,
                changed = progressed.changed(), if !ends => return changed.ok(),
            }
            tokio::time::sleep(PAUSE).await;
            self.is_drained = false;
            Some(())
        };
        shutdown.run_until_cancelled(changed).await?
    }
}

fn event(kind: &str, id: Option<u64>, data: &impl Serialize) -> Option<Event> {
    let event = Event::default().event(kind).data(serde_json::to_string(data).ok()?);
    Some(match id {
        Some(id) => event.id(id.to_string()),
        None => event,
    })
}
