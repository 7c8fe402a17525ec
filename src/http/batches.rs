//! Routes of workers.

use std::time::Duration;

use axum::Json as Reply;
use axum::extract::State;
use serde::Deserialize;

use super::AppState;
use super::body::{Json, Path, Query};
use super::error::{ApiError, ApiResult};
use crate::app::MAX_WAIT;
use crate::domain::ids::{BatchId, InstanceId, JobId};
use crate::domain::protocol::{
    ClaimReply, ClaimRequest, FindingRequest, HeartbeatReply, HeartbeatRequest, IntentRequest, OfferList,
    OutcomeRequest, PinRequest,
};

/// Most offers in one answer.
const MAX_OFFERS: usize = 1000;

#[derive(Deserialize)]
pub(super) struct Poll {
    #[serde(default)]
    wait: u64,
    max: usize,
    node: String,
    instance: InstanceId,
}

/// Waits for offers. Registered for news before it looks; a worker that hangs up while it waits takes nothing.
pub(super) async fn offers(
    State(state): State<AppState>,
    Path(fleet): Path<String>,
    Query(poll): Query<Poll>,
) -> ApiResult<Reply<OfferList>> {
    if poll.max == 0 || poll.max > MAX_OFFERS || poll.node.is_empty() || poll.node.len() > 200 {
        let message = format!("max must be 1 to {MAX_OFFERS}, node 1 to 200 bytes");
        return Err(ApiError::bad_request("bad_query", message, "correct the worker's settings"));
    }
    let over = tokio::time::Instant::now() + Duration::from_secs(poll.wait).min(MAX_WAIT);
    let mut changed = state.engine.offers_changed();
    let mut shutdown = state.shutdown.clone();
    loop {
        changed.borrow_and_update();
        let offers = state.engine.take_offers(&fleet, &poll.node, poll.instance, poll.max).await?;
        if !offers.is_empty() {
            let sent = offers.iter().map(|offer| (offer.batch_id, offer.generation)).collect();
            let engine = state.engine.clone();
            tokio::spawn(async move {
                if let Err(error) = engine.offers_sent(sent).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "offers went out and could not be noted; they may go out twice"
                    );
                }
            });
            return Ok(Reply(OfferList { offers }));
        }
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { break },
            () = tokio::time::sleep_until(over) => break,
            () = super::server::stopped(&mut shutdown) => break,
        }
    }
    Ok(Reply(OfferList { offers: Vec::new() }))
}

pub(super) async fn claim(
    State(state): State<AppState>,
    Path(id): Path<BatchId>,
    Json(request): Json<ClaimRequest>,
) -> ApiResult<Reply<ClaimReply>> {
    Ok(Reply(state.engine.claim(id, request).await?))
}

pub(super) async fn heartbeat(
    State(state): State<AppState>,
    Json(request): Json<HeartbeatRequest>,
) -> ApiResult<Reply<HeartbeatReply>> {
    Ok(Reply(state.engine.heartbeat(request).await?))
}

pub(super) async fn intent(
    State(state): State<AppState>,
    Path(id): Path<BatchId>,
    Json(request): Json<IntentRequest>,
) -> ApiResult<Reply<()>> {
    Ok(Reply(state.engine.intent(id, request).await?))
}

pub(super) async fn outcome(
    State(state): State<AppState>,
    Path(id): Path<BatchId>,
    Json(request): Json<OutcomeRequest>,
) -> ApiResult<Reply<()>> {
    Ok(Reply(state.engine.outcome(id, request).await?))
}

pub(super) async fn finding(
    State(state): State<AppState>,
    Path(id): Path<BatchId>,
    Json(request): Json<FindingRequest>,
) -> ApiResult<Reply<()>> {
    Ok(Reply(state.engine.finding(id, request).await?))
}

pub(super) async fn pin(
    State(state): State<AppState>,
    Path((batch, job)): Path<(BatchId, JobId)>,
    Json(request): Json<PinRequest>,
) -> ApiResult<Reply<()>> {
    Ok(Reply(state.engine.pin(batch, job, request).await?))
}
