//! Reading of requests. What does not fit is refused with the field and the reason, in the API's own form.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use super::error::ApiError;
use super::{Shared, body};

/// Values out of the path.
pub(super) struct ApiPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for ApiPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, ApiError> {
        let bad = |rejection: PathRejection| match rejection {
            PathRejection::FailedToDeserializePathParams(_) => {
                ApiError::bad_request("bad_path", shorten(rejection.body_text()), "see /api/v1/openapi.json")
            }
            other => ApiError::internal(other.body_text()),
        };
        Path::from_request_parts(parts, state).await.map(|Path(value)| Self(value)).map_err(bad)
    }
}

/// A JSON body of at most [`super::Limits::json_bytes`].
pub(super) struct ApiJson<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Shared> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Shared) -> Result<Self, ApiError> {
        let (parts, content) = request.into_parts();
        check_is_json(&parts.headers)?;
        let limits = &state.limits;
        let bytes = body::collect(&parts.headers, content, limits.json_bytes, limits.body_idle).await?;
        parse_json(&bytes).map(Self)
    }
}

/// Refuses a body that does not say that it is JSON; so no foreign page can send one without being asked.
pub(super) fn check_is_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = format!("the body's type is {:?}", shorten(kind.to_owned()));
    let hint = "send JSON with the header `Content-Type: application/json`";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_content_type", message, hint))
}

/// Reads JSON; the error names the field as well as the position.
pub(super) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        // Only a body that is refused is read twice.
        let mut again = serde_json::Deserializer::from_slice(bytes);
        let field = match serde_path_to_error::deserialize::<_, T>(&mut again) {
            Err(error) if error.path().iter().next().is_some() => format!("{}: ", error.path()),
            _ => String::new(),
        };
        let message = shorten(format!("the body is not the JSON that is expected here: {field}{error}"));
        ApiError::bad_request("bad_json", message, "see /api/v1/openapi.json")
    })
}

/// The query's parameters. An empty one counts as absent, as a form sends it.
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Takes a parameter that may come once.
    pub(super) fn one<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>, ApiError> {
        let values = self.many(name);
        let [value] = values.as_slice() else {
            return if values.is_empty() {
                Ok(None)
            } else {
                Err(bad_query(format!("parameter {name} is given more than once")))
            };
        };
        let bad = |error| bad_query(format!("parameter {name} is {:?}: {error}", shorten(value.clone())));
        value.parse().map(Some).map_err(bad)
    }

    /// Takes a parameter that must come once.
    pub(super) fn required<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<T, ApiError> {
        self.one(name)?.ok_or_else(|| bad_query(format!("parameter {name} is missing")))
    }

    /// Takes a parameter that may be repeated.
    pub(super) fn many(&mut self, name: &str) -> Vec<String> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|(key, _)| key == name);
        self.0 = left;
        Vec::from_iter(taken.into_iter().map(|(_, value): (String, String)| value).filter(|value| !value.is_empty()))
    }

    /// Refuses what nobody took: a misspelt filter must not list everything.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(bad_query(format!("there is no parameter {:?}", shorten(name)))),
        }
    }
}

impl FromRequestParts<Shared> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

pub(super) fn bad_query(message: String) -> ApiError {
    ApiError::bad_request("bad_query", message, "see /api/v1/openapi.json")
}

fn shorten(text: String) -> String {
    if text.len() <= 500 { text } else { text.chars().take(500).chain("…".chars()).collect() }
}
