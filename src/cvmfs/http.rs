//! A repository behind HTTP, as clients see it, but never out of a cache.

use std::io::{self, Read};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::Client;
use reqwest::header::{CACHE_CONTROL, PRAGMA};

use super::Error;
use super::fetch::Fetch;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take that is awaited as a whole; objects are up to some hundred megabytes.
const WHOLE: Duration = Duration::from_secs(300);
/// How often a request is made that the network failed.
const TRIES: u32 = 3;

/// The files below a URL such as `http://stratum0.example.org/cvmfs/software.example.org`.
///
/// Calls block; not for threads that drive futures.
#[derive(Debug, Clone)]
pub struct HttpBase {
    base: String,
    client: Client,
}

impl HttpBase {
    /// The repository at a URL. No proxy is asked, whatever the environment says: what it remembers proves nothing.
    pub fn new(base: &str) -> Result<Self, Error> {
        Self::within(base, WHOLE)
    }

    /// The same, for small files: no request may take longer than this.
    pub fn within(base: &str, whole: Duration) -> Result<Self, Error> {
        let client = Client::builder().connect_timeout(CONNECT.min(whole)).timeout(whole).no_proxy().build();
        let client =
            client.map_err(|error| Error::Io { what: "set HTTP up".into(), source: io::Error::other(error) })?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), client })
    }

    fn get(&self, path: &str) -> io::Result<Option<reqwest::blocking::Response>> {
        let url = format!("{}/{path}", self.base);
        let mut tries = 0;
        loop {
            tries += 1;
            let sent = self.client.get(&url).header(CACHE_CONTROL, "no-cache").header(PRAGMA, "no-cache").send();
            match sent {
                Ok(response) if response.status() == StatusCode::OK => return Ok(Some(response)),
                Ok(response) if matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::GONE) => {
                    return Ok(None);
                }
                Ok(response) if response.status().is_server_error() && tries < TRIES => {}
                Ok(response) => return Err(io::Error::other(format!("{url} answers {}", response.status()))),
                Err(_) if tries < TRIES => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

impl Fetch for HttpBase {
    fn fetch(&self, path: &str) -> io::Result<Option<Box<dyn Read + Send>>> {
        Ok(self.get(path)?.map(|response| Box::new(response) as Box<dyn Read + Send>))
    }
}
