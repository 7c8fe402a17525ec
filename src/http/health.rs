//! Whether the process lives, and whether it can do its work.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::AppState;
use super::error::ApiResult;
use crate::app::AppError;
use crate::store::StoreError;

/// How long the writer may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn alive() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// Answers 200 when the database's writer answers.
pub(super) async fn ready(State(state): State<AppState>) -> ApiResult<Json<Value>> {
    let written = tokio::time::timeout(LIMIT, state.engine.store().write(|_| Ok::<_, AppError>(()))).await;
    written.unwrap_or(Err(AppError::Store(StoreError::Stopped)))?;
    Ok(Json(json!({"status": "ready", "epoch": state.engine.store().epoch()})))
}
