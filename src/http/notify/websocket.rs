//! The WebSocket of `cvmfs-notify`.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;

use super::super::stall::Stalled;
use super::{Answer, Notify, Peer, Refused, Seat, SubscribeRequest};
use crate::app::Caller;
use crate::app::notifications::Dialect;
use crate::domain::names::RepositoryName;

/// What is read at once, in bytes: requests are smaller, and each subscriber has this much memory for as long as it is there.
const READ: usize = 1024;
/// Bytes of a request.
const REQUEST: usize = 16 * 1024;
/// The subprotocol that clients may offer.
const JSON: &str = "json";

/// Subscribes over a WebSocket (the dialect of `cvmfs-notify`).
///
/// The client sends `{"version":1,"repository":NAME}` for each repository, in a binary or a text frame, and gets their messages
/// in binary frames as they were published, the last one of each at once. A client that offers subprotocols must offer `json`.
#[utoipa::path(get, operation_id = "subscribe", path = "/api/v1/subscribe", tag = "notifications", security(()),
    responses((status = 101, description = "the socket"), (status = "default", description = "refused", body = Answer)))]
pub(super) async fn subscribe(
    State(notify): State<Arc<Notify>>,
    peer: Peer,
    stalled: Stalled,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refused> {
    let bad = |why: String| Refused::new(StatusCode::BAD_REQUEST, "invalid_request", why);
    let upgrade = upgrade.map_err(|rejection| bad(rejection.body_text()))?.protocols([JSON]);
    if headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) && upgrade.selected_protocol().is_none() {
        return Err(bad("offer the subprotocol json, or none".into()));
    }
    let (caller, seat) = notify.admit(&headers, (peer, stalled), Dialect::WebSocket)?;
    let upgrade = upgrade.read_buffer_size(READ).write_buffer_size(0).max_message_size(REQUEST).max_frame_size(REQUEST);
    Ok(upgrade.on_upgrade(move |socket| serve(socket, notify, caller, seat)))
}

/// Serves a socket until one of the two ends it.
async fn serve(mut socket: WebSocket, notify: Arc<Notify>, caller: Option<Caller>, seat: Seat) {
    let mut subscription = notify.notifications.subscribe();
    let most = notify.settings.repositories_per_socket;
    let mut cut = Box::pin(Arc::clone(&notify).cut(caller));
    loop {
        let reply = tokio::select! {
            announcement = subscription.next() => {
                seat.counted.sent();
                Message::Binary(announcement.message.json())
            }
            received = socket.recv() => match received {
                Some(Ok(request @ (Message::Binary(_) | Message::Text(_)))) => match read(&request.into_data(), subscription.len() < most) {
                    Ok(repository) => {
                        subscription.add(&repository);
                        continue;
                    }
                    Err(answer) => Message::binary(serde_json::to_vec(&answer).unwrap_or_default()),
                },
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
            () = &mut cut => {
                let away = CloseFrame { code: close_code::AWAY, reason: "the server stops; ask again".into() };
                let _ = tokio::time::timeout(notify.settings.idle, socket.send(Message::Close(Some(away)))).await;
                return;
            }
        };
        // Who takes nothing is dropped; in the meantime it holds up nobody but itself.
        match tokio::time::timeout(notify.settings.idle, socket.send(reply)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                seat.stalled.set();
                return;
            }
        }
    }
}

/// Reads a request to subscribe.
fn read(request: &[u8], has_room: bool) -> Result<RepositoryName, Answer> {
    let value: serde_json::Value =
        serde_json::from_slice(request).map_err(|_| Answer::error("message is not valid JSON", String::new()))?;
    let invalid = |why: String| Answer::error("invalid subscription message", why);
    let request: SubscribeRequest = serde_json::from_value(value).map_err(|error| invalid(error.to_string()))?;
    let repository = RepositoryName::new(request.repository).map_err(|error| invalid(error.to_string()))?;
    if has_room { Ok(repository) } else { Err(invalid("this socket has as many repositories as it may have".into())) }
}
