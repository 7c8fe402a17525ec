//! Lets a browser in: the page cannot send a header, so the token goes into a cookie that only reads.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::access::COOKIE;
use super::error::ApiError;
use super::page::{Login, html};
use super::{Shared, body};
use crate::domain::access::Role;

/// Longest form in bytes.
const FORM: usize = 16 * 1024;
/// How long a browser stays in, in seconds.
const STAY: u32 = 30 * 24 * 3600;

/// Shows the form.
#[utoipa::path(get, operation_id = "login_page", path = "/login", tag = "page", security(()), responses((status = 200, body = String, content_type = "text/html")))]
pub(super) async fn form() -> Response {
    html(StatusCode::OK, &Login { problem: None })
}

/// Takes the token and gives the cookie.
#[utoipa::path(post, operation_id = "login", path = "/login", tag = "page", security(()),
    request_body(content = String, content_type = "application/x-www-form-urlencoded", description = "`token=…`"),
    responses(
        (status = 303, description = "let in"),
        (status = 403, description = "the token may not look", body = String, content_type = "text/html"),
        (status = 401, description = "the token is not known or no longer good", body = String, content_type = "text/html"),
    ))]
pub(super) async fn enter(
    State(state): State<Shared>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, ApiError> {
    let form = body::collect(&headers, request.into_body(), FORM, state.limits.body_idle).await?;
    let secret = url::form_urlencoded::parse(&form).find(|(name, _)| name == "token").map(|(_, secret)| secret);
    let secret = secret.as_deref().unwrap_or_default().trim();
    let problem = match state.engine.authenticate(secret) {
        Ok(caller) if caller.roles.include(Role::Read) => None,
        Ok(caller) => Some((
            StatusCode::FORBIDDEN,
            format!(
                "Token {} ({}) has the role {}, which does not look at jobs.",
                caller.id, caller.name, caller.roles
            ),
        )),
        Err(denied) => Some((StatusCode::UNAUTHORIZED, format!("This does not let you in: {denied}."))),
    };
    if let Some((status, problem)) = problem {
        return Ok(html(status, &Login { problem: Some(problem) }));
    }
    // Behind a proxy that speaks TLS the cookie must not travel without it.
    let secure = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
    let cookie = format!(
        "{COOKIE}={}; HttpOnly; SameSite=Strict; Path=/; Max-Age={STAY}{}",
        hex::encode(secret),
        if secure { "; Secure" } else { "" }
    );
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response())
}
