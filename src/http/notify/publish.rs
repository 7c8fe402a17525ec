//! Publishing a message: both dialects do it alike.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};

use super::super::body::{self, BodyError};
use super::{Answer, Notify, Peer, Refused};
use crate::app::notifications::{NotifyError, Refusal};
use crate::causes::sentence;
use crate::domain::access::Role;
use crate::domain::notification::{Message, Origin};

type Reply = Result<Json<Answer>, Refused>;

/// Publishes a notification (the dialect of `cvmfs-notify`).
///
/// The body is the message: `version`, `timestamp`, `type` (`activity`), `repository` and `manifest` (the file
/// `.cvmfspublished`, base64). Its manifest is verified. A message whose revision is not above that of the last one is
/// accepted and told to nobody.
#[utoipa::path(post, operation_id = "publish_notification", path = "/api/v1/publish", tag = "notifications",
    request_body(content = Object, content_type = "application/json"),
    responses((status = 200, description = "accepted", body = Answer), (status = "default", description = "refused", body = Answer)))]
pub(super) async fn publish(State(notify): State<Arc<Notify>>, peer: Peer, headers: HeaderMap, content: Body) -> Reply {
    accept(&notify, peer, &headers, content).await
}

/// Publishes a notification (the dialect of the gateway). As `/api/v1/publish`.
#[utoipa::path(post, operation_id = "publish_gateway_notification", path = "/api/v1/notifications/publish", tag = "notifications",
    request_body(content = Object, content_type = "application/json"),
    responses((status = 200, description = "accepted", body = Answer), (status = "default", description = "refused", body = Answer)))]
pub(super) async fn publish_to_gateway(
    State(notify): State<Arc<Notify>>,
    peer: Peer,
    headers: HeaderMap,
    content: Body,
) -> Reply {
    accept(&notify, peer, &headers, content).await
}

async fn accept(notify: &Notify, peer: Peer, headers: &HeaderMap, content: Body) -> Reply {
    let settings = &notify.settings;
    let caller = notify.authorize(headers, settings.open_publish, Role::Notify)?;
    if caller.is_none() && !notify.clients.may_publish(peer.0, Instant::now()) {
        let why = format!("this address publishes more than {} messages a second", settings.publishes_per_s);
        return Err(Refused::new(StatusCode::TOO_MANY_REQUESTS, "too_many_messages", why));
    }
    let body = body::collect(headers, content, settings.message_bytes, settings.idle).await.map_err(|error| {
        let status = match error {
            BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::Idle { .. } => StatusCode::REQUEST_TIMEOUT,
            BodyError::Broken => StatusCode::BAD_REQUEST,
        };
        Refused::new(status, "invalid_message", error.to_string())
    })?;
    let message = Message::parse(&body)
        .map_err(|error| Refused::new(StatusCode::BAD_REQUEST, "invalid_message", error.to_string()))?;
    if let (Some(caller), Some(names)) = (&caller, settings.notifiers.get(message.repository()))
        && !names.contains(&caller.name)
        && !caller.roles.include(Role::Operator)
    {
        let why = format!("token {} ({}) may not publish about {}", caller.id, caller.name, message.repository());
        return Err(Refused::new(StatusCode::FORBIDDEN, "forbidden", why));
    }
    match notify.notifications.publish(message, None, Origin::Posted).await {
        Ok(_) => Ok(Json(Answer::OK)),
        Err(NotifyError::Refused(refusal)) => {
            let (status, reason) = match &refusal {
                Refusal::Unreachable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unreachable"),
                _ => (StatusCode::FORBIDDEN, "not_believed"),
            };
            Err(Refused::new(status, reason, format!("{}; {}", sentence(&refusal), refusal.hint())))
        }
        Err(NotifyError::Store(error)) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a notification could not be stored");
            let why = "the notification could not be stored; publish it again".to_owned();
            Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "not_stored", why))
        }
    }
}
