//! The HTTP client: what the command line and the workers speak to a server with.
//!
//! One typed method per route. Calls that may be repeated are, with growing pauses, while the server cannot be reached
//! or is starting ([`Client::with_retry_for`]); the others are repeated only while no connection came about.

mod blobs;
mod error;
mod events;
mod jobs;
mod logs;
mod repositories;
mod retry;
mod socket;
mod sse;
mod tokens;
mod wait;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{LOCATION, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use url::Url;

pub use error::ClientError;
pub use events::{EventStream, StreamItem};
pub use jobs::ListQuery;
pub use logs::{LogPiece, LogStream};
pub use wait::{Change, Wait, Waited};

use retry::Backoff;

use crate::domain::address::{UNIX, unix_path};
use crate::domain::token::Token;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the answer to a call that does not move much data.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long calls are repeated unless said otherwise.
const RETRY_FOR: Duration = Duration::from_secs(20);
/// Most of an error's body that is read.
const ERROR_BODY_MAX: usize = 64 * 1024;

/// A connection pool to one server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
    retry_for: Duration,
}

#[derive(Debug)]
struct Shared {
    http: reqwest::Client,
    /// As people write it, without a slash at its end.
    address: String,
    base: Url,
    token: Option<Token>,
}

/// Which failures may be answered by asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Asking twice is asking once.
    Always,
    /// Asking twice may do it twice: only while the request was not sent.
    Unsent,
}

/// What came of one try.
struct Failed {
    error: ClientError,
    /// The pause that the server asked for.
    wish: Option<Duration>,
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Self {
        Self { error, wish: None }
    }
}

impl Client {
    /// Makes a client of the server at `url`, such as `http://localhost:8080`; a path in it is kept as a prefix. A server
    /// that listens on a Unix socket is at `unix:/PATH`.
    pub fn new(url: &str, token: Option<Token>) -> Result<Self, ClientError> {
        let socket = socket(url)?;
        let base = match socket {
            // What stands in the request's `Host`.
            Some(_) => address("http://localhost")?,
            None => address(url)?,
        };
        let address = match socket {
            Some(path) => format!("{UNIX}{}", path.display()),
            None => base.as_str().trim_end_matches('/').to_owned(),
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("conveyor/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(Duration::from_secs(30))
            .tcp_user_timeout(Duration::from_secs(60))
            // A redirected POST would arrive as a GET.
            .redirect(reqwest::redirect::Policy::none());
        if base.scheme() == "http" {
            // Without TLS the system's certificates need not be there.
            builder = builder.tls_certs_only([]);
        }
        if let Some(path) = socket {
            builder = builder.unix_socket(path);
        }
        let http = builder.build().map_err(ClientError::Setup)?;
        Ok(Self { shared: Arc::new(Shared { http, address, base, token }), retry_for: RETRY_FOR })
    }

    /// The same client with another patience: how long one call is repeated. Zero means one try.
    pub fn with_retry_for(&self, retry_for: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), retry_for }
    }

    /// The server's address, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.shared.address
    }

    /// The address of a route below `/api/v1`; the parts are escaped.
    fn route(&self, parts: &[&str]) -> Url {
        let mut url = self.shared.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(parts);
        }
        url
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.shared.http.request(method, url);
        match &self.shared.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    fn unreachable(&self, action: &'static str, source: reqwest::Error) -> ClientError {
        if source.is_builder() {
            return self.makes_no_sense(action, source.to_string());
        }
        ClientError::Unreachable { action, url: self.url().to_owned(), source: source.without_url() }
    }

    fn makes_no_sense(&self, action: &'static str, what: impl Into<String>) -> ClientError {
        ClientError::Answer { action, url: self.url().to_owned(), what: what.into() }
    }

    /// One try: an answer that is a success.
    async fn try_once(&self, action: &'static str, request: RequestBuilder) -> Result<Response, Failed> {
        let response = request.send().await.map_err(|error| self.unreachable(action, error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let wish = header(RETRY_AFTER).and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let location = header(LOCATION);
        let body = beginning(response).await;
        let detail = Box::new(error::detail_of(status, location.as_deref(), &body));
        let log_end = error::log_end_of(&body);
        Err(Failed { error: ClientError::Refused { action, status: status.as_u16(), detail, log_end }, wish })
    }

    /// Sends what `build` makes, again and again where that is allowed and may help; the answer's body is still to be read.
    async fn send(
        &self,
        action: &'static str,
        repeat: Repeat,
        build: impl Fn() -> Result<RequestBuilder, ClientError>,
    ) -> Result<Response, ClientError> {
        let mut backoff = Backoff::new(self.retry_for);
        loop {
            match self.try_once(action, build()?).await {
                Ok(response) => return Ok(response),
                Err(failed) => wait(&mut backoff, repeat, failed).await?,
            }
        }
    }

    /// The same with the body: an answer that is cut off in its middle was none.
    async fn read(
        &self,
        action: &'static str,
        repeat: Repeat,
        build: impl Fn() -> Result<RequestBuilder, ClientError>,
    ) -> Result<Bytes, ClientError> {
        let mut backoff = Backoff::new(self.retry_for);
        loop {
            let failed = match self.try_once(action, build()?).await {
                Ok(response) => match response.bytes().await {
                    Ok(body) => return Ok(body),
                    Err(error) => self.unreachable(action, error).into(),
                },
                Err(failed) => failed,
            };
            wait(&mut backoff, repeat, failed).await?;
        }
    }

    /// Sends a call whose answer is JSON.
    async fn call<T: DeserializeOwned>(
        &self,
        action: &'static str,
        repeat: Repeat,
        build: impl Fn() -> RequestBuilder,
    ) -> Result<T, ClientError> {
        self.json(action, &self.read(action, repeat, || Ok(build().timeout(CALL_TIMEOUT))).await?)
    }

    fn json<T: DeserializeOwned>(&self, action: &'static str, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.makes_no_sense(action, error.to_string()))
    }
}

/// Waits until it is time for another try; the error where there must be none.
async fn wait(backoff: &mut Backoff, repeat: Repeat, failed: Failed) -> Result<(), ClientError> {
    let Failed { error, wish } = failed;
    let allowed = match (&error, repeat) {
        (ClientError::Unreachable { source, .. }, Repeat::Unsent) => source.is_connect(),
        (error, _) => error.is_transient(),
    };
    let fresh = backoff.is_fresh();
    let Some(pause) = allowed.then(|| backoff.next(wish)).flatten() else { return Err(error) };
    if fresh {
        let seconds = backoff.patience().as_secs();
        tracing::warn!(error = &error as &dyn std::error::Error, "trying again for up to {seconds} s");
    }
    tokio::time::sleep(pause).await;
    Ok(())
}

/// The beginning of an error's body; what cannot be read is left out.
async fn beginning(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Ok(Some(chunk))) = tokio::time::timeout(CONNECT_TIMEOUT, response.chunk()).await {
        body.extend_from_slice(&chunk[..chunk.len().min(ERROR_BODY_MAX - body.len())]);
        if body.len() == ERROR_BODY_MAX {
            break;
        }
    }
    body
}

/// The socket's path, where the address is one.
fn socket(text: &str) -> Result<Option<&Path>, ClientError> {
    match unix_path(text) {
        None if text.starts_with(UNIX) => {
            let why = "a Unix socket is named by its absolute path, as in unix:/run/conveyor/server.sock".to_owned();
            Err(ClientError::Address { url: text.to_owned(), why })
        }
        path => Ok(path),
    }
}

/// Checks a server's address.
fn address(text: &str) -> Result<Url, ClientError> {
    let refuse = |url: String, why: &str| ClientError::Address { url, why: why.to_owned() };
    let mut url = Url::parse(text).map_err(|error| match text.split_once('@') {
        Some((_, host)) => refuse(format!("…@{host}"), &error.to_string()),
        None => refuse(text.to_owned(), &error.to_string()),
    })?;
    if !url.username().is_empty() || url.password().is_some() {
        let _ = (url.set_username(""), url.set_password(None));
        return Err(refuse(url.into(), "it holds a user or password, which would show up in messages; use a token"));
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse(url.into(), "it must begin with http://, https:// or unix:/"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse(url.into(), "it must end with its host, port or path"));
    }
    Ok(url)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod stub;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
