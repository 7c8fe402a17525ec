//! Client of a CernVM-FS gateway: the REST calls of `cvmfs-gateway` that an operator's tools need.
//!
//! Calls block. Payloads, commits and new leases are left to `cvmfs_server`, which makes them.
//!
//! What is known of an outcome is in the error: [`GatewayError::Unreachable`] (nothing was sent), [`GatewayError::Unanswered`]
//! (perhaps done), [`GatewayError::Refused`] (not done). The gateway says most of its errors with status 200.

mod admin;
mod error;
mod key;
mod lease;
#[cfg(test)]
pub(crate) mod stand_in;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::blocking::{Client, Response};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

pub use admin::{Collection, RepositoryState};
pub use error::GatewayError;
pub use key::{GatewayKey, SessionToken};
pub use lease::Lease;
use lease::LeaseBody;

/// Largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 16 << 20;

/// How long after the end of its lease a commit may still be at writing the manifest: the gateway's receiver compares the time
/// just before that.
const COMMIT_TAIL: SignedDuration = SignedDuration::from_secs(60);

/// How long to wait for a gateway.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the connection.
    pub connect: Duration,
    /// For answers that are read from its database. Gateways up to 2.12 answer nothing while a commit runs.
    pub answer: Duration,
    /// For dropping a lease and for garbage collection, which wait for a commit that runs.
    pub commit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(60),
            commit: Duration::from_secs(2 * 3600),
        }
    }
}

/// What dropping a lease came upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// It was there and is not any more. With gateways up to 2.12 it may just have been committed.
    Now,
    /// There is no such lease: it was committed, dropped before, or has expired.
    WasGone,
}

/// What asking for more time led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// The lease now ends then.
    Until(Timestamp),
    /// This gateway is too old for it (before June 2026).
    NotOffered,
    /// There is no such lease any more.
    Gone,
}

/// From when on what the repository says about a session is final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fence {
    /// Nothing of this session can be committed any more.
    Closed,
    /// A commit that was running when its lease was dropped may still land until then.
    Open {
        /// When it is too late for it.
        until: Timestamp,
    },
    /// A commit may still be running, and its lease was gone before its end was learnt.
    Unknown,
}

/// A gateway.
#[derive(Debug)]
pub struct Gateway {
    base: Url,
    key: Option<GatewayKey>,
    http: Client,
    timeouts: Timeouts,
    /// Whether it knows of refreshing, once that was tried.
    refreshes: OnceLock<bool>,
}

/// What a call is signed by.
enum Signed<'a> {
    No,
    By(&'a [u8]),
}

/// Any answer in JSON.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    status: Option<String>,
    reason: Option<String>,
    data: Option<serde_json::Value>,
    output: Option<String>,
}

impl Gateway {
    /// A gateway at `base`, such as `http://gateway.example.org:4929/api/v1`. Nothing is sent yet. Without a key only reading
    /// works. Proxies of the environment are not used: they are meant for what the gateway is not.
    pub fn new(base: &str, key: Option<GatewayKey>, timeouts: Timeouts) -> Result<Self, GatewayError> {
        let invalid = || GatewayError::Address { url: base.to_owned() };
        let mut url = Url::parse(base).map_err(|_| invalid())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(invalid());
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        let http = Client::builder()
            .no_proxy()
            .connect_timeout(timeouts.connect)
            .redirect(reqwest::redirect::Policy::none())
            // A kept connection that the gateway has closed meanwhile looks as if it had been cut after the request.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(GatewayError::Client)?;
        Ok(Self { base: url, key, http, timeouts, refreshes: OnceLock::new() })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        self.base.as_str()
    }

    /// All leases that have not expired, by repository and path in one.
    pub fn leases(&self) -> Result<BTreeMap<String, Lease>, GatewayError> {
        let what = "list the leases";
        let answer = self.call(what, Method::GET, &["leases"], None, Signed::No, self.timeouts.answer)?;
        let bodies: BTreeMap<String, LeaseBody> = self.data(what, answer)?;
        let read = |(path, body): (String, LeaseBody)| {
            let time = body.expires.clone();
            let lease = body.lease(&path).ok_or_else(|| self.senseless(what, format!("{time:?} is no time")))?;
            Ok((path, lease))
        };
        bodies.into_iter().map(read).collect()
    }

    /// The lease of a token; `None` where it is gone.
    pub fn lease(&self, token: &SessionToken) -> Result<Option<Lease>, GatewayError> {
        let what = "look for a lease";
        let path = ["leases", token.expose()];
        let answer = match self.call(what, Method::GET, &path, None, Signed::No, self.timeouts.answer) {
            Err(GatewayError::Refused { reason, .. }) if is_gone(&reason) => return Ok(None),
            other => other?,
        };
        let body: LeaseBody = self.data(what, answer)?;
        let lease = body.lease("").ok_or_else(|| self.senseless(what, "its end is no time".into()))?;
        Ok(Some(lease))
    }

    /// Drops a lease by its token. [`Gateway::fence`] is what proves that nothing more comes of it.
    ///
    /// With gateways up to 2.12 the answer waits for any commit that runs, for as long as [`Timeouts::commit`].
    pub fn drop_lease(&self, token: &SessionToken) -> Result<Dropped, GatewayError> {
        let path = ["leases", token.expose()];
        let signed = Signed::By(token.expose().as_bytes());
        match self.call("drop a lease", Method::DELETE, &path, None, signed, self.timeouts.commit) {
            Ok(_) => Ok(Dropped::Now),
            Err(GatewayError::Refused { reason, .. }) if is_gone(&reason) => Ok(Dropped::WasGone),
            Err(error) => Err(error),
        }
    }

    /// Drops a lease and tells from when on manifest and history are final about its session.
    ///
    /// Gateways up to 2.12 commit under the lock that dropping needs, so that their answer is the fence. Later ones, told by
    /// their refreshing leases, drop a lease while its commit goes on; but they publish nothing after the lease's end, which is
    /// asked for first. `expires` is that end as far as the caller knows it already (from when the lease was new, or refreshed).
    pub fn fence(&self, token: &SessionToken, expires: Option<Timestamp>) -> Result<Fence, GatewayError> {
        if !self.offers_refresh()? {
            self.drop_lease(token)?;
            return Ok(Fence::Closed);
        }
        let told = self.lease(token)?.map(|lease| lease.expires);
        self.drop_lease(token)?;
        match told.max(expires) {
            None => Ok(Fence::Unknown),
            Some(end) => {
                let until = end.saturating_add(COMMIT_TAIL).unwrap_or(Timestamp::MAX);
                Ok(if until <= Timestamp::now() { Fence::Closed } else { Fence::Open { until } })
            }
        }
    }

    /// Asks for more time for a lease: as much as the gateway gives.
    pub fn refresh(&self, token: &SessionToken) -> Result<Refreshed, GatewayError> {
        if self.refreshes.get() == Some(&false) {
            return Ok(Refreshed::NotOffered);
        }
        let what = "refresh a lease";
        let path = ["leases", token.expose()];
        let signed = Signed::By(token.expose().as_bytes());
        let response = self.send(what, Method::PATCH, &path, Some("{}".into()), signed, self.timeouts.answer)?;
        let absent = is_absent(response.status());
        let answer = match self.read(what, response) {
            Err(GatewayError::Refused { reason, .. }) if is_gone(&reason) => {
                self.refreshes.set(true).ok();
                return Ok(Refreshed::Gone);
            }
            Err(_) if absent => {
                self.refreshes.set(false).ok();
                return Ok(Refreshed::NotOffered);
            }
            other => other?,
        };
        self.refreshes.set(true).ok();
        let told = answer.data.and_then(|data| serde_json::from_value::<LeaseBody>(data).ok());
        match told.and_then(|body| body.lease("")) {
            Some(lease) => Ok(Refreshed::Until(lease.expires)),
            None => Ok(self.lease(token)?.map_or(Refreshed::Gone, |lease| Refreshed::Until(lease.expires))),
        }
    }

    /// Tells whether the gateway refreshes leases, by trying it once with a token that nobody has.
    pub fn offers_refresh(&self) -> Result<bool, GatewayError> {
        if let Some(known) = self.refreshes.get() {
            return Ok(*known);
        }
        match SessionToken::new("conveyor-asks-whether-this-is-offered") {
            Some(nobodys) => Ok(self.refresh(&nobodys)? != Refreshed::NotOffered),
            None => Ok(false),
        }
    }

    /// One call whose answer is `{"status": "ok", …}`, or has no status as that of `GET /leases/TOKEN`.
    fn call(
        &self,
        what: &str,
        method: Method,
        path: &[&str],
        body: Option<String>,
        signed: Signed<'_>,
        limit: Duration,
    ) -> Result<Answer, GatewayError> {
        let response = self.send(what, method, path, body, signed, limit)?;
        self.read(what, response)
    }

    /// Sends a request and waits for the head of an answer.
    fn send(
        &self,
        what: &str,
        method: Method,
        path: &[&str],
        body: Option<String>,
        signed: Signed<'_>,
        limit: Duration,
    ) -> Result<Response, GatewayError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let mut request = self.http.request(method, url).timeout(limit);
        if let Signed::By(message) = signed {
            let key = self.key.as_ref().ok_or_else(|| GatewayError::NoKey { what: what.to_owned() })?;
            request = request.header(reqwest::header::AUTHORIZATION, key.authorization(message));
        }
        if let Some(body) = body {
            request = request.header(reqwest::header::CONTENT_TYPE, "application/json").body(body);
        }
        // The address of a call may hold a token.
        request.send().map_err(reqwest::Error::without_url).map_err(|source| self.failed(what, source))
    }

    /// Reads an answer; an error in it is an error, whatever the status of HTTP.
    fn read(&self, what: &str, response: Response) -> Result<Answer, GatewayError> {
        let status = response.status();
        // Not the gateway's own: something between us and it, which knows nothing of what it does.
        let foreign = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        if foreign.contains(&status) || status.is_redirection() {
            return Err(self.unanswered(what, format!("status {status}")));
        }
        let mut text = String::new();
        response
            .take(MAX_ANSWER)
            .read_to_string(&mut text)
            .map_err(|error| self.unanswered(what, format!("the answer broke off: {error}")))?;
        if !status.is_success() {
            let words: String = text.trim().chars().take(200).collect();
            let reason = if words.is_empty() { status.to_string() } else { words };
            return Err(self.refused(what, reason));
        }
        let answer: Answer = serde_json::from_str(&text)
            .map_err(|_| self.unanswered(what, "an answer that is not a gateway's".into()))?;
        match answer.status.as_deref() {
            None | Some("ok") => Ok(answer),
            Some(other) => Err(self.refused(what, answer.reason.clone().unwrap_or_else(|| other.to_owned()))),
        }
    }

    /// The `data` of an answer.
    fn data<T: serde::de::DeserializeOwned>(&self, what: &str, answer: Answer) -> Result<T, GatewayError> {
        let data = answer.data.unwrap_or(serde_json::Value::Null);
        serde_json::from_value(data).map_err(|error| self.senseless(what, error.to_string()))
    }

    fn failed(&self, what: &str, source: reqwest::Error) -> GatewayError {
        if source.is_connect() {
            return GatewayError::Unreachable { what: what.to_owned(), url: self.url().to_owned(), source };
        }
        let why = if source.is_timeout() { "it took too long".to_owned() } else { root_cause(&source) };
        self.unanswered(what, why)
    }

    fn unanswered(&self, what: &str, why: String) -> GatewayError {
        GatewayError::Unanswered { what: what.to_owned(), url: self.url().to_owned(), why }
    }

    fn refused(&self, what: &str, reason: String) -> GatewayError {
        GatewayError::Refused { what: what.to_owned(), url: self.url().to_owned(), reason }
    }

    /// An answer to a question that changes nothing, which is no answer.
    fn senseless(&self, what: &str, why: String) -> GatewayError {
        self.unanswered(what, format!("an answer that makes no sense: {why}"))
    }
}

/// Tells whether a gateway means that there is no such lease.
fn is_gone(reason: &str) -> bool {
    reason.contains("invalid lease") || reason == "invalid_token"
}

/// Tells whether a status means that the gateway does not have this call.
fn is_absent(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
}

/// The innermost reason, which says most.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
