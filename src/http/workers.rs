//! The workers' side: take offers, claim, show life, ask for the publish, report.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::error::ApiError;
use super::extract::{ApiJson, ApiPath, Params, bad_query};
use super::{Shared, body};
use crate::app::MAX_WAIT;
use crate::domain::ids::{BatchId, InstanceId, JobId};
use crate::domain::protocol::{
    ClaimReply, ClaimRequest, ErrorBody, FindingRequest, HeartbeatReply, HeartbeatRequest, IntentRequest, LogPosition,
    OfferList, OutcomeRequest, PinRequest,
};

/// Largest piece of a log in bytes.
pub(super) const LOG_PIECE: usize = 1024 * 1024;
/// Most repositories that a worker can say it serves.
const MAX_SERVED: usize = 10_000;
/// The header that proves a claim where the body is raw.
pub(super) const CLAIM_HEADER: &str = "conveyor-claim";

const NAME_RULE: &str = "use 1 to 255 characters, none of them a control character";

/// Tells whether a node's or fleet's name can be shown and logged.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().count() <= 255 && !name.chars().any(char::is_control)
}

fn check_node(node: &str) -> Result<(), ApiError> {
    if is_name(node) {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_node", "the node's name cannot be shown", NAME_RULE))
}

/// Waits for something to claim and hands it out: at once when there is something, empty after `wait` seconds.
#[utoipa::path(get, path = "/api/v1/fleets/{fleet}/offers", tag = "workers",
    params(
        ("fleet" = String, Path, description = "the fleet that the worker serves"),
        ("node" = String, Query, description = "where the worker runs"),
        ("instance" = InstanceId, Query, description = "which life of the worker"),
        ("wait" = Option<u64>, Query, description = "seconds, up to 60; 0 where absent"),
        ("max" = Option<usize>, Query, description = "batches, which is how many the worker can take; 1 where absent"),
    ),
    responses((status = 200, body = OfferList), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn offers(
    State(state): State<Shared>,
    ApiPath(fleet): ApiPath<String>,
    mut params: Params,
) -> Result<Json<OfferList>, ApiError> {
    let node: String = params.required("node")?;
    if !is_name(&node) || !is_name(&fleet) {
        return Err(bad_query(format!("the fleet or node is no name: {NAME_RULE}")));
    }
    let instance = InstanceId(params.required("instance")?);
    let wait = Duration::from_secs(params.one("wait")?.unwrap_or(0)).min(MAX_WAIT);
    let max = params.one("max")?.unwrap_or(1);
    params.finish()?;

    let until = Instant::now() + wait;
    // Subscribed before the look, so that no offer comes in between unnoticed.
    let mut changed = state.engine.offers_changed();
    loop {
        changed.mark_unchanged();
        let offers = state.engine.take_offers(&fleet, &node, instance, max).await?;
        if !offers.is_empty() {
            let sent = offers.iter().map(|offer| (offer.batch_id, offer.generation)).collect();
            let engine = Arc::clone(&state.engine);
            tokio::spawn(async move {
                if let Err(error) = engine.offers_sent(sent).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "offers went out unrecorded; they will be sent again"
                    );
                }
            });
            return Ok(Json(OfferList { offers }));
        }
        tokio::select! {
            Ok(()) = changed.changed() => {}
            () = tokio::time::sleep_until(until) => return Ok(Json(OfferList { offers })),
            () = state.shutdown.cancelled() => return Ok(Json(OfferList { offers })),
        }
    }
}

/// Claims a batch. The same instance asking again gets the same claim.
#[utoipa::path(post, path = "/api/v1/batches/{batch}/claim", tag = "workers", params(("batch" = BatchId, Path, description = "the batch")),
    request_body = ClaimRequest,
    responses((status = 200, body = ClaimReply), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn claim(
    State(state): State<Shared>,
    ApiPath(batch): ApiPath<BatchId>,
    ApiJson(request): ApiJson<ClaimRequest>,
) -> Result<Json<ClaimReply>, ApiError> {
    check_node(&request.node)?;
    Ok(Json(state.engine.claim(batch, request).await?))
}

/// Shows that a worker lives, and tells it what it must know.
#[utoipa::path(post, path = "/api/v1/workers/heartbeat", tag = "workers", request_body = HeartbeatRequest,
    responses((status = 200, body = HeartbeatReply), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn heartbeat(
    State(state): State<Shared>,
    ApiJson(request): ApiJson<HeartbeatRequest>,
) -> Result<Json<HeartbeatReply>, ApiError> {
    check_node(&request.node)?;
    let about = &request.about;
    let names = [Some(&request.fleet), about.publisher.as_ref(), about.version.as_ref()];
    let served = about.repositories.as_ref().map_or(0, Vec::len);
    if !names.into_iter().flatten().all(|name| is_name(name)) || served > MAX_SERVED {
        let message = "the worker's fleet, publisher, version or list of repositories cannot be shown";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_worker", message, NAME_RULE));
    }
    Ok(Json(state.engine.heartbeat(request).await?))
}

/// Asks for the permission to publish: the point of no return.
#[utoipa::path(post, path = "/api/v1/batches/{batch}/intent", tag = "workers", params(("batch" = BatchId, Path, description = "the batch")),
    request_body = IntentRequest,
    responses((status = 200, description = "publish", body = Done), (status = "default", description = "do not publish", body = ErrorBody)))]
pub(super) async fn intent(
    State(state): State<Shared>,
    ApiPath(batch): ApiPath<BatchId>,
    ApiJson(request): ApiJson<IntentRequest>,
) -> Result<Json<Done>, ApiError> {
    state.engine.intent(batch, request).await?;
    Ok(Json(Done {}))
}

/// Reports how a batch ended. Reporting again changes nothing.
#[utoipa::path(post, path = "/api/v1/batches/{batch}/outcome", tag = "workers", params(("batch" = BatchId, Path, description = "the batch")),
    request_body = OutcomeRequest,
    responses((status = 200, description = "recorded", body = Done), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn outcome(
    State(state): State<Shared>,
    ApiPath(batch): ApiPath<BatchId>,
    ApiJson(request): ApiJson<OutcomeRequest>,
) -> Result<Json<Done>, ApiError> {
    state.engine.outcome(batch, request).await?;
    Ok(Json(Done {}))
}

/// Reports what was found out about a lost batch.
#[utoipa::path(post, path = "/api/v1/batches/{batch}/finding", tag = "workers", params(("batch" = BatchId, Path, description = "the batch")),
    request_body = FindingRequest,
    responses((status = 200, description = "recorded", body = Done), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn finding(
    State(state): State<Shared>,
    ApiPath(batch): ApiPath<BatchId>,
    ApiJson(request): ApiJson<FindingRequest>,
) -> Result<Json<Done>, ApiError> {
    state.engine.finding(batch, request).await?;
    Ok(Json(Done {}))
}

/// Reports what a URL delivered, before it is used.
#[utoipa::path(post, path = "/api/v1/batches/{batch}/jobs/{job}/pin", tag = "workers",
    params(("batch" = BatchId, Path, description = "the batch"), ("job" = JobId, Path, description = "a job of it")),
    request_body = PinRequest,
    responses((status = 200, description = "recorded", body = Done), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn pin(
    State(state): State<Shared>,
    ApiPath((batch, job)): ApiPath<(BatchId, JobId)>,
    ApiJson(request): ApiJson<PinRequest>,
) -> Result<Json<Done>, ApiError> {
    state.engine.pin(batch, job, request).await?;
    Ok(Json(Done {}))
}

/// Appends to the log of a running attempt; the reply says where the next piece begins. Sending twice is sending once.
#[utoipa::path(put, path = "/api/v1/batches/{batch}/jobs/{job}/log", tag = "workers",
    params(
        ("batch" = BatchId, Path, description = "the batch"),
        ("job" = JobId, Path, description = "a job of it"),
        ("offset" = u64, Query, description = "where the piece begins, in bytes from the log's start"),
        ("Conveyor-Claim" = String, Header, description = "the claim's token"),
    ),
    request_body(content = String, content_type = "application/octet-stream", description = "up to 1 MiB of the log"),
    responses((status = 200, body = LogPosition), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn append_log(
    State(state): State<Shared>,
    ApiPath((batch, job)): ApiPath<(BatchId, JobId)>,
    mut params: Params,
    headers: HeaderMap,
    request: Request,
) -> Result<Json<LogPosition>, ApiError> {
    let piece = Piece::of(&state, &mut params, &headers, request).await?;
    params.finish()?;
    let end = state.engine.append_log(batch, job, piece.token, piece.offset, piece.data).await?;
    Ok(Json(LogPosition { end }))
}

/// Appends to the list of the paths that a running attempt changes, a line each: `A /path` (added), `M /path` (modified) or
/// `D /path` (removed). Sending twice is sending once.
#[utoipa::path(put, path = "/api/v1/batches/{batch}/jobs/{job}/changes", tag = "workers",
    params(
        ("batch" = BatchId, Path, description = "the batch"),
        ("job" = JobId, Path, description = "a job of it"),
        ("offset" = u64, Query, description = "where the piece begins, in bytes from the list's start"),
        ("Conveyor-Claim" = String, Header, description = "the claim's token"),
    ),
    request_body(content = String, content_type = "application/octet-stream", description = "up to 1 MiB of the list"),
    responses((status = 200, body = LogPosition), (status = "default", description = "refused", body = ErrorBody)))]
pub(super) async fn append_changes(
    State(state): State<Shared>,
    ApiPath((batch, job)): ApiPath<(BatchId, JobId)>,
    mut params: Params,
    headers: HeaderMap,
    request: Request,
) -> Result<Json<LogPosition>, ApiError> {
    let piece = Piece::of(&state, &mut params, &headers, request).await?;
    params.finish()?;
    let end = state.engine.append_changes(batch, job, piece.token, piece.offset, piece.data).await?;
    Ok(Json(LogPosition { end }))
}

/// A piece of a text that grows.
struct Piece {
    token: String,
    offset: u64,
    data: Vec<u8>,
}

impl Piece {
    async fn of(state: &Shared, params: &mut Params, headers: &HeaderMap, request: Request) -> Result<Self, ApiError> {
        let offset = params.required("offset")?;
        let token = headers.get(CLAIM_HEADER).and_then(|token| token.to_str().ok()).ok_or_else(|| {
            ApiError::bad_request("bad_header", "the header Conveyor-Claim is missing", "send the claim's token in it")
        })?;
        let data = body::collect(headers, request.into_body(), LOG_PIECE, state.limits.body_idle).await?;
        Ok(Self { token: token.to_owned(), offset, data: data.into() })
    }
}

/// `{}`: it is done, and there is nothing to say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub(super) struct Done {}
