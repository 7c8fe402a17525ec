//! The page of the workers.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;

use super::{ago, html, moment};
use crate::domain::worker::WorkerList;
use crate::http::Shared;
use crate::http::error::ApiError;

#[derive(Template)]
#[template(path = "workers.html")]
struct Workers {
    list: WorkerList,
    now: Timestamp,
}

/// Shows the workers.
#[utoipa::path(get, operation_id = "workers_page", path = "/workers", tag = "page",
    responses((status = 200, body = String, content_type = "text/html")))]
pub(in crate::http) async fn workers(State(state): State<Shared>) -> Result<Response, ApiError> {
    let page = Workers { list: state.engine.workers().await?, now: Timestamp::now() };
    Ok(html(StatusCode::OK, &page))
}
