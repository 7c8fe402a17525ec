//! Takes and gives payload bytes.

use tokio::io::AsyncRead;

use crate::app::{AppError, Engine};
use crate::domain::digest::Sha256Digest;
use crate::domain::protocol::BlobReply;
use crate::store::StoreError;

impl Engine {
    /// Bytes of the largest blob that is taken.
    pub fn max_blob_bytes(&self) -> u64 {
        self.blobs.as_ref().map_or(0, |blobs| blobs.max_bytes())
    }

    /// Sets that, for what is sent from now on.
    pub fn set_max_blob_bytes(&self, max_bytes: u64) {
        if let Some(blobs) = &self.blobs {
            blobs.set_max_bytes(max_bytes);
        }
    }

    /// Stores a blob under its digest; one that is there already is not read again.
    pub async fn put_blob(&self, digest: Sha256Digest, body: impl AsyncRead + Unpin) -> Result<BlobReply, AppError> {
        let blobs = self.blobs.as_ref().ok_or(StoreError::Stopped)?;
        let size = match blobs.keep(digest).await? {
            Some(size) => size,
            None => blobs.put(digest, body).await?,
        };
        Ok(BlobReply { digest, size })
    }

    /// The file of a blob and its size in bytes.
    pub async fn blob(&self, digest: Sha256Digest) -> Result<(std::path::PathBuf, u64), AppError> {
        let blobs = self.blobs.as_ref().ok_or(StoreError::Stopped)?;
        let size =
            blobs.keep(digest).await?.ok_or_else(|| AppError::NotFound { what: "blob", id: digest.to_string() })?;
        Ok((blobs.path(digest), size))
    }
}
