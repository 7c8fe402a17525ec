//! The description of the API, made from the routes themselves.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::log_stream::LogEnd;
use super::{notify, routes};
use crate::domain::progress::JobProgress;
use crate::domain::protocol::ErrorBody;
use crate::domain::standing::UnknownJob;

#[derive(OpenApi)]
#[openapi(
    info(title = "Conveyor", description = "Jobs that publish into CernVM-FS repositories."),
    components(schemas(ErrorBody, JobProgress, LogEnd, UnknownJob)),
    security(("bearer" = [])),
    modifiers(&Bearer),
    tags(
        (name = "jobs", description = "Submit, look at and steer jobs."),
        (name = "events", description = "Follow what happens, as server-sent events."),
        (name = "logs", description = "What the jobs print."),
        (name = "blobs", description = "Payload bytes, named by their SHA-256."),
        (name = "workers", description = "The workers' side: take offers, claim, publish, report."),
        (name = "tokens", description = "Who may do what."),
        (name = "notifications", description = "Tell clients of CernVM-FS of a new revision, and be told."),
        (name = "health", description = "For supervisors."),
        (name = "repositories", description = "How repositories stand and what keeps them from being served; and their files, where the server holds them itself."),
        (name = "page", description = "For people."),
    )
)]
struct Frame;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("bearer", scheme);
    }
}

/// The document without any route.
pub(super) fn frame() -> utoipa::openapi::OpenApi {
    Frame::openapi()
}

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let mut document = routes().into_openapi();
    document.merge(notify::routes().into_openapi());
    // Only axum writes a parameter that spans slashes so.
    let paths = std::mem::take(&mut document.paths.paths);
    let paths = paths.into_iter().map(|(path, mut item)| {
        // One handler answers both methods; an operation's id must be its own.
        if let Some(id) = item.head.as_mut().and_then(|head| head.operation_id.as_mut()) {
            id.insert_str(0, "head_of_");
        }
        (path.replace("{*", "{"), item)
    });
    document.paths.paths = paths.collect();
    serde_json::to_vec_pretty(&document).unwrap_or_default().into()
});

/// Describes this API.
#[utoipa::path(get, operation_id = "describe", path = "/api/v1/openapi.json", tag = "health", security(()), responses((status = 200, description = "an OpenAPI 3.1 document", content_type = "application/json", body = Object)))]
pub(super) async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.clone())
}
