//! Whether the process lives, and whether it can do its work.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::ApiError;
use super::{Shared, notify};
use crate::app::Engine;
use crate::broker::Link;
use crate::domain::protocol::ErrorBody;

/// The form of figures.
pub(super) const PROMETHEUS: &str = "text/plain; version=0.0.4";
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
    /// Rows of the database that could not be read and were passed over since the server began; `check-db` names them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub damaged_rows: usize,
    /// What workers say is wrong with their machines, such as a whitelist that is about to expire. The server is ready all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The broker, where there is one: without it jobs are accepted and wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker: Option<BrokerReadiness>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// How the connection to the broker stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BrokerReadiness {
    /// `connecting`, `up`, `blocked` (the broker lacks memory or disk) or `down`.
    pub state: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Why, or what is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Fleets whose queue takes nothing, such as one without a leader, and why; offers to the others go out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fleets: BTreeMap<String, String>,
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
    readiness(&state.engine, state.shutdown.is_cancelled()).await
}

/// Whether the database's writer answers in time, and what else is to be known.
pub(super) async fn readiness(engine: &Engine, is_stopping: bool) -> (StatusCode, Json<Readiness>) {
    let answer = engine.store().probe();
    let reason = if is_stopping {
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
    let broker = engine.rabbitmq().map(|status| status.snapshot()).map(|now| BrokerReadiness {
        state: now.link.as_str().to_owned(),
        since: now.since,
        reason: now.reason,
        fleets: now.fleets,
    });
    (
        status,
        Json(Readiness {
            ready: reason.is_none(),
            reason,
            damaged_rows: engine.store().damaged_rows(),
            warnings: engine.node_faults().into_iter().chain(engine.notify_faults()).collect(),
            broker,
        }),
    )
}

/// Tells figures for a monitoring system, in the text form of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", responses(
    (status = 200, description = "the figures", body = String, content_type = "text/plain"),
    (status = "default", description = "refused", body = ErrorBody),
))]
pub(super) async fn metrics(State(state): State<Shared>) -> Result<impl IntoResponse, ApiError> {
    let mut text = String::from("# HELP conveyor_jobs Jobs by state.\n# TYPE conveyor_jobs gauge\n");
    for (kind, count) in state.engine.count_by_state().await? {
        text.push_str(&format!("conveyor_jobs{{state=\"{}\"}} {count}\n", kind.as_str()));
    }
    text.push_str("# HELP conveyor_repository_held 1 where nothing of a repository is offered: paused, or in maintenance.\n# TYPE conveyor_repository_held gauge\n");
    for repository in state.engine.repository_list().await?.repositories {
        let held = u8::from(!repository.holds.is_empty());
        text.push_str(&format!("conveyor_repository_held{{repository=\"{}\"}} {held}\n", repository.repository));
    }
    let damaged = state.engine.store().damaged_rows();
    text.push_str("# HELP conveyor_damaged_rows Rows of the database that could not be read since the server began.\n# TYPE conveyor_damaged_rows gauge\n");
    text.push_str(&format!("conveyor_damaged_rows {damaged}\n"));
    if let Some(notify) = &state.notify {
        text.push_str(&notify::figures(notify.notifications().figures(), &state.engine));
    }
    let whitelists = state.engine.whitelists();
    if !whitelists.is_empty() {
        text.push_str("# HELP conveyor_repository_whitelist_expires_seconds When clients begin to refuse the repository, in seconds since 1970.\n# TYPE conveyor_repository_whitelist_expires_seconds gauge\n");
    }
    for (repository, at) in whitelists {
        let at = at.as_second();
        text.push_str(&format!("conveyor_repository_whitelist_expires_seconds{{repository=\"{repository}\"}} {at}\n"));
    }
    if let Some(now) = state.engine.rabbitmq().map(|status| status.snapshot()) {
        text.push_str("# HELP conveyor_broker_state 1 for the state that the connection to the broker is in.\n# TYPE conveyor_broker_state gauge\n");
        for link in Link::ALL {
            let is = u8::from(link == now.link);
            text.push_str(&format!("conveyor_broker_state{{state=\"{}\"}} {is}\n", link.as_str()));
        }
        text.push_str("# HELP conveyor_broker_failing_fleets Fleets whose queue takes nothing.\n# TYPE conveyor_broker_failing_fleets gauge\n");
        text.push_str(&format!("conveyor_broker_failing_fleets {}\n", now.fleets.len()));
        text.push_str("# HELP conveyor_broker_state_since_seconds When it entered that state, in seconds since 1970.\n# TYPE conveyor_broker_state_since_seconds gauge\n");
        text.push_str(&format!("conveyor_broker_state_since_seconds {}\n", now.since.as_second()));
    }
    Ok(([(header::CONTENT_TYPE, PROMETHEUS)], text))
}
