//! Payload bytes as files named by their SHA-256.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::error::StoreError;
use crate::domain::digest::Sha256Digest;

/// A directory of blobs: `ab/cdef…`, and `tmp/` for those that are on their way.
#[derive(Debug, Clone)]
pub struct BlobStore {
    root: PathBuf,
    max_bytes: Arc<AtomicU64>,
    /// Held by whoever touches a blob and by whoever removes one for its age: neither comes between the other's look and act.
    aging: Arc<Mutex<()>>,
}

/// A blob as it lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its name.
    pub digest: Sha256Digest,
    /// Bytes.
    pub size: u64,
}

/// A blob that was touched less long ago is not touched again.
const TOUCH_AGAIN: Duration = Duration::from_secs(3600);

/// Why a blob was not stored.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The bytes are not those of the name.
    #[error("the body hashes to {found}, not to {wanted}")]
    Mismatch {
        /// The name it was sent under.
        wanted: Sha256Digest,
        /// What was sent.
        found: Sha256Digest,
    },
    /// Larger than this server takes.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The sender went away or was too slow.
    #[error("the body could not be received")]
    Receive(#[source] std::io::Error),
    /// Our side.
    #[error("the blob could not be stored")]
    Store(#[source] StoreError),
}

impl BlobStore {
    /// Opens the directory, making it where absent, and drops what an earlier life left half-done.
    pub fn open(root: &Path, max_bytes: u64) -> Result<Self, StoreError> {
        let tmp = root.join("tmp");
        match std::fs::remove_dir_all(&tmp) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::io(format!("clear {}", tmp.display()))(e));
            }
            _ => {}
        }
        std::fs::create_dir_all(&tmp).map_err(StoreError::io(format!("make {}", tmp.display())))?;
        Ok(Self { root: root.to_owned(), max_bytes: Arc::new(max_bytes.into()), aging: Arc::default() })
    }

    /// Bytes of the largest blob that is taken.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes.load(Ordering::Relaxed)
    }

    /// Sets it, in bytes, for what is sent from now on.
    pub fn set_max_bytes(&self, max_bytes: u64) {
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }

    /// Where a blob is or would be.
    pub fn path(&self, digest: Sha256Digest) -> PathBuf {
        let hex = digest.to_hex();
        self.root.join(&hex[..2]).join(&hex[2..])
    }

    /// The size of a stored blob in bytes.
    pub async fn size(&self, digest: Sha256Digest) -> Result<Option<u64>, StoreError> {
        match tokio::fs::metadata(self.path(digest)).await {
            Ok(meta) => Ok(Some(meta.len())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::io(format!("look up blob {digest}"))(e)),
        }
    }

    /// The size of a stored blob in bytes; it is young from now on, so that it is not removed before it is named.
    pub async fn keep(&self, digest: Sha256Digest) -> Result<Option<u64>, StoreError> {
        let (path, aging) = (self.path(digest), Arc::clone(&self.aging));
        let touch = move || {
            let _aging = aging.lock().unwrap_or_else(PoisonError::into_inner);
            let file = match std::fs::OpenOptions::new().write(true).open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(e),
            };
            let meta = file.metadata()?;
            let now = SystemTime::now();
            if meta.modified()?.checked_add(TOUCH_AGAIN).is_none_or(|until| until < now) {
                file.set_modified(now)?;
            }
            Ok(Some(meta.len()))
        };
        self.blocking(touch).await.map_err(StoreError::io(format!("look up blob {digest}")))
    }

    /// Every blob that is stored. Other files are left out.
    pub async fn list(&self) -> Result<Vec<StoredBlob>, StoreError> {
        let root = self.root.clone();
        let list = move || {
            let mut found = Vec::new();
            for folder in std::fs::read_dir(&root)? {
                let folder = folder?;
                let Some(first) = folder.file_name().to_str().filter(|name| name.len() == 2).map(str::to_owned) else {
                    continue;
                };
                for file in std::fs::read_dir(folder.path())? {
                    let file = file?;
                    let name = file.file_name();
                    let digest = name.to_str().and_then(|rest| format!("sha256:{first}{rest}").parse().ok());
                    if let (Some(digest), Ok(meta)) = (digest, file.metadata()) {
                        found.push(StoredBlob { digest, size: meta.len() });
                    }
                }
            }
            Ok(found)
        };
        self.blocking(list).await.map_err(StoreError::io(format!("list the blobs below {}", self.root.display())))
    }

    /// Removes a blob that was not touched since a moment; tells whether it did.
    pub async fn remove_if_older(&self, digest: Sha256Digest, than: Option<Timestamp>) -> Result<bool, StoreError> {
        let (path, aging) = (self.path(digest), Arc::clone(&self.aging));
        let remove = move || {
            let _aging = aging.lock().unwrap_or_else(PoisonError::into_inner);
            let touched = match std::fs::metadata(&path) {
                Ok(meta) => meta.modified()?,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
                Err(e) => return Err(e),
            };
            let is_old = than.is_some_and(|than| SystemTime::from(than) > touched);
            if is_old {
                std::fs::remove_file(&path)?;
            }
            Ok(is_old)
        };
        self.blocking(remove).await.map_err(StoreError::io(format!("remove blob {digest}")))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> std::io::Result<T> {
        tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
    }

    /// Receives a blob. It appears under its name only when it is whole and on stable storage; returns its size in bytes.
    pub async fn put(&self, digest: Sha256Digest, mut body: impl AsyncRead + Unpin) -> Result<u64, BlobError> {
        use sha2::Digest;
        let store = |what: &str| {
            let what = format!("{what} blob {digest}");
            move |e| BlobError::Store(StoreError::io(what)(e))
        };
        let temporary = tempfile::NamedTempFile::new_in(self.root.join("tmp")).map_err(store("create"))?;
        let (file, temporary) = temporary.into_parts();
        let mut file = tokio::fs::File::from_std(file);
        let mut hasher = sha2::Sha256::new();
        let mut buffer = vec![0; 256 * 1024];
        let (mut size, limit) = (0u64, self.max_bytes());
        loop {
            let n = body.read(&mut buffer).await.map_err(BlobError::Receive)?;
            if n == 0 {
                break;
            }
            size += n as u64;
            if size > limit {
                return Err(BlobError::TooLarge { limit });
            }
            hasher.update(&buffer[..n]);
            file.write_all(&buffer[..n]).await.map_err(store("write"))?;
        }
        let found = Sha256Digest::new(hasher.finalize().into());
        if found != digest {
            return Err(BlobError::Mismatch { wanted: digest, found });
        }
        file.flush().await.map_err(store("write"))?;
        file.sync_all().await.map_err(store("sync"))?;
        let path = self.path(digest);
        let folder = path.parent().unwrap_or(&self.root).to_owned();
        tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&folder)?;
            temporary.persist(&path).map_err(|e| e.error)?;
            std::fs::File::open(&folder)?.sync_all()?;
            // The folder itself may be new.
            folder.parent().map_or(Ok(()), |root| std::fs::File::open(root)?.sync_all())
        })
        .await
        .map_err(std::io::Error::other)
        .flatten()
        .map_err(store("store"))?;
        Ok(size)
    }
}
