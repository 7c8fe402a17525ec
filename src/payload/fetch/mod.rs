//! Fetching payloads over HTTP into files, with limits on everything that a peer decides.

mod error;
mod measure;
#[cfg(test)]
mod tests;

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, LOCATION};
use reqwest::{Client, ClientBuilder, Response, StatusCode};
use tokio::io::AsyncWriteExt;
use url::Url;

pub use self::error::FetchError;
pub use self::measure::measure;
use super::hash::Hasher;
use crate::domain::digest::{Checksum, Sha256Digest};
use crate::domain::progress::Counters;

/// What a download may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimits {
    /// Longest wait for a connection, TLS included.
    pub connect: Duration,
    /// Longest silence of the peer, before the first byte and between any two.
    pub idle: Duration,
    /// Longest time for the whole, redirects included: a peer that drips never falls silent.
    pub total: Duration,
    /// Most bytes.
    pub bytes: u64,
    /// Most redirects followed.
    pub redirects: u32,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(2 * 3600),
            bytes: 32 << 30,
            redirects: 5,
        }
    }
}

/// Bytes that were read in full: how many, and what they hash to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Bytes.
    pub size: u64,
    /// What names them, so that a retry can ask for the very same bytes.
    pub sha256: Sha256Digest,
}

/// Downloads over http and https. Cheap to clone; connections are shared.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: Client,
    limits: FetchLimits,
}

impl Fetcher {
    /// Sets up a client. The usual proxy variables of the environment apply.
    pub fn new(limits: FetchLimits) -> Result<Self, FetchError> {
        Self::with_builder(Client::builder(), limits)
    }

    fn with_builder(builder: ClientBuilder, limits: FetchLimits) -> Result<Self, FetchError> {
        let client = builder
            .user_agent(concat!("conveyor/", env!("CARGO_PKG_VERSION")))
            // Followed by hand: the client's own policy neither counts as we do nor refuses a step down to http.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(limits.connect)
            .read_timeout(limits.idle)
            .build()
            .map_err(|source| FetchError::Client { source: source.into() })?;
        Ok(Self { client, limits })
    }

    /// Downloads `url` into `file`, which must not exist yet, and verifies it while it streams; `received` counts the
    /// bytes as they come.
    ///
    /// Whatever goes wrong, and also when the future is dropped, no file is left behind. The file's mode is 0600 less
    /// the umask, and it is not synced: a payload that is lost with the machine is fetched again.
    pub async fn fetch(
        &self,
        url: &Url,
        expected: Option<&Checksum>,
        file: &Path,
        received: &Counters,
    ) -> Result<Content, FetchError> {
        let limit = self.limits.total;
        match tokio::time::timeout(limit, self.fetch_untimed(url, expected, file, received)).await {
            Ok(result) => result,
            Err(_) => Err(FetchError::Timeout { url: shown(url), what: "the whole transfer", limit }),
        }
    }

    async fn fetch_untimed(
        &self,
        url: &Url,
        expected: Option<&Checksum>,
        file: &Path,
        counters: &Counters,
    ) -> Result<Content, FetchError> {
        let response = self.follow(url).await?;
        let url = response.url().clone();
        if response.content_length().is_some_and(|length| length > self.limits.bytes) {
            return Err(FetchError::TooLarge { url: shown(&url), limit: self.limits.bytes });
        }
        // Not awaited: a future dropped in between would leave the file behind.
        let handle = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(file)
            .map_err(|source| FetchError::on_file("create", file, source))?;
        // Removes the file when dropped, on every way out but the last line.
        let partial = tempfile::TempPath::try_from_path(file)
            .map_err(|source| FetchError::on_file("watch over", file, source))?;
        let content = self.receive(response, &url, expected, handle.into(), file, counters).await?;
        partial.keep().map_err(|kept| FetchError::on_file("keep", file, kept.error))?;
        Ok(content)
    }

    /// Asks until the answer is not a redirect.
    async fn follow(&self, asked: &Url) -> Result<Response, FetchError> {
        let mut url = asked.clone();
        for _ in 0..=self.limits.redirects {
            if !matches!(url.scheme(), "http" | "https") {
                return Err(FetchError::Scheme { url: shown(&url) });
            }
            // A payload's checksum is that of the bytes as they are stored, so no encoding may be put around them.
            let request = self.client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            let response = request.send().await.map_err(|error| self.sending_failed(&url, error))?;
            match response.status() {
                StatusCode::OK => return Ok(response),
                status @ (StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT) => {
                    let Some(target) = response.headers().get(LOCATION) else {
                        return Err(FetchError::Status { url: shown(&url), status: status.as_u16() });
                    };
                    url = redirect(&url, target.as_bytes())?;
                }
                status => return Err(FetchError::Status { url: shown(&url), status: status.as_u16() }),
            }
        }
        Err(FetchError::TooManyRedirects { url: shown(asked), last: shown(&url), limit: self.limits.redirects })
    }

    async fn receive(
        &self,
        mut response: Response,
        url: &Url,
        expected: Option<&Checksum>,
        handle: tokio::fs::File,
        file: &Path,
        counters: &Counters,
    ) -> Result<Content, FetchError> {
        let writing_failed = |source| FetchError::on_file("write", file, source);
        let mut writer = tokio::io::BufWriter::with_capacity(256 << 10, handle);
        let mut hasher = Hasher::new(expected.copied());
        let mut received = 0u64;
        while let Some(chunk) = response.chunk().await.map_err(|error| self.receiving_failed(url, received, error))? {
            received += chunk.len() as u64;
            counters.add_bytes(chunk.len() as u64);
            if received > self.limits.bytes {
                return Err(FetchError::TooLarge { url: shown(url), limit: self.limits.bytes });
            }
            hasher.update(&chunk);
            writer.write_all(&chunk).await.map_err(writing_failed)?;
        }
        // Errors of the last writes come out here and not before.
        writer.flush().await.map_err(writing_failed)?;
        let hashed = hasher.finish();
        match hashed.mismatch {
            Some((expected, found)) => Err(FetchError::Checksum { what: shown(url), expected, found }),
            None => Ok(Content { size: hashed.size, sha256: hashed.sha256 }),
        }
    }

    fn sending_failed(&self, url: &Url, error: reqwest::Error) -> FetchError {
        let url = shown(url);
        match (error.is_timeout(), error.is_connect()) {
            (true, true) => FetchError::Timeout { url, what: "connecting", limit: self.limits.connect },
            (true, false) => FetchError::Timeout { url, what: "waiting for an answer", limit: self.limits.idle },
            (false, true) => FetchError::Connect { url, source: error.without_url().into() },
            (false, false) => FetchError::Transfer { url, received: 0, source: error.without_url().into() },
        }
    }

    fn receiving_failed(&self, url: &Url, received: u64, error: reqwest::Error) -> FetchError {
        let url = shown(url);
        if error.is_timeout() {
            FetchError::Timeout { url, what: "waiting for more data", limit: self.limits.idle }
        } else {
            FetchError::Transfer { url, received, source: error.without_url().into() }
        }
    }
}

/// Where a redirect leads, if it may be followed.
fn redirect(from: &Url, location: &[u8]) -> Result<Url, FetchError> {
    let refuse = |target, why| Err(FetchError::Redirect { url: shown(from), target, why });
    let Some(target) = std::str::from_utf8(location).ok().and_then(|text| from.join(text).ok()) else {
        let target = String::from_utf8_lossy(&location[..location.len().min(200)]).into_owned();
        return refuse(target, "it is not a URL");
    };
    if from.scheme() == "https" && target.scheme() == "http" {
        return refuse(shown(&target), "it leads from https down to http");
    }
    if !matches!(target.scheme(), "http" | "https") {
        return refuse(shown(&target), "only http and https are supported");
    }
    Ok(target)
}

/// A URL as it may be shown: without credentials, and without the query, which holds them in pre-signed URLs.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for URLs that cannot have credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    if url.query().is_some() {
        url.set_query(Some("..."));
    }
    url.to_string()
}
