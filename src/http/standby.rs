//! What a server answers while another one leads on its state.

use std::sync::{Arc, OnceLock};

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::routing::get;
use axum::{Json, Router};
use tower::ServiceExt;

use super::error::ApiError;
use super::health::{Readiness, healthz};
use super::request;

/// Says of every request but those after its health that another server leads; from the moment on that `leading` is set,
/// also on connections that stand already, everything goes there.
pub fn until_leading(leading: Arc<OnceLock<Router>>) -> Router {
    let standby = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(not_ready))
        .fallback(not_leader)
        .method_not_allowed_fallback(not_leader)
        .layer(from_fn(request::accompany));
    Router::new().fallback(move |request: Request| {
        let router = leading.get().unwrap_or(&standby).clone();
        async move { router.oneshot(request).await }
    })
}

async fn not_ready() -> (StatusCode, Json<Readiness>) {
    let reason = Some("standby: not leader".to_owned());
    (
        StatusCode::SERVICE_UNAVAILABLE,
        Json(Readiness { ready: false, reason, damaged_rows: 0, warnings: Vec::new(), broker: None }),
    )
}

async fn not_leader() -> ApiError {
    ApiError::not_leader()
}
