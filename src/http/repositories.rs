//! Repositories: how they stand, and what keeps them from being served.

use axum::extract::State;
use axum::{Extension, Json};
use tracing::Instrument;

use super::Shared;
use super::error::ApiError;
use super::extract::{ApiJson, ApiPath};
use crate::app::{AppError, Caller};
use crate::domain::names::RepositoryName;
use crate::domain::protocol::ErrorBody;
use crate::domain::repository::{HoldReply, HoldRequest, PauseRequest, ReleaseRequest, RepositoryList, RepositoryView};

/// Shows all repositories that jobs are accepted for.
#[utoipa::path(get, operation_id = "list_repositories", path = "/api/v1/repositories", tag = "repositories",
    responses((status = 200, body = RepositoryList), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn list(State(state): State<Shared>) -> Result<Json<RepositoryList>, ApiError> {
    Ok(Json(state.engine.repository_list().await?))
}

/// Shows one repository: what keeps it from being served, who serves it, what runs and waits, and its last jobs.
#[utoipa::path(get, operation_id = "get_repository", path = "/api/v1/repositories/{name}", tag = "repositories",
    params(("name" = String, Path, description = "the repository")),
    responses((status = 200, body = RepositoryView), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn get(
    State(state): State<Shared>,
    ApiPath(name): ApiPath<RepositoryName>,
) -> Result<Json<RepositoryView>, ApiError> {
    Ok(Json(state.engine.repository(name).await?))
}

/// Pauses a repository: nothing more of it is offered to workers until it is resumed; what runs ends. Said again, the new
/// reason and end count.
#[utoipa::path(post, operation_id = "pause_repository", path = "/api/v1/repositories/{name}/pause", tag = "repositories",
    params(("name" = String, Path, description = "the repository")), request_body = PauseRequest,
    responses((status = 200, body = RepositoryView), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn pause(
    State(state): State<Shared>,
    Extension(caller): Extension<Caller>,
    ApiPath(name): ApiPath<RepositoryName>,
    ApiJson(request): ApiJson<PauseRequest>,
) -> Result<Json<RepositoryView>, ApiError> {
    on_its_own(async move { state.engine.pause(name, request, caller.name.as_str()).await }).await
}

/// Ends a pause and a hold for maintenance, whoever asked for them. Windows of the configuration stay.
#[utoipa::path(post, operation_id = "resume_repository", path = "/api/v1/repositories/{name}/resume", tag = "repositories",
    params(("name" = String, Path, description = "the repository")),
    responses((status = 200, body = RepositoryView), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn resume(
    State(state): State<Shared>,
    Extension(caller): Extension<Caller>,
    ApiPath(name): ApiPath<RepositoryName>,
) -> Result<Json<RepositoryView>, ApiError> {
    on_its_own(async move { state.engine.resume(name, caller.name.as_str()).await }).await
}

/// Holds a repository for maintenance, or renews that: nothing more is offered. Once the reply says `exclusive`, nothing of
/// the repository runs, and nothing begins while the hold lasts. 409 `held`: somebody else has it; `hold_lost`: it is over.
#[utoipa::path(post, operation_id = "hold_repository", path = "/api/v1/repositories/{name}/hold", tag = "repositories",
    params(("name" = String, Path, description = "the repository")), request_body = HoldRequest,
    responses((status = 200, body = HoldReply), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn hold(
    State(state): State<Shared>,
    Extension(caller): Extension<Caller>,
    ApiPath(name): ApiPath<RepositoryName>,
    ApiJson(request): ApiJson<HoldRequest>,
) -> Result<Json<HoldReply>, ApiError> {
    on_its_own(async move { state.engine.hold(name, request, caller.name.as_str()).await }).await
}

/// Ends a hold for maintenance. That it is over already is no error.
#[utoipa::path(post, operation_id = "release_repository", path = "/api/v1/repositories/{name}/release", tag = "repositories",
    params(("name" = String, Path, description = "the repository")), request_body = ReleaseRequest,
    responses((status = 200, body = RepositoryView), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn release(
    State(state): State<Shared>,
    Extension(caller): Extension<Caller>,
    ApiPath(name): ApiPath<RepositoryName>,
    ApiJson(request): ApiJson<ReleaseRequest>,
) -> Result<Json<RepositoryView>, ApiError> {
    on_its_own(async move { state.engine.release(name, request.id, caller.name.as_str()).await }).await
}

/// Does something to its end even if the client leaves: what is committed must be known here, too.
async fn on_its_own<T: Send + 'static>(
    work: impl Future<Output = Result<T, AppError>> + Send + 'static,
) -> Result<Json<T>, ApiError> {
    Ok(Json(tokio::spawn(work.in_current_span()).await.map_err(ApiError::internal)??))
}
