//! Jobs: submit, look, cancel, retry, resolve.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::{Extension, Json};

use super::access::may_steer;
use super::error::ApiError;
use super::extract::{ApiJson, ApiPath, Params, bad_query, check_is_json, parse_json};
use super::{Shared, body};
use crate::app::Caller;
use crate::domain::ids::{JobId, SubmissionId};
use crate::domain::job::spec::JobSpec;
use crate::domain::job::state::StateKind;
use crate::domain::names::RepositoryName;
use crate::domain::protocol::{ErrorBody, JobList, JobView, ResolveRequest, SubmitReply};
use crate::domain::repository::RevertRequest;
use crate::store::JobFilter;

/// Jobs on a page where the client does not say.
const PAGE: usize = 100;
/// Bodies above this size in bytes are not read on the threads that serve everybody.
const LARGE: usize = 256 * 1024;

/// Accepts one job or an array of jobs, all of them or none. When the reply comes, they are on stable storage.
///
/// Submitting the same job again is no second job; another job under the same id is refused.
#[utoipa::path(post, operation_id = "submit_jobs", path = "/api/v1/jobs", tag = "jobs",
    params(("submission" = Option<SubmissionId>, Query, description = "id of the submission, chosen by the client")),
    request_body(description = "a job, or an array of up to 10000", content = OneOrMany),
    responses(
        (status = 201, description = "at least one job is new", body = SubmitReply),
        (status = 200, description = "all were submitted before", body = SubmitReply),
        (status = "default", description = "refused", body = ErrorBody),
    ))]
pub(super) async fn submit(
    State(state): State<Shared>,
    Extension(caller): Extension<Caller>,
    mut params: Params,
    request: Request,
) -> Result<(StatusCode, Json<SubmitReply>), ApiError> {
    let submission = params.one("submission")?;
    params.finish()?;
    let (parts, content) = request.into_parts();
    check_is_json(&parts.headers)?;
    let limits = &state.limits;
    let bytes = body::collect(&parts.headers, content, limits.submission_bytes, limits.body_idle).await?;
    let specs = if bytes.len() > LARGE {
        tokio::task::spawn_blocking(move || parse_specs(&bytes)).await.map_err(ApiError::internal)??
    } else {
        parse_specs(&bytes)?
    };
    let reply = state.engine.submit_as(Some(caller.name), submission, specs).await?;
    let status = if reply.jobs.iter().any(|job| job.created) { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(reply)))
}

/// Submits a job that puts back what another one changed, as it was before. Only that: what others changed stays, and where
/// a later revision changed one of these paths again, the new job fails and names it, unless it is forced.
#[utoipa::path(post, operation_id = "revert_job", path = "/api/v1/jobs/{id}/revert", tag = "jobs",
    params(("id" = JobId, Path, description = "the job to undo")), request_body = RevertRequest,
    responses(
        (status = 200, description = "the job that does it", body = SubmitReply),
        (status = "default", description = "refused, with the reason", body = ErrorBody),
    ))]
pub(super) async fn revert(
    State(state): State<Shared>,
    Extension(caller): Extension<Caller>,
    ApiPath(id): ApiPath<JobId>,
    ApiJson(request): ApiJson<RevertRequest>,
) -> Result<Json<SubmitReply>, ApiError> {
    Ok(Json(state.engine.revert(Some(caller.name), id, request).await?))
}

/// A job, or several.
#[derive(utoipa::ToSchema)]
#[schema(as = OneOrManyJobs)]
#[allow(dead_code)] // only describes what `parse_specs` reads
#[serde(untagged)]
enum OneOrMany {
    One(Box<JobSpec>),
    Many(Vec<JobSpec>),
}

fn parse_specs(bytes: &[u8]) -> Result<Vec<JobSpec>, ApiError> {
    let is_array = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    if is_array { parse_json(bytes) } else { Ok(vec![parse_json(bytes)?]) }
}

/// Lists jobs, newest first.
#[utoipa::path(get, operation_id = "list_jobs", path = "/api/v1/jobs", tag = "jobs",
    params(
        ("state" = Option<String>, Query, description = "one of these states, separated by commas", example = "queued,running"),
        ("repository" = Option<String>, Query, description = "of this repository"),
        ("name" = Option<String>, Query, description = "of exactly this name"),
        ("submission" = Option<SubmissionId>, Query, description = "of this submission"),
        ("submitter" = Option<String>, Query, description = "of this submitter"),
        ("label" = Option<Vec<String>>, Query, description = "with this label, `key=value`; may be repeated"),
        ("limit" = Option<usize>, Query, description = "jobs on a page, 1 to 1000; 100 where absent"),
        ("cursor" = Option<u64>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, body = JobList), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn list(State(state): State<Shared>, mut params: Params) -> Result<Json<JobList>, ApiError> {
    let filter = filter(&mut params)?;
    let limit = params.one("limit")?.unwrap_or(PAGE);
    let cursor = params.one("cursor")?;
    params.finish()?;
    Ok(Json(state.engine.list(filter, cursor, limit).await?))
}

/// Takes a listing's filter out of a query.
pub(super) fn filter(params: &mut Params) -> Result<JobFilter, ApiError> {
    let mut states = Vec::new();
    for word in params.many("state").iter().flat_map(|words| words.split(',')).filter(|word| !word.is_empty()) {
        states.push(StateKind::parse(word).ok_or_else(|| {
            let all: Vec<_> = StateKind::ALL.iter().map(|state| state.as_str()).collect();
            let word: String = word.chars().take(60).collect();
            bad_query(format!("parameter state has {word:?}; the states are {}", all.join(", ")))
        })?);
    }
    let repository = params.one::<String>("repository")?;
    let repository = repository.map(RepositoryName::new).transpose().map_err(|error| bad_query(error.to_string()))?;
    let label = |text: String| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(bad_query("parameter label has no `=`; write key=value".to_owned())),
    };
    Ok(JobFilter {
        states,
        repository,
        name: params.one("name")?,
        submission: params.one("submission")?,
        submitter: params.one("submitter")?,
        labels: params.many("label").into_iter().map(label).collect::<Result<_, _>>()?,
    })
}

/// Shows a job.
#[utoipa::path(get, operation_id = "get_job", path = "/api/v1/jobs/{id}", tag = "jobs", params(("id" = JobId, Path, description = "the job")),
    responses((status = 200, body = JobView), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn get(State(state): State<Shared>, ApiPath(id): ApiPath<JobId>) -> Result<Json<JobView>, ApiError> {
    Ok(Json(state.engine.job(id).await?))
}

/// Cancels a job, unless its publish is permitted already. Takes the role `operator`, or `submit` for one's own.
#[utoipa::path(post, operation_id = "cancel_job", path = "/api/v1/jobs/{id}/cancel", tag = "jobs", params(("id" = JobId, Path, description = "the job")),
    responses((status = 200, body = JobView), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn cancel(
    State(state): State<Shared>,
    Extension(caller): Extension<Caller>,
    ApiPath(id): ApiPath<JobId>,
) -> Result<Json<JobView>, ApiError> {
    may_steer(&state, &caller, id).await?;
    Ok(Json(state.engine.cancel(id).await?))
}

/// Tries a job again that failed, was cancelled or was skipped. Takes the role `operator`, or `submit` for one's own.
#[utoipa::path(post, operation_id = "retry_job", path = "/api/v1/jobs/{id}/retry", tag = "jobs",
    params(
        ("id" = JobId, Path, description = "the job"),
        ("with_dependents" = Option<bool>, Query, description = "also those that were skipped because of it"),
    ),
    responses((status = 200, body = JobView), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn retry(
    State(state): State<Shared>,
    Extension(caller): Extension<Caller>,
    ApiPath(id): ApiPath<JobId>,
    mut params: Params,
) -> Result<Json<JobView>, ApiError> {
    may_steer(&state, &caller, id).await?;
    let with_dependents = params.one("with_dependents")?.unwrap_or(false);
    params.finish()?;
    Ok(Json(state.engine.retry(id, with_dependents).await?))
}

/// Settles what became of a job that needs an operator. Saying the same again changes nothing.
#[utoipa::path(post, operation_id = "resolve_job", path = "/api/v1/jobs/{id}/resolve", tag = "jobs", params(("id" = JobId, Path, description = "the job")),
    request_body = ResolveRequest,
    responses((status = 200, body = JobView), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn resolve(
    State(state): State<Shared>,
    ApiPath(id): ApiPath<JobId>,
    ApiJson(request): ApiJson<ResolveRequest>,
) -> Result<Json<JobView>, ApiError> {
    Ok(Json(state.engine.resolve(id, request).await?))
}
