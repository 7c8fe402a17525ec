//! A manifest behind HTTP, fetched only where it changed.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header::{
    CACHE_CONTROL, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    PRAGMA,
};
use reqwest::{Client, StatusCode};

use super::{Look, MAX_MANIFEST, WatchError, Watcher};
use crate::cvmfs::manifest;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Age in seconds from which on a page's time tells it from the next version.
const SETTLED_S: i64 = 2;

/// What was fetched from a URL last.
#[derive(Debug)]
pub(super) struct Pages {
    url: String,
    client: Client,
    /// What the server said of the version that we have.
    version: Option<(HeaderName, HeaderValue)>,
}

impl Pages {
    pub(super) fn new(base: &str) -> Result<Self, WatchError> {
        let url = format!("{}/{}", base.trim_end_matches('/'), manifest::FILE);
        // No proxy, whatever the environment says: what it remembers is not what is published.
        let client = Client::builder().no_proxy().connect_timeout(PATIENCE / 3).timeout(PATIENCE).build();
        let client = client.map_err(|error| Watcher::unreadable(&url, error))?;
        Ok(Self { url, client, version: None })
    }

    /// Fetches anew the next time.
    pub(super) fn forget(&mut self) {
        self.version = None;
    }

    pub(super) async fn look(&mut self) -> Result<Look, WatchError> {
        let failed = |error: reqwest::Error| {
            let mut why = error.without_url().to_string();
            why.truncate(500);
            Watcher::unreadable(&self.url, why)
        };
        // Caches on the way must ask the origin.
        let mut request = self.client.get(&self.url).header(CACHE_CONTROL, "no-cache").header(PRAGMA, "no-cache");
        if let Some((name, value)) = &self.version {
            request = request.header(name, value);
        }
        let response = request.send().await.map_err(failed)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if self.version.is_some() => return Ok(Look::Unchanged),
            status => return Err(Watcher::unreadable(&self.url, format!("it answers {status}"))),
        }
        let version = version(response.headers());
        let (mut body, mut pieces) = (Vec::new(), response.bytes_stream());
        while let Some(piece) = pieces.next().await {
            body.extend_from_slice(&piece.map_err(failed)?);
            if body.len() as u64 > MAX_MANIFEST {
                let why = format!("it answers with more than {MAX_MANIFEST} bytes, which is no manifest");
                return Err(Watcher::unreadable(&self.url, why));
            }
        }
        self.version = version;
        Ok(Look::Manifest(body))
    }
}

/// What tells this version of a page from the next one. Nothing where it is so young that the next one may come in the same second: web
/// servers write whole seconds, and some make their tags of them.
fn version(headers: &HeaderMap) -> Option<(HeaderName, HeaderValue)> {
    let time = |name| {
        let text = headers.get(name)?.to_str().ok()?;
        Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_second())
    };
    let is_young = match (time(LAST_MODIFIED), time(DATE)) {
        (Some(modified), Some(now)) => now < modified + SETTLED_S,
        _ => false,
    };
    let said = |name, ask| Some((ask, headers.get(name)?.clone()));
    said(ETAG, IF_NONE_MATCH).or_else(|| said(LAST_MODIFIED, IF_MODIFIED_SINCE)).filter(|_| !is_young)
}
