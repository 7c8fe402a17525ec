//! Asks the base of a repository which revision it serves, past all caches, and believes the answer only as far as it must.

use std::collections::HashMap;
use std::error::Error as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CACHE_CONTROL, ETAG, HeaderValue, IF_NONE_MATCH, PRAGMA};
use reqwest::{Client, Response, StatusCode};
use rsa::RsaPublicKey;
use url::Url;

use crate::cvmfs::certificate::SigningCertificate;
use crate::cvmfs::fetch::Fetched;
use crate::cvmfs::hash::{ContentHash, ObjectKind};
use crate::cvmfs::keys::find_trusted;
use crate::cvmfs::manifest::{self, Manifest};
use crate::cvmfs::reader::{Expiry, Reader};
use crate::cvmfs::signature::{Letter, Scheme};
use crate::cvmfs::{Error, whitelist};
use crate::domain::names::RepositoryName;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const WHOLE: Duration = Duration::from_secs(15);
/// Most bytes of a manifest, a whitelist or a certificate.
const MOST_BYTES: usize = 256 << 10;
/// How often in a row it is only asked whether anything changed. Some servers' tags are a time in seconds and a length, and a
/// manifest that was replaced within its second has the same.
const CONDITIONAL: u32 = 4;
/// Most bytes of a tag.
const MOST_TAG: usize = 1000;

/// The public master keys that repositories are verified with.
#[derive(Debug, Clone)]
pub enum Keys {
    /// Those of a directory, as [`find_trusted`] finds them; a repository without is believed.
    Directory(PathBuf),
    /// This one.
    These(Vec<RsaPublicKey>),
}

impl Keys {
    fn of(&self, repository: &RepositoryName) -> Result<Vec<RsaPublicKey>, String> {
        match self {
            Self::These(keys) => Ok(keys.clone()),
            Self::Directory(directory) => find_trusted(directory, repository.as_str()).map_err(untrusted),
        }
    }
}

/// What is kept of an answer for the next question.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    known: Option<Known>,
    trusted: Option<Trusted>,
}

/// The last manifest, and by what the server knows it.
#[derive(Debug, Clone)]
struct Known {
    revision: u64,
    tag: Option<HeaderValue>,
    /// How often it was only asked whether that still holds.
    asked: u32,
}

/// The certificate that a whitelist vouched for.
#[derive(Debug, Clone)]
struct Trusted {
    hash: ContentHash,
    certificate: SigningCertificate,
    expires_at: i64,
}

/// Asks. No proxy is asked, whatever the environment says, and no redirect is followed: the URL that was named is to serve it.
#[derive(Debug, Clone)]
pub struct Asker {
    client: Client,
    keys: Arc<Keys>,
    /// How long an answer may take, with all that it takes to believe it.
    pub(super) patience: Duration,
}

impl Asker {
    /// Sets HTTP up.
    pub fn new(keys: Keys) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .user_agent(concat!("conveyor/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .no_proxy()
            .build()?;
        Ok(Self { client, keys: Arc::new(keys), patience: WHOLE })
    }

    /// The revision of a repository that its base serves; the error is for people.
    pub async fn ask(&self, repository: &RepositoryName, base: &Url, memory: &mut Memory) -> Result<u64, String> {
        match tokio::time::timeout(self.patience, self.ask_untimed(repository, base, memory)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", self.patience.as_secs())),
        }
    }

    async fn ask_untimed(&self, repository: &RepositoryName, base: &Url, memory: &mut Memory) -> Result<u64, String> {
        let now = Timestamp::now().as_second();
        memory.trusted = memory.trusted.take().filter(|trusted| now < trusted.expires_at);
        let keys = Arc::clone(&self.keys);
        let name = repository.clone();
        let keys = blocking(move || keys.of(&name)).await?;
        // What was believed must still be: its whitelist may have expired since.
        let known = memory.known.take().filter(|_| keys.is_empty() || memory.trusted.is_some());
        let tag = known.as_ref().filter(|known| known.asked < CONDITIONAL).and_then(|known| known.tag.clone());
        // Who was not asked whether anything changed cannot say that nothing did.
        let known = known.filter(|_| tag.is_some());
        let response = self.get(base, manifest::FILE, tag).await?;
        if let (StatusCode::NOT_MODIFIED, Some(known)) = (response.status(), known) {
            let (revision, asked) = (known.revision, known.asked + 1);
            memory.known = Some(Known { asked, ..known });
            return Ok(revision);
        }
        let tag = response.headers().get(ETAG).cloned().filter(|tag| tag.len() <= MOST_TAG);
        let bytes = body(response, manifest::FILE).await?;
        let manifest = read(&bytes, repository)?;
        let revision = manifest.revision;
        if !keys.is_empty() {
            self.verify(repository, base, bytes, &manifest, keys, memory, now).await?;
        }
        memory.known = Some(Known { revision, tag, asked: 0 });
        Ok(revision)
    }

    /// Verifies a manifest by a certificate that was trusted before, or from the master key on.
    #[allow(clippy::too_many_arguments)] // what was fetched, what it is about, and what is known
    async fn verify(
        &self,
        repository: &RepositoryName,
        base: &Url,
        bytes: Vec<u8>,
        manifest: &Manifest,
        keys: Vec<RsaPublicKey>,
        memory: &mut Memory,
        now: i64,
    ) -> Result<(), String> {
        if let Some(trusted) = memory.trusted.clone().filter(|trusted| trusted.hash == manifest.certificate) {
            return blocking(move || {
                let letter = Letter::parse(&bytes, "manifest").map_err(untrusted)?;
                letter.verify(Scheme::Digest, std::slice::from_ref(trusted.certificate.public_key())).map_err(untrusted)
            })
            .await;
        }
        let object = manifest.certificate.object_path(ObjectKind::Certificate);
        let mut files = HashMap::from([(manifest::FILE.to_owned(), bytes)]);
        for file in [whitelist::FILE, &object] {
            let response = self.get(base, file, None).await?;
            files.insert(file.to_owned(), body(response, file).await?);
        }
        let name = repository.clone();
        let trusted = blocking(move || {
            let fetched = Box::new(Fetched(files));
            let reader = Reader::open(fetched, name.as_str(), &keys, Expiry::Refuse { now }).map_err(untrusted)?;
            let (certificate, expires_at) = (reader.certificate().clone(), reader.whitelist().expires_at);
            Ok(Trusted { hash: reader.manifest().certificate, certificate, expires_at })
        });
        memory.trusted = Some(trusted.await?);
        Ok(())
    }

    async fn get(&self, base: &Url, file: &str, tag: Option<HeaderValue>) -> Result<Response, String> {
        let url = format!("{}/{file}", base.as_str().trim_end_matches('/'));
        let mut request = self.client.get(&url).header(CACHE_CONTROL, "no-cache").header(PRAGMA, "no-cache");
        if let Some(tag) = tag {
            request = request.header(IF_NONE_MATCH, tag);
        }
        request.send().await.map_err(|error| format!("it cannot be asked: {}", innermost(&error.without_url())))
    }
}

/// The body of an answer that is a file.
async fn body(mut response: Response, file: &str) -> Result<Vec<u8>, String> {
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Err(format!("there is no {file}")),
        status => return Err(format!("it answers {status} for {file}")),
    }
    let mut bytes = Vec::new();
    while let Some(more) =
        response.chunk().await.map_err(|error| format!("its answer broke off: {}", innermost(&error.without_url())))?
    {
        bytes.extend_from_slice(&more);
        if bytes.len() > MOST_BYTES {
            return Err(format!("its {file} is longer than {MOST_BYTES} bytes"));
        }
    }
    Ok(bytes)
}

fn read(bytes: &[u8], repository: &RepositoryName) -> Result<Manifest, String> {
    let letter = Letter::parse(bytes, "manifest").map_err(untrusted)?;
    let manifest = Manifest::parse(&letter).map_err(untrusted)?;
    if manifest.repository != repository.as_str() {
        let other: String = manifest.repository.chars().take(100).collect();
        return Err(format!("its manifest is of the repository {other:?}"));
    }
    Ok(manifest)
}

#[allow(clippy::needless_pass_by_value)] // as `map_err` hands it over
fn untrusted(error: Error) -> String {
    error.to_string()
}

fn innermost(error: &reqwest::Error) -> String {
    let mut last = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        last = source.to_string();
        next = source.source();
    }
    last
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err("verifying it panicked".into()))
}
