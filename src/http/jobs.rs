//! Routes of jobs.

use axum::Json as Reply;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::AppState;
use super::body::{Json, Path, Query, SUBMISSION_LIMIT};
use super::error::{ApiError, ApiResult};
use crate::domain::ids::{JobId, SubmissionId};
use crate::domain::job::spec::JobSpec;
use crate::domain::job::state::StateKind;
use crate::domain::names::RepositoryName;
use crate::domain::protocol::{JobList, JobView, SubmitReply};
use crate::store::JobFilter;

/// Jobs on a page that does not say.
const DEFAULT_PAGE: usize = 100;

#[derive(Deserialize)]
pub(super) struct Submission {
    submission: Option<SubmissionId>,
}

pub(super) async fn submit(
    State(state): State<AppState>,
    Query(query): Query<Submission>,
    Json(body): Json<serde_json::Value, SUBMISSION_LIMIT>,
) -> ApiResult<(StatusCode, Reply<SubmitReply>)> {
    let is_array = body.is_array();
    let specs: Result<Vec<JobSpec>, _> =
        if is_array { serde_json::from_value(body) } else { serde_json::from_value(body).map(|spec| vec![spec]) };
    let specs = specs.map_err(|error| {
        ApiError::bad_request("bad_job", format!("this is not a job: {error}"), "see /api/v1/openapi.json")
    })?;
    let reply = state.engine.submit(query.submission, specs).await?;
    let created = reply.jobs.iter().any(|job| job.created);
    Ok((if created { StatusCode::CREATED } else { StatusCode::OK }, Reply(reply)))
}

pub(super) async fn show(State(state): State<AppState>, Path(id): Path<JobId>) -> ApiResult<Reply<JobView>> {
    Ok(Reply(state.engine.job(id).await?))
}

pub(super) async fn cancel(State(state): State<AppState>, Path(id): Path<JobId>) -> ApiResult<Reply<JobView>> {
    Ok(Reply(state.engine.cancel(id).await?))
}

#[derive(Deserialize)]
pub(super) struct Retry {
    #[serde(default)]
    with_dependents: bool,
}

pub(super) async fn retry(
    State(state): State<AppState>,
    Path(id): Path<JobId>,
    Query(query): Query<Retry>,
) -> ApiResult<Reply<JobView>> {
    Ok(Reply(state.engine.retry(id, query.with_dependents).await?))
}

pub(super) async fn list(State(state): State<AppState>, RawQuery(query): RawQuery) -> ApiResult<Reply<JobList>> {
    let Listing { filter, cursor, limit } = listing(query.as_deref().unwrap_or_default())?;
    Ok(Reply(state.engine.list(filter, cursor, limit).await?))
}

pub(super) struct Listing {
    pub(super) filter: JobFilter,
    cursor: Option<u64>,
    limit: usize,
}

/// Reads a listing's query by hand: `label` may come several times.
pub(super) fn listing(query: &str) -> ApiResult<Listing> {
    let mut listing = Listing { filter: JobFilter::default(), cursor: None, limit: DEFAULT_PAGE };
    let filter = &mut listing.filter;
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let refuse = |why: String| {
            ApiError::bad_request("bad_query", format!("{key}={value}: {why}"), "see /api/v1/openapi.json")
        };
        match key.as_ref() {
            _ if value.is_empty() => {}
            "state" => {
                for word in value.split(',').filter(|word| !word.is_empty()) {
                    filter
                        .states
                        .push(StateKind::parse(word).ok_or_else(|| refuse(format!("there is no state {word:?}")))?);
                }
            }
            "repository" => {
                filter.repository = Some(RepositoryName::new(value.as_ref()).map_err(|e| refuse(e.to_string()))?)
            }
            "name" => filter.name = Some(value.into_owned()),
            "submitter" => filter.submitter = Some(value.into_owned()),
            "submission" => filter.submission = Some(value.parse().map_err(|_| refuse("it is no UUID".into()))?),
            "label" => {
                let (label, wanted) = value.split_once('=').ok_or_else(|| refuse("it must be KEY=VALUE".into()))?;
                filter.labels.push((label.into(), wanted.into()));
            }
            "cursor" => listing.cursor = Some(value.parse().map_err(|_| refuse("it is no cursor".into()))?),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=crate::app::MAX_PAGE).contains(limit));
                listing.limit = limit.ok_or_else(|| refuse(format!("it must be 1 to {}", crate::app::MAX_PAGE)))?;
            }
            _ => return Err(refuse("there is no such filter".into())),
        }
    }
    Ok(listing)
}
