//! Whether the process lives, and whether it can do its work.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use crate::store::StoreError;

/// How long the writer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the server can accept jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// Whether it can.
    pub ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Tells that the process lives.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()), responses((status = 200, description = "alive", body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Tells whether jobs are accepted: the database's writer answers in time.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses(
    (status = 200, description = "ready", body = Readiness),
    (status = 503, description = "not ready, with the reason", body = Readiness),
))]
pub(super) async fn readyz(State(state): State<Shared>) -> (StatusCode, Json<Readiness>) {
    let answer = state.engine.store().write(|_| Ok::<_, StoreError>(()));
    let reason = if state.shutdown.is_cancelled() {
        Some("the server is stopping".to_owned())
    } else {
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "not ready");
                Some(error.to_string())
            }
            Err(_) => Some(format!("the database did not answer within {} s", PATIENCE.as_secs())),
        }
    };
    let status = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready: reason.is_none(), reason }))
}
