//! The logs of jobs.

use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use url::Url;

use super::sse::{Sse, SseItem};
use super::{Client, ClientError, Repeat};
use crate::domain::ids::JobId;

/// A piece of a log that is being followed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LogPiece {
    /// The attempt it belongs to.
    pub attempt: u32,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// What the payload said.
    pub text: String,
}

/// A log that is being followed over as many connections as it takes.
pub struct LogStream(Sse);

impl Client {
    fn log_url(&self, job: JobId, parts: &[&str], query: &[(&str, Option<u64>)]) -> Url {
        let mut url = self.route(&[&["jobs", &job.to_string(), "log"], parts].concat());
        for (key, value) in query {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(key, &value.to_string());
            }
        }
        url
    }

    /// A job's log as it is now: of one attempt or the last, all or the last `tail` bytes.
    pub async fn log(&self, job: JobId, attempt: Option<u32>, tail: Option<u64>) -> Result<bytes::Bytes, ClientError> {
        let action = "read the log";
        let url = self.log_url(job, &[], &[("attempt", attempt.map(u64::from)), ("tail", tail)]);
        let build = || Ok(self.request(Method::GET, url.clone()).timeout(Duration::from_secs(120)));
        self.read(action, Repeat::Always, build).await
    }

    /// The paths that a job's attempt changes, or would have, as text; the last attempt's where none is named.
    pub async fn changes(&self, job: JobId, attempt: Option<u32>) -> Result<bytes::Bytes, ClientError> {
        let action = "read the changed paths";
        let mut url = self.route(&["jobs", &job.to_string(), "changes"]);
        if let Some(attempt) = attempt {
            url.set_query(Some(&format!("attempt={attempt}")));
        }
        let build = || Ok(self.request(Method::GET, url.clone()).timeout(Duration::from_secs(120)));
        self.read(action, Repeat::Always, build).await
    }

    /// Follows a job's log to the end of the job, from the beginning of one attempt or the current one.
    pub fn follow_log(&self, job: JobId, attempt: Option<u32>) -> LogStream {
        LogStream(Sse::new(
            self,
            "follow the log",
            self.log_url(job, &["stream"], &[("attempt", attempt.map(u64::from))]),
        ))
    }
}

impl LogStream {
    /// Waits for the next piece; nothing once the job has ended and all was said.
    pub async fn next(&mut self) -> Result<Option<LogPiece>, ClientError> {
        loop {
            let SseItem::Message(message) = self.0.next().await? else { continue };
            match message.event.as_str() {
                "end" => return Ok(None),
                "log" => match serde_json::from_str(&message.data) {
                    Ok(piece) => return Ok(Some(piece)),
                    Err(error) => return Err(self.0.garbled(&error)),
                },
                _ => {}
            }
        }
    }
}
