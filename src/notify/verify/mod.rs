//! What may be believed of a message: its manifest, if the public key of its repository vouches for it.

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::cvmfs::certificate::SigningCertificate;
use crate::cvmfs::fetch::{Fetch, LocalDir, fetch_small};
use crate::cvmfs::hash::{ContentHash, ObjectKind};
use crate::cvmfs::http::HttpBase;
use crate::cvmfs::reader::SMALL;
use crate::cvmfs::trust::{self, Expiry, UnverifiedManifest};
use crate::cvmfs::whitelist::Whitelist;
use crate::cvmfs::{Error, keys, object, whitelist};
use crate::domain::names::RepositoryName;
use crate::domain::notification::{Message, Proof};

/// After so long the whitelist is read anew, which may have taken a certificate's right away, in seconds.
const MAX_AGE: i64 = 600;
/// How long one request for a whitelist or a certificate may take.
const FETCH: Duration = Duration::from_secs(10);
/// Repositories that are asked at the same time.
const FETCHES: usize = 8;
/// Certificates of one repository that are kept.
const CERTIFICATES: usize = 8;
/// Stands for the repository's name in an address.
const NAME: &str = "@fqrn@";

/// Where keys, whitelists and certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Whether signatures are verified. Without that, messages need only be well-formed.
    pub verify: bool,
    /// The public keys.
    pub keys_dir: PathBuf,
    /// Where repositories are, by name: `http://…` or a directory.
    pub urls: BTreeMap<RepositoryName, String>,
    /// Where all other repositories are, with `@fqrn@` for the name.
    pub pattern: Option<String>,
}

/// Why a manifest is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is malformed, or its signature is not the repository's.
    #[error("the manifest in the message about {repository} is refused")]
    Manifest {
        /// The repository.
        repository: RepositoryName,
        /// What is wrong with it.
        #[source]
        source: Box<Error>,
    },
    /// Nothing here says which key the repository has.
    #[error("nothing can be believed about {repository}")]
    NoKey {
        /// The repository.
        repository: RepositoryName,
        /// Where it was looked for.
        #[source]
        source: Box<Error>,
    },
    /// Nobody said where its whitelist and certificate are.
    #[error("nothing vouches for the certificate of {repository}: it is not known where the repository is")]
    NoSource {
        /// The repository.
        repository: RepositoryName,
    },
    /// Whitelist or certificate cannot be had now.
    #[error("what vouches for the manifest of {repository} cannot be read from {url}")]
    Unreachable {
        /// The repository.
        repository: RepositoryName,
        /// Where it was asked.
        url: String,
        /// Why not.
        #[source]
        source: Box<Error>,
    },
}

impl Refusal {
    /// Whether trying again cannot help: the manifest itself is not to be believed. A whitelist may be signed anew.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Manifest { source, .. } => !matches!(**source, Error::Expired { .. } | Error::Io { .. }),
            Self::NoKey { .. } | Self::NoSource { .. } | Self::Unreachable { .. } => false,
        }
    }

    /// The next step.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Manifest { .. } => "send the file .cvmfspublished as the repository has it, base64",
            Self::NoKey { .. } => "put its public key into [server] keys_dir as NAME.pub or DOMAIN.pub",
            Self::NoSource { .. } => "set url in [repositories.\"NAME\"], or [notify] repository_url",
            Self::Unreachable { .. } => "publish again when it answers",
        }
    }
}

/// What vouches for manifests, as it was found last.
#[derive(Debug)]
struct Trust {
    whitelist: Whitelist,
    /// Those that are on the whitelist, by the name that manifests have for them.
    certificates: HashMap<ContentHash, SigningCertificate>,
    /// When the whitelist was read, seconds since 1970.
    since: i64,
}

impl Trust {
    /// Whether it vouches for a manifest; nothing where it does not know the certificate.
    fn vouches(&self, manifest: &UnverifiedManifest) -> Option<bool> {
        let certificate = self.certificates.get(&manifest.claims().certificate)?;
        Some(manifest.check(certificate).is_ok())
    }
}

/// What is true of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Its revision.
    pub revision: u64,
    /// When it was published, seconds since 1970.
    pub published_at: i64,
}

/// Believes manifests, or does not.
#[derive(Debug)]
pub struct Verifier {
    sources: Sources,
    trusted: Mutex<HashMap<RepositoryName, Arc<Trust>>>,
    fetches: Semaphore,
}

impl Verifier {
    /// Knows nothing yet.
    pub fn new(sources: Sources) -> Self {
        Self { sources, trusted: Mutex::default(), fetches: Semaphore::new(FETCHES) }
    }

    /// Verifies the manifest of a message. `now` is in seconds since 1970.
    pub async fn verify(&self, message: &Message, proof: Option<&Proof>, now: i64) -> Result<Verified, Refusal> {
        let repository = message.repository();
        let refuse = |source: Error| Refusal::Manifest { repository: repository.clone(), source: source.into() };
        let manifest = UnverifiedManifest::parse(message.manifest(), repository.as_str()).map_err(refuse)?;
        let verified = Verified { revision: manifest.claims().revision, published_at: manifest.claims().published_at };
        if i64::try_from(verified.revision).is_err() {
            let why = format!("revision {} is too large", verified.revision);
            return Err(refuse(Error::malformed("the manifest", why)));
        }
        if !self.sources.verify {
            return Ok(verified);
        }
        let known = self.known(repository);
        if let Some(known) = &known
            && known.since.saturating_add(MAX_AGE) > now
            && known.whitelist.check_time(now).is_ok()
            && known.vouches(&manifest) == Some(true)
        {
            return Ok(verified);
        }
        let mut failed = None;
        if let Some(proof) = proof {
            match self.believe(&manifest, repository, (&proof.whitelist, &proof.certificate), now) {
                Ok(trust) if is_older(&trust, known.as_deref()) => {}
                Ok(trust) => {
                    self.remember(repository, trust);
                    return Ok(verified);
                }
                Err(refusal) => failed = Some(refusal),
            }
        }
        let Some(url) = self.url(repository) else {
            return Err(failed.unwrap_or_else(|| Refusal::NoSource { repository: repository.clone() }));
        };
        let unreachable = |source: Error| Refusal::Unreachable {
            repository: repository.clone(),
            url: url.clone(),
            source: source.into(),
        };
        let _slot = self.fetches.acquire().await;
        match fetch(&url, manifest.claims().certificate).await {
            Ok((list, pem)) => {
                let trust = self.believe(&manifest, repository, (&list, &pem), now)?;
                self.remember(repository, trust);
                Ok(verified)
            }
            Err(Error::Io { what, source }) => {
                // As clients do: what was believed is, until its time is over.
                match known.filter(|known| known.whitelist.check_time(now).is_ok()) {
                    Some(known) if known.vouches(&manifest) == Some(true) => Ok(verified),
                    _ => Err(unreachable(Error::Io { what, source })),
                }
            }
            Err(error) => Err(refuse(error)),
        }
    }

    /// Whether a repository that was just verified was made anew since this message was: nothing vouches for it any more, and
    /// it was published earlier. Where that cannot be found out, it was not.
    pub async fn is_void(&self, last: &Message, newer: Verified) -> bool {
        let repository = last.repository();
        let Ok(manifest) = UnverifiedManifest::parse(last.manifest(), repository.as_str()) else { return true };
        let Some(known) = self.known(repository) else { return false };
        if manifest.claims().published_at >= newer.published_at {
            return false;
        }
        if let Some(vouched) = known.vouches(&manifest) {
            return !vouched;
        }
        let Some(url) = self.url(repository) else { return false };
        let _slot = self.fetches.acquire().await;
        match fetch(&url, manifest.claims().certificate).await {
            Ok((_, pem)) => trust::certificate(&pem, &known.whitelist).is_err(),
            Err(Error::Missing(_)) => true,
            Err(_) => false,
        }
    }

    /// Where a repository is.
    pub fn url(&self, repository: &RepositoryName) -> Option<String> {
        let own = self.sources.urls.get(repository).cloned();
        own.or_else(|| Some(self.sources.pattern.as_ref()?.replace(NAME, repository.as_str())))
    }

    /// Believes a manifest by a whitelist and a certificate.
    fn believe(
        &self,
        manifest: &UnverifiedManifest,
        repository: &RepositoryName,
        (list, pem): (&[u8], &[u8]),
        now: i64,
    ) -> Result<Trust, Refusal> {
        let keys = keys::load_trusted(&self.sources.keys_dir, repository.as_str())
            .map_err(|source| Refusal::NoKey { repository: repository.clone(), source: source.into() })?;
        let believed = || {
            let whitelist = trust::whitelist(list, repository.as_str(), &keys, Expiry::Refuse { now })?;
            let certificate = trust::certificate(pem, &whitelist)?;
            manifest.check(&certificate)?;
            let certificates = [(manifest.claims().certificate, certificate)].into();
            Ok(Trust { whitelist, certificates, since: now })
        };
        believed().map_err(|source: Error| Refusal::Manifest { repository: repository.clone(), source: source.into() })
    }

    fn known(&self, repository: &RepositoryName) -> Option<Arc<Trust>> {
        self.trusted.lock().unwrap_or_else(PoisonError::into_inner).get(repository).cloned()
    }

    /// Keeps what was found for the next time, with the other certificates that still have their right.
    fn remember(&self, repository: &RepositoryName, mut trust: Trust) {
        let mut trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = trusted.get(repository) {
            for (name, certificate) in &known.certificates {
                let is_listed = trust::check_listed(certificate, &trust.whitelist).is_ok();
                if is_listed && trust.certificates.len() < CERTIFICATES {
                    trust.certificates.entry(*name).or_insert_with(|| certificate.clone());
                }
            }
        }
        trusted.insert(repository.clone(), Arc::new(trust));
    }
}

/// Whether a whitelist that somebody brought along was signed before the one that is known: it may list a certificate that has
/// lost its right since.
fn is_older(brought: &Trust, known: Option<&Trust>) -> bool {
    known.is_some_and(|known| brought.whitelist.signed_at < known.whitelist.signed_at)
}

/// Reads whitelist and certificate of a repository.
async fn fetch(url: &str, certificate: ContentHash) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let base = url.to_owned();
    let fetched = tokio::task::spawn_blocking(move || {
        let base: Box<dyn Fetch> = match base.contains("://") {
            true => Box::new(HttpBase::within(&base, FETCH)?),
            false => Box::new(LocalDir::new(Path::new(&base))),
        };
        let list = fetch_small(&*base, whitelist::FILE, SMALL)?;
        Ok((list, object::read_small(&*base, &certificate, ObjectKind::Certificate, SMALL)?))
    });
    fetched.await.unwrap_or_else(|error| Err(Error::io("read a repository's whitelist")(std::io::Error::other(error))))
}
