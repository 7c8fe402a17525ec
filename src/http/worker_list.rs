//! The workers, for whoever looks after them.

use axum::Json;
use axum::extract::State;

use super::Shared;
use super::error::ApiError;
use crate::domain::protocol::ErrorBody;
use crate::domain::worker::WorkerList;

/// Shows the workers: what each said last about itself, what it holds, and which repositories nobody serves.
///
/// One that went silent is shown for a day. After a restart of the server they are back with their next heartbeats.
#[utoipa::path(get, operation_id = "list_workers", path = "/api/v1/workers", tag = "workers",
    responses((status = 200, body = WorkerList), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn list(State(state): State<Shared>) -> Result<Json<WorkerList>, ApiError> {
    Ok(Json(state.engine.workers().await?))
}
