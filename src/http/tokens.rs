//! Tokens: make them known, list them, take them back.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use tracing::Instrument;

use super::Shared;
use super::error::ApiError;
use super::extract::{ApiJson, ApiPath};
use crate::app::Caller;
use crate::domain::access::TokenId;
use crate::domain::protocol::{ErrorBody, NewToken, TokenList, TokenView};

/// Makes a token known that the client made up. Its secret is never sent: keep it where it is to be used.
///
/// Sending the same one again makes no second one; another token under the same id is refused.
#[utoipa::path(post, operation_id = "create_token", path = "/api/v1/tokens", tag = "tokens",
    request_body(content = NewToken),
    responses(
        (status = 201, description = "it is good from now on", body = TokenView),
        (status = 200, description = "was there already", body = TokenView),
        (status = "default", description = "refused", body = ErrorBody),
    ))]
pub(super) async fn create(
    State(state): State<Shared>,
    Extension(caller): Extension<Caller>,
    ApiJson(token): ApiJson<NewToken>,
) -> Result<(StatusCode, Json<TokenView>), ApiError> {
    // On a task of its own, here and below: what is committed must come into force even if the client leaves meanwhile.
    let work = async move { state.engine.create_token(token, &caller.name).await };
    let work = tokio::spawn(work.in_current_span());
    let (view, created) = work.await.map_err(ApiError::internal)??;
    Ok((if created { StatusCode::CREATED } else { StatusCode::OK }, Json(view)))
}

/// Lists all tokens, also those in files and those that are no longer good.
#[utoipa::path(get, operation_id = "list_tokens", path = "/api/v1/tokens", tag = "tokens",
    responses((status = 200, body = TokenList), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn list(State(state): State<Shared>) -> Json<TokenList> {
    Json(TokenList { tokens: state.engine.tokens() })
}

/// Takes a token back. When the reply comes it opens nothing any more, and streams that it opened end.
#[utoipa::path(post, operation_id = "revoke_token", path = "/api/v1/tokens/{id}/revoke", tag = "tokens",
    params(("id" = String, Path, description = "the token's id")),
    responses((status = 200, body = TokenView), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn revoke(
    State(state): State<Shared>,
    Extension(caller): Extension<Caller>,
    ApiPath(id): ApiPath<TokenId>,
) -> Result<Json<TokenView>, ApiError> {
    let work = async move { state.engine.revoke_token(id, &caller.name).await };
    let work = tokio::spawn(work.in_current_span());
    Ok(Json(work.await.map_err(ApiError::internal)??))
}
