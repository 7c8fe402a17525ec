//! The page of one job.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde_json::Value;

use super::{ago, html, moment};
use crate::app::AppError;
use crate::domain::ids::JobId;
use crate::domain::job::LoggedEvent;
use crate::domain::job::spec::{Payload, Source};
use crate::domain::job::state::{JobState, StateKind};
use crate::domain::protocol::JobView;
use crate::http::Shared;
use crate::http::error::ApiError;
use crate::http::extract::ApiPath;
use crate::http::text::{Utf8, skip_continuation};

/// Events shown.
const EVENTS: usize = 500;
/// Bytes of the log shown; the script goes on from their end.
const TAIL: u64 = 64 * 1024;

#[derive(Template)]
#[template(path = "job.html")]
struct Job {
    job: JobView,
    facts: Vec<(&'static str, String)>,
    payload: String,
    events: Vec<Line>,
    log: String,
    log_left_out: bool,
    log_end: u64,
    spec: String,
    now: Timestamp,
}

/// One event as it is shown.
struct Line {
    number: u64,
    at: Timestamp,
    event: String,
    state: StateKind,
    details: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "missing.html")]
struct Missing {
    message: String,
}

/// Shows a job.
#[utoipa::path(get, operation_id = "job_page", path = "/jobs/{id}", tag = "page", params(("id" = JobId, Path, description = "the job")),
    responses(
        (status = 200, body = String, content_type = "text/html"),
        (status = 404, description = "no such job", body = String, content_type = "text/html"),
    ))]
pub(in crate::http) async fn job(
    State(state): State<Shared>,
    ApiPath(id): ApiPath<JobId>,
) -> Result<Response, ApiError> {
    let engine = &state.engine;
    let job = match engine.job(id).await {
        Ok(job) => job,
        Err(error @ AppError::NotFound { .. }) => {
            return Ok(html(StatusCode::NOT_FOUND, &Missing { message: error.to_string() }));
        }
        Err(error) => return Err(error.into()),
    };
    let events = engine.events(Some(id), None, 0, EVENTS).await?;
    let end = engine.log_end(id, job.attempt).await?;
    let mut at = end.saturating_sub(TAIL);
    let log_left_out = at > 0;
    let (mut log, mut utf8) = (String::new(), Utf8::default());
    while at < end
        && let Some(piece) = engine.read_log(id, job.attempt, at).await?
    {
        at = piece.start + piece.data.len() as u64;
        let data = if log.is_empty() { skip_continuation(&piece.data) } else { &piece.data };
        log += &utf8.push(data);
    }
    let page = Job {
        facts: facts(&job),
        payload: payload(&job.spec.publish().payload),
        events: events.iter().map(Line::new).collect(),
        log,
        log_left_out,
        // What is held comes again, whole, with what follows it.
        log_end: at - utf8.held(),
        spec: serde_json::to_string_pretty(&job.spec).map_err(ApiError::internal)?,
        job,
        now: Timestamp::now(),
    };
    Ok(html(StatusCode::OK, &page))
}

/// What the present state has to say.
fn facts(job: &JobView) -> Vec<(&'static str, String)> {
    let yes = |asked: bool| asked.then(|| ("Cancel", "requested".to_owned()));
    match &job.status {
        JobState::Queued => job.held.iter().map(|held| ("Waits, because", held.clone())).collect(),
        JobState::Waiting | JobState::AwaitingApproval | JobState::Cancelled => Vec::new(),
        JobState::Backoff { until, reason } => vec![("Tried again", moment(*until)), ("Because", reason.clone())],
        JobState::Offered { batch } => vec![("Batch", batch.to_string())],
        JobState::Running { batch, node, phase, cancel_requested } => {
            let phase = serde_json::to_value(phase).ok().and_then(|word| word.as_str().map(str::to_owned));
            let mut facts = vec![("Node", node.clone()), ("Phase", phase.unwrap_or_default())];
            let progress = job.progress.map(|progress| progress.to_string()).filter(|said| !said.is_empty());
            facts.extend(progress.map(|said| ("Progress", said)));
            facts.push(("Batch", batch.to_string()));
            facts.extend(yes(*cancel_requested));
            facts
        }
        JobState::Recovering { batch, node, publishing, cancel_requested } => {
            let publish = if *publishing { "permitted, perhaps done" } else { "not permitted" };
            let mut facts = vec![("Waits for node", node.clone()), ("Publish", publish.into())];
            facts.push(("Batch", batch.to_string()));
            facts.extend(yes(*cancel_requested));
            facts
        }
        JobState::NeedsOperator { batch, node, reason, .. } => {
            let mut facts = vec![("Reason", reason.clone()), ("Node", node.clone()), ("Batch", batch.to_string())];
            let advice = job.unclear.iter().flat_map(|unclear| unclear.advice(job.job_id));
            facts.extend(advice.map(|line| ("To be done", line)));
            facts
        }
        JobState::Distributing { revision, root_hash, unchanged, since, until } => {
            let mut facts = vec![("Revision", revision.to_string()), ("Root hash", root_hash.clone())];
            if *unchanged {
                facts.insert(0, ("Published", "nothing: no revision was made for this job".into()));
            }
            facts.extend(job.progress.map(|progress| ("Visible", progress.to_string())));
            facts.extend(job.replicas.iter().map(|at| ("Replica", format!("{}: {}", at.url, at.serving()))));
            facts.extend(since.map(|since| ("Waits since", moment(since))));
            facts.extend(until.map(|until| ("Gives up", moment(until))));
            facts
        }
        JobState::Succeeded { revision, root_hash, unchanged } => {
            let mut facts = vec![("Revision", revision.to_string()), ("Root hash", root_hash.clone())];
            if *unchanged {
                facts.insert(0, ("Published", "nothing: no revision was made for this job".into()));
            }
            facts
        }
        JobState::Failed { failure, published } => {
            let mut facts = vec![("Failure", failure.message.clone()), ("Code", failure.code.clone())];
            facts.extend(published.iter().map(|there| ("Revision", there.revision.to_string())));
            facts
        }
        JobState::Skipped { dependency } => vec![("Because of job", dependency.to_string())],
    }
}

fn payload(payload: &Payload) -> String {
    let source = |source: &Source| match source {
        Source::Blob { digest } => digest.to_string(),
        Source::Url { url, .. } => url.to_string(),
    };
    match payload {
        Payload::Empty => "nothing: a new revision only".into(),
        Payload::Script { source: from, args } if args.is_empty() => format!("script {}", source(from)),
        Payload::Script { source: from, args } => format!("script {} with {args:?}", source(from)),
        Payload::Tarball { source: from } => format!("tarball {}", source(from)),
        Payload::Revert { job, .. } => format!("revert job {job}"),
        Payload::Delete { paths } if paths.len() == 1 => format!("delete {}", paths[0]),
        Payload::Delete { paths } => format!("delete {} paths", paths.len()),
    }
}

impl Line {
    fn new(event: &LoggedEvent) -> Self {
        let mut details = Vec::new();
        let mut word = String::new();
        if let Ok(Value::Object(fields)) = serde_json::to_value(&event.event) {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("event", Value::String(event)) => word = event.replace('_', " "),
                    (_, Value::Null | Value::Bool(false)) => {}
                    (_, Value::Object(fields)) if fields.is_empty() => {}
                    ("failure", Value::Object(failure)) => {
                        details.extend(failure.iter().map(|(name, value)| (name.clone(), plain(value))))
                    }
                    (_, value) => details.push((name.replace('_', " "), plain(&value))),
                }
            }
        }
        Self { number: event.number, at: event.at, event: word, state: event.state, details }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
