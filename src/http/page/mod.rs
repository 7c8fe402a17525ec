//! The page for people: made here, complete without JavaScript; a script of ours only keeps it fresh.

pub(in crate::http) mod job;
pub(in crate::http) mod workers;

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::Shared;
use super::error::ApiError;
use super::extract::{ApiPath, Params};
use crate::domain::job::state::StateKind;
use crate::domain::protocol::JobList;

/// Jobs on a page.
const PAGE: usize = 50;

/// Scripts, styles and connections of ours only, and nothing inline: a job's name cannot become code.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

#[derive(Template)]
#[template(path = "index.html")]
struct Index {
    counts: Vec<(StateKind, u64)>,
    total: u64,
    state: String,
    repository: String,
    repositories: Vec<String>,
    list: JobList,
    older: Option<String>,
    is_first: bool,
    now: Timestamp,
}

/// The form for the token.
#[derive(Template)]
#[template(path = "login.html")]
pub(in crate::http) struct Login {
    /// What came of a try.
    pub(in crate::http) problem: Option<String>,
}

/// A page as a response.
pub(in crate::http) fn html(status: StatusCode, page: &impl Template) -> Response {
    let text = match page.render() {
        Ok(text) => text,
        Err(error) => return ApiError::internal(error).into_response(),
    };
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, text).into_response()
}

/// Shows the newest jobs.
#[utoipa::path(get, operation_id = "jobs_page", path = "/", tag = "page",
    params(
        ("state" = Option<String>, Query, description = "in this state"),
        ("repository" = Option<String>, Query, description = "of this repository"),
        ("cursor" = Option<u64>, Query, description = "older than these"),
    ),
    responses((status = 200, body = String, content_type = "text/html")))]
pub(in crate::http) async fn index(State(state): State<Shared>, mut params: Params) -> Result<Response, ApiError> {
    let filter = super::jobs::filter(&mut params)?;
    let cursor = params.one("cursor")?;
    params.finish()?;
    let engine = &state.engine;
    let counted = engine.count_by_state().await?;
    let count = |state: StateKind| counted.iter().find(|(kind, _)| *kind == state).map_or(0, |(_, count)| *count);
    let counts: Vec<_> = StateKind::ALL.map(|state| (state, count(state))).into();
    let (words, name) = (filter.states.clone(), filter.repository.clone());
    let list = engine.list(filter, cursor, PAGE).await?;
    let states = words.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(",");
    let repository = name.map(|name| name.as_str().to_owned()).unwrap_or_default();
    let older = list.next_cursor.map(|cursor| {
        let mut query = url::form_urlencoded::Serializer::for_suffix(String::from("/?"), 2);
        query.append_pair("state", &states).append_pair("repository", &repository);
        query.append_pair("cursor", &cursor.to_string()).finish()
    });
    let page = Index {
        total: counts.iter().map(|(_, count)| count).sum(),
        counts,
        state: states,
        repository,
        repositories: engine.repositories().keys().map(|name| name.as_str().to_owned()).collect(),
        list,
        older,
        is_first: cursor.is_none(),
        now: Timestamp::now(),
    };
    Ok(html(StatusCode::OK, &page))
}

/// A moment as people read it.
fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// How long ago a moment was.
fn ago(at: &Timestamp, now: &Timestamp) -> String {
    let seconds = now.duration_since(*at).as_secs();
    match seconds {
        ..5 => "just now".into(),
        5..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// Gives the page's style, script and icon.
#[utoipa::path(get, operation_id = "page_asset", path = "/assets/{file}", tag = "page", security(()), params(("file" = String, Path, description = "`conveyor.css`, `conveyor.js` or `icon.svg`")),
    responses((status = 200, description = "the file", body = String), (status = 404, description = "no such file")))]
pub(in crate::http) async fn asset(ApiPath(file): ApiPath<String>, uri: Uri) -> Result<Response, ApiError> {
    let (kind, text) = match file.as_str() {
        "conveyor.css" => ("text/css; charset=utf-8", include_str!("../pages/conveyor.css")),
        "conveyor.js" => ("text/javascript; charset=utf-8", include_str!("../pages/conveyor.js")),
        "icon.svg" => ("image/svg+xml", include_str!("../pages/icon.svg")),
        _ => return Err(super::error::no_such_route(axum::http::Method::GET, uri).await),
    };
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, text).into_response())
}
