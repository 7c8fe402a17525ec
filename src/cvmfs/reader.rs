//! Opening a repository and reading it, each step verified: the public master key vouches for the whitelist, the
//! whitelist for the certificate, the certificate for the manifest, and from there on hashes for everything.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rsa::RsaPublicKey;

use super::catalog::{Catalog, Compression};
use super::certificate::SigningCertificate;
use super::fetch::{Fetch, fetch_small};
use super::hash::{ContentHash, ObjectKind};
use super::history::{History, Tag};
use super::manifest::{self, Manifest};
use super::object::{self, ObjectReader};
use super::revisions::Revisions;
use super::tree::Tree;
pub use super::trust::{Expiry, check_listed};
use super::trust::{UnverifiedManifest, check_name};
use super::whitelist::{self, Whitelist};
use super::{Error, trust};

/// Bytes that a manifest, a whitelist or a certificate may have.
pub const SMALL: u64 = 1 << 20;

/// What one wants to know of a repository at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its fully qualified name.
    pub repository: String,
    /// The revision.
    pub revision: u64,
    /// The root catalog.
    pub root_hash: ContentHash,
    /// When it was published, seconds since 1970.
    pub published_at: i64,
    /// From when on clients refuse it, seconds since 1970.
    pub whitelist_expires_at: i64,
    /// All tags, the newest revision first.
    pub tags: Vec<Tag>,
}

/// An open repository, at the revision that its manifest named when it was opened.
pub struct Reader {
    fetch: Arc<dyn Fetch>,
    manifest: Manifest,
    manifest_bytes: Vec<u8>,
    whitelist: Whitelist,
    whitelist_bytes: Vec<u8>,
    certificate: SigningCertificate,
    temporary: PathBuf,
}

impl Reader {
    /// Fetches manifest, whitelist and certificate, and verifies them.
    pub fn open(fetch: Box<dyn Fetch>, repository: &str, keys: &[RsaPublicKey], expiry: Expiry) -> Result<Self, Error> {
        let whitelist_bytes = fetch_small(&*fetch, whitelist::FILE, SMALL)?;
        let whitelist = trust::whitelist(&whitelist_bytes, repository, keys, expiry)?;
        let manifest_bytes = fetch_small(&*fetch, manifest::FILE, SMALL)?;
        let manifest = UnverifiedManifest::parse(&manifest_bytes, repository)?;
        let pem = object::read_small(&*fetch, &manifest.claims().certificate, ObjectKind::Certificate, SMALL)?;
        let certificate = trust::certificate(&pem, &whitelist)?;
        let manifest = manifest.verify(&certificate)?;
        Ok(Self {
            fetch: fetch.into(),
            manifest,
            manifest_bytes,
            whitelist,
            whitelist_bytes,
            certificate,
            temporary: std::env::temp_dir(),
        })
    }

    /// Puts temporary copies of catalogs and histories in another directory than the system's.
    pub fn with_temporary(mut self, directory: PathBuf) -> Self {
        self.temporary = directory;
        self
    }

    /// Where temporary copies go.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest's file, byte by byte.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    /// The whitelist.
    pub fn whitelist(&self) -> &Whitelist {
        &self.whitelist
    }

    /// The whitelist's file, byte by byte.
    pub fn whitelist_bytes(&self) -> &[u8] {
        &self.whitelist_bytes
    }

    /// The certificate that the manifest is signed with.
    pub fn certificate(&self) -> &SigningCertificate {
        &self.certificate
    }

    /// Where the files come from.
    pub fn fetch(&self) -> &dyn Fetch {
        &*self.fetch
    }

    /// The same, for who outlives this reader.
    pub(crate) fn shared_fetch(&self) -> Arc<dyn Fetch> {
        Arc::clone(&self.fetch)
    }

    /// Revision, root hash, expiry and tags.
    pub fn info(&self) -> Result<Info, Error> {
        Ok(Info {
            repository: self.manifest.repository.clone(),
            revision: self.manifest.revision,
            root_hash: self.manifest.root_hash,
            published_at: self.manifest.published_at,
            whitelist_expires_at: self.whitelist.expires_at,
            tags: self.tags()?,
        })
    }

    /// The history; `None` where the repository has none.
    pub fn history(&self) -> Result<Option<History>, Error> {
        self.manifest.history.map(|hash| self.history_at(&hash)).transpose()
    }

    /// Any history.
    pub fn history_at(&self, hash: &ContentHash) -> Result<History, Error> {
        let (copy, _) = self.copy(hash, ObjectKind::History)?;
        let history = History::open(copy.path(), hash)?;
        match history.repository()? {
            Some(name) => check_name("history", &name, &self.manifest.repository)?,
            None => return Err(Error::malformed(format!("history {hash}"), "it names no repository")),
        }
        Ok(history)
    }

    /// All tags, the newest revision first.
    pub fn tags(&self) -> Result<Vec<Tag>, Error> {
        self.history()?.map_or_else(|| Ok(Vec::new()), |history| history.tags())
    }

    /// One tag.
    pub fn tag(&self, name: &str) -> Result<Option<Tag>, Error> {
        self.history()?.map_or(Ok(None), |history| history.tag(name))
    }

    /// Any catalog, by its hash.
    pub fn catalog(&self, hash: &ContentHash) -> Result<Catalog, Error> {
        self.catalog_and_size(hash).map(|(catalog, _)| catalog)
    }

    /// Any catalog, and the bytes of its file.
    pub(super) fn catalog_and_size(&self, hash: &ContentHash) -> Result<(Catalog, u64), Error> {
        let (copy, size) = self.copy(hash, ObjectKind::Catalog)?;
        // The file may go as soon as SQLite holds it open.
        Ok((Catalog::open(copy.path(), hash)?, size))
    }

    /// The tree of the manifest's revision.
    pub fn tree(&self) -> Result<Tree<'_>, Error> {
        self.tree_at(&self.manifest.root_hash)
    }

    /// The tree of another revision, such as a tag's.
    pub fn tree_at(&self, root_hash: &ContentHash) -> Result<Tree<'_>, Error> {
        Tree::open(self, root_hash)
    }

    /// The chain of revisions, from the manifest's backwards.
    pub fn revisions(&self) -> Revisions<'_> {
        Revisions::new(self, self.manifest.root_hash)
    }

    /// The content of an object that holds a file or a chunk.
    pub fn object(
        &self,
        hash: &ContentHash,
        kind: ObjectKind,
        compression: Compression,
    ) -> Result<ObjectReader, Error> {
        object::open(&*self.fetch, hash, kind, compression)
    }

    /// An empty file that goes with its handle.
    pub(super) fn temporary_file(&self) -> Result<tempfile::NamedTempFile, Error> {
        tempfile::NamedTempFile::new_in(&self.temporary)
            .map_err(Error::io(format!("make a file in {}", self.temporary.display())))
    }

    fn copy(&self, hash: &ContentHash, kind: ObjectKind) -> Result<(tempfile::NamedTempFile, u64), Error> {
        let copy = self.temporary_file()?;
        let size = object::unpack(&*self.fetch, hash, kind, copy.path())?;
        Ok((copy, size))
    }
}
