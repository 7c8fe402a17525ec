//! Notifications: publishing one, and being told of new revisions for ever.

use std::time::{Duration, Instant};

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;

use super::{CALL_TIMEOUT, Client, ClientError, Repeat};
use crate::domain::names::RepositoryName;
use crate::domain::notification::Message;
use crate::domain::signed::{Claims, claims};

/// Bytes that a message may have.
const MAX_MESSAGE: usize = 1 << 20;
/// First pause before connecting anew; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A connection that lived this long was a good one.
const GOOD: Duration = Duration::from_secs(5);
const ACTION: &str = "subscribe to notifications";

/// A new revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The repository.
    pub repository: RepositoryName,
    /// What its manifest says. The server has verified it.
    pub claims: Claims,
}

/// New revisions of one repository, in order and each once, over as many connections as it takes.
pub struct Notices {
    client: Client,
    repository: RepositoryName,
    /// The least revision that is still to be told.
    from: u64,
    connection: Option<Connection>,
    failures: u32,
}

/// What comes, what of it is no whole event yet, and when it was opened.
type Connection = (BoxStream<'static, Result<bytes::Bytes, reqwest::Error>>, Vec<u8>, Instant);

/// What happened.
#[derive(Debug)]
pub enum Told {
    /// A connection stands.
    Connected,
    /// There is a new revision.
    Notice(Notice),
    /// The server cannot be reached, or the connection broke: it is connected anew after the next call.
    Lost(ClientError),
}

impl Client {
    /// Publishes a message; the server verifies what is in it.
    pub async fn publish_notification(&self, message: &Message) -> Result<(), ClientError> {
        let url = self.route(&["notifications", "publish"]);
        let build = || {
            let request = self.request(Method::POST, url.clone()).header(CONTENT_TYPE, "application/json");
            Ok(request.body(message.text().to_owned()).timeout(CALL_TIMEOUT))
        };
        // An answer of any form is good: old services have another.
        self.read("publish the notification", Repeat::Always, build).await.map(drop)
    }

    /// Subscribes to a repository's revisions from `from` on. Connects with the first [`Notices::next`].
    pub fn notices(&self, repository: &RepositoryName, from: u64) -> Notices {
        Notices { client: self.clone(), repository: repository.clone(), from, connection: None, failures: 0 }
    }
}

impl Notices {
    /// Waits for what happens next. It may be dropped and called again without losing anything. An error is final: asking
    /// again would be refused again.
    pub async fn next(&mut self) -> Result<Told, ClientError> {
        loop {
            let Some((chunks, read, opened)) = &mut self.connection else {
                if self.failures > 0 {
                    tokio::time::sleep(self.pause()).await;
                }
                match self.connect().await {
                    Ok(()) => return Ok(Told::Connected),
                    Err(error) if error.is_transient() || error.status() == Some(500) => return Ok(self.lost(error)),
                    Err(error) => return Err(error),
                }
            };
            if let Some(end) = read.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = read.drain(..end + 2).collect();
                self.failures = 0;
                match self.notice(&event) {
                    Ok(Some(notice)) => return Ok(Told::Notice(notice)),
                    Ok(None) => continue,
                    Err(what) => {
                        let error = self.client.makes_no_sense(ACTION, what);
                        return Ok(self.lost(error));
                    }
                }
            }
            if opened.elapsed() > GOOD {
                self.failures = 0;
            }
            let lost = match chunks.try_next().await {
                Ok(Some(chunk)) if read.len() + chunk.len() <= MAX_MESSAGE => {
                    read.extend_from_slice(&chunk);
                    continue;
                }
                Ok(Some(_)) => {
                    self.client.makes_no_sense(ACTION, format!("a message of more than {MAX_MESSAGE} bytes"))
                }
                Ok(None) => self.client.makes_no_sense(ACTION, "the stream has ended"),
                Err(error) => self.client.unreachable(ACTION, error),
            };
            return Ok(self.lost(lost));
        }
    }

    fn lost(&mut self, error: ClientError) -> Told {
        self.connection = None;
        self.failures = self.failures.saturating_add(1);
        Told::Lost(error)
    }

    fn pause(&self) -> Duration {
        let full = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(10)).min(LONGEST_PAUSE);
        let mut byte = [128];
        // Without randomness subscribers are merely in step.
        let _ = getrandom::fill(&mut byte);
        full / 2 + full / 2 * u32::from(byte[0]) / 255
    }

    /// An event's message, where it is a revision that was not told yet. Other lines are left out: a service may send signs of life.
    fn notice(&mut self, event: &[u8]) -> Result<Option<Notice>, String> {
        let line = event.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data:"));
        let Some(line) = line else { return Ok(None) };
        let message = Message::parse(line.trim_ascii()).map_err(|error| error.to_string())?;
        if *message.repository() != self.repository {
            return Ok(None);
        }
        let claims = claims(message.manifest()).ok_or("a message without a manifest")?;
        if claims.revision < self.from {
            return Ok(None);
        }
        self.from = claims.revision.saturating_add(1);
        Ok(Some(Notice { repository: self.repository.clone(), claims }))
    }

    /// Connects. The answer itself has no time limit: old services begin it with the first message. Whoever is gone is noticed by
    /// TCP's own signs of life.
    async fn connect(&mut self) -> Result<(), ClientError> {
        let url = self.client.route(&["notifications", "subscribe"]);
        let body = serde_json::json!({"version": 1, "repository": self.repository}).to_string();
        let request = self.client.request(Method::GET, url).header(CONTENT_TYPE, "application/json").body(body);
        let response = self.client.try_once(ACTION, request).await.map_err(|failed| failed.error)?;
        self.connection = Some((response.bytes_stream().boxed(), Vec::new(), Instant::now()));
        Ok(())
    }
}
