//! Server-sent events as the C++ client of CernVM-FS reads them.
//!
//! It takes what libcurl gives it for one event: `data: `, JSON on one line, two line breaks. libcurl gives it each chunk by
//! itself, however many of them one read brings. So an event is one chunk, and nothing else is ever sent: no comment, no id, no
//! heartbeat. A pause between two events keeps them apart also where something in between makes new chunks of what it reads. A
//! stream that ends with HTTP's last chunk is over for good for that client, and one that is cut is not: it is always cut.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::time::{Instant, sleep_until};

use super::super::body;
use super::super::stall::Stalled;
use super::{Answer, Notify, Peer, Refused, Seat, SubscribeRequest};
use crate::app::notifications::{Dialect, Subscription};
use crate::domain::names::RepositoryName;

/// Bytes of a request to subscribe.
const REQUEST: usize = 16 * 1024;

/// Subscribes to one repository (the dialect of the gateway): a GET with a body, as `cvmfs2` and `cvmfs_swissknife` send it.
///
/// Its last message comes at once, where there is one. The stream never ends by itself; when it is cut, ask again.
#[utoipa::path(get, operation_id = "subscribe_gateway", path = "/api/v1/notifications/subscribe", tag = "notifications", security(()),
    request_body(content = SubscribeRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "the messages", body = Object, content_type = "text/event-stream"),
        (status = "default", description = "refused", body = Answer),
    ))]
pub(super) async fn subscribe(
    State(notify): State<Arc<Notify>>,
    peer: Peer,
    stalled: Stalled,
    version: Version,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Refused> {
    let bad = |why: String| Refused::new(StatusCode::BAD_REQUEST, "invalid_request", why);
    if version != Version::HTTP_11 {
        // Without chunks a cut stream looks like one that has ended.
        let why = "ask with HTTP/1.1".to_owned();
        return Err(Refused::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "invalid_request", why));
    }
    let (caller, seat) = notify.admit(&headers, (peer, stalled), Dialect::Events)?;
    let body = body::collect(&headers, content, REQUEST, notify.settings.idle);
    let body = body.await.map_err(|error| bad(error.to_string()))?;
    let request: SubscribeRequest = serde_json::from_slice(&body)
        .map_err(|error| bad(format!("the body is not {{\"version\":1,\"repository\":NAME}}: {error}")))?;
    let repository = RepositoryName::new(request.repository).map_err(|error| bad(error.to_string()))?;
    let mut subscription = notify.notifications.subscribe();
    subscription.add(&repository);
    let pause = notify.settings.pause;
    let feed = Feed { subscription, cut: Box::pin(notify.cut(caller)), pause, sent: None, seat };
    let events = stream::unfold(Some(feed), |feed| async {
        let mut feed = feed?;
        match feed.next().await {
            Some(event) => Some((Ok(event), Some(feed))),
            // An error, so that the connection ends without a last chunk.
            None => Some((Err(io::Error::other("the stream is cut")), None)),
        }
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((kind, Body::from_stream(events)).into_response())
}

/// One client's stream.
struct Feed {
    subscription: Subscription,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    pause: Duration,
    /// When the last event was given.
    sent: Option<Instant>,
    seat: Seat,
}

impl Feed {
    /// The next event; none when the stream is to be cut.
    async fn next(&mut self) -> Option<Bytes> {
        let next = async {
            // Taken after the pause: then it is the newest.
            if let Some(sent) = self.sent {
                sleep_until(sent + self.pause).await;
            }
            self.subscription.next().await
        };
        let announcement = tokio::select! {
            announcement = next => announcement,
            () = &mut self.cut => return None,
        };
        self.sent = Some(Instant::now());
        self.seat.counted.sent();
        Some(announcement.message.event())
    }
}
