//! Server-sent events that outlive their connection.

use std::time::{Duration, Instant};

use bytes::Bytes;
use eventsource_stream::{Event, EventStreamError, Eventsource};
use futures_util::stream::{self, BoxStream, StreamExt};
use reqwest::{Method, Response};
use url::Url;

use super::retry::Backoff;
use super::{CALL_TIMEOUT, Client, ClientError, Failed};

/// Three heartbeats of the server, which sends one every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
/// How long a stream that was open once tries to come back: longer than an upgrade of the server takes.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How long the end of a stream is waited for once its last event is here.
const LAST_BYTES: Duration = Duration::from_secs(1);
/// A connection that lived this long was a good one.
const GOOD: Duration = Duration::from_secs(5);

/// What a stream brings.
#[derive(Debug)]
pub(super) enum SseItem {
    /// A connection stands: the first, or one anew after a loss.
    Opened,
    /// An event.
    Message(Event),
}

type Events = BoxStream<'static, Result<Event, EventStreamError<ClientError>>>;

/// One route's events, connected anew with `Last-Event-ID` as often as it takes.
pub(super) struct Sse {
    client: Client,
    action: &'static str,
    url: Url,
    /// What is posted, where the route wants to be told more than fits its address.
    body: Option<Bytes>,
    last_id: Option<String>,
    connection: Option<(Events, Instant)>,
    backoff: Backoff,
}

impl Sse {
    /// Connects with the first [`Sse::next`].
    pub(super) fn new(client: &Client, action: &'static str, url: Url) -> Self {
        let backoff = Backoff::new(client.retry_for);
        Self { client: client.clone(), action, url, body: None, last_id: None, connection: None, backoff }
    }

    /// The same with JSON that is posted with each connection.
    pub(super) fn with_body(mut self, json: Bytes) -> Self {
        self.body = Some(json);
        self
    }

    /// Reads the end of a stream whose last event was seen, so that its connection can be used again.
    pub(super) async fn finish(mut self) {
        if let Some((mut events, _)) = self.connection.take() {
            let _ = tokio::time::timeout(LAST_BYTES, events.next()).await;
        }
    }

    /// Waits for what comes next. It may be dropped and called again without losing anything.
    pub(super) async fn next(&mut self) -> Result<SseItem, ClientError> {
        loop {
            let error = match &mut self.connection {
                None => match self.connect().await {
                    Ok(()) => return Ok(SseItem::Opened),
                    Err(failed) if failed.error.is_transient() => Some(failed),
                    Err(failed) => return Err(failed.error),
                },
                Some((events, opened)) => {
                    let item = events.next().await;
                    if item.as_ref().is_some_and(Result::is_ok) || opened.elapsed() > GOOD {
                        self.backoff = Backoff::new(PATIENCE);
                    }
                    match item {
                        Some(Ok(event)) => {
                            if !event.id.is_empty() {
                                self.last_id = Some(event.id.clone());
                            }
                            return Ok(SseItem::Message(event));
                        }
                        Some(Err(EventStreamError::Transport(error))) => {
                            self.connection = None;
                            Some(error.into())
                        }
                        Some(Err(error)) => return Err(self.client.makes_no_sense(self.action, error.to_string())),
                        None => {
                            self.connection = None;
                            None
                        }
                    }
                }
            };
            let (fresh, wish) = (self.backoff.is_fresh(), error.as_ref().and_then(|failed| failed.wish));
            match (self.backoff.next(wish), error) {
                (Some(pause), error) => {
                    if let Some(Failed { error, .. }) = error.filter(|_| fresh) {
                        let seconds = self.backoff.patience().as_secs();
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "connecting anew for up to {seconds} s"
                        );
                    }
                    tokio::time::sleep(pause).await;
                }
                (None, Some(failed)) => return Err(failed.error),
                (None, None) => return Err(self.client.makes_no_sense(self.action, "the stream ends again and again")),
            }
        }
    }

    /// The error of a message that cannot be decoded.
    pub(super) fn garbled(&self, error: &serde_json::Error) -> ClientError {
        self.client.makes_no_sense(self.action, error.to_string())
    }

    async fn connect(&mut self) -> Result<(), Failed> {
        let mut request = match &self.body {
            None => self.client.request(Method::GET, self.url.clone()),
            Some(json) => {
                let request = self.client.request(Method::POST, self.url.clone()).body(json.clone());
                request.header("content-type", "application/json")
            }
        };
        request = request.header("accept", "text/event-stream");
        if let Some(id) = &self.last_id {
            request = request.header("last-event-id", id);
        }
        // The request itself has no time limit: it would end the stream.
        let response = match tokio::time::timeout(CALL_TIMEOUT, self.client.try_once(self.action, request)).await {
            Ok(result) => result?,
            Err(_) => return Err(silent(&self.client, self.action, CALL_TIMEOUT).into()),
        };
        self.connection =
            Some((chunks(self.client.clone(), self.action, response).eventsource().boxed(), Instant::now()));
        Ok(())
    }
}

fn silent(client: &Client, action: &'static str, after: Duration) -> ClientError {
    ClientError::Silent { action, url: client.url().to_owned(), seconds: after.as_secs() }
}

/// The bytes of an answer; silence, heartbeats included, is an error.
fn chunks(client: Client, action: &'static str, response: Response) -> BoxStream<'static, Result<Bytes, ClientError>> {
    stream::unfold(Some((client, response)), move |state| async move {
        let (client, mut response) = state?;
        match tokio::time::timeout(SILENCE, response.chunk()).await {
            Ok(Ok(Some(chunk))) => Some((Ok(chunk), Some((client, response)))),
            Ok(Ok(None)) => None,
            Ok(Err(error)) => Some((Err(client.unreachable(action, error)), None)),
            Err(_) => Some((Err(silent(&client, action, SILENCE)), None)),
        }
    })
    .boxed()
}
