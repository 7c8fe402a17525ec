//! Blobs: the bytes of payloads, named by their SHA-256.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, Method};
use sha2::Digest as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;
use url::Url;

use super::retry::Backoff;
use super::{CALL_TIMEOUT, Client, ClientError, Repeat, wait};
use crate::domain::digest::Sha256Digest;
use crate::domain::progress::Counters;
use crate::domain::protocol::BlobReply;

/// How much of a file is read at a time.
const CHUNK: usize = 256 * 1024;

impl Client {
    fn blob_url(&self, digest: Sha256Digest) -> Url {
        self.route(&["blobs", &digest.to_string()])
    }

    /// Tells whether the server has a blob.
    pub async fn has_blob(&self, digest: Sha256Digest) -> Result<bool, ClientError> {
        let url = self.blob_url(digest);
        let ask = async |method: Method| {
            let build = || Ok(self.request(method.clone(), url.clone()).timeout(CALL_TIMEOUT));
            self.send("look for the blob", Repeat::Always, build).await
        };
        let answer = match ask(Method::HEAD).await {
            // The answer to HEAD cannot say why; that to GET can, and is as short.
            Err(error) if matches!(error.status(), Some(401 | 403)) => ask(Method::GET).await,
            answer => answer,
        };
        match answer {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Stores bytes that are in memory.
    pub async fn put_blob(&self, content: Bytes) -> Result<BlobReply, ClientError> {
        let url = self.blob_url(Sha256Digest::of(&content));
        self.call("store the blob", Repeat::Always, || self.request(Method::PUT, url.clone()).body(content.clone()))
            .await
    }

    /// Stores a file under the digest and size that were found before. `progress` gets the bytes sent so far; after
    /// an interruption it begins anew.
    pub async fn put_blob_file(
        &self,
        path: &Path,
        digest: Sha256Digest,
        size: u64,
        progress: Arc<dyn Fn(u64) + Send + Sync>,
    ) -> Result<BlobReply, ClientError> {
        let action = "store the blob";
        let url = self.blob_url(digest);
        let build = || {
            let file = std::fs::File::open(path).map_err(|source| file_error("read", path, source))?;
            let (sent, progress) = (AtomicU64::new(0), Arc::clone(&progress));
            let content = ReaderStream::with_capacity(tokio::fs::File::from_std(file).take(size), CHUNK).inspect_ok(
                move |chunk| {
                    let more = chunk.len() as u64;
                    progress(sent.fetch_add(more, Ordering::Relaxed) + more);
                },
            );
            let request = self.request(Method::PUT, url.clone());
            Ok(request.header(CONTENT_LENGTH, size).body(Body::wrap_stream(content)))
        };
        self.json(action, &self.read(action, Repeat::Always, build).await?)
    }

    /// Opens a blob for reading. What arrives is not verified; see [`Client::download_blob`].
    pub async fn blob(
        &self,
        digest: Sha256Digest,
    ) -> Result<impl Stream<Item = Result<Bytes, ClientError>> + Send + use<>, ClientError> {
        let url = self.blob_url(digest);
        let response =
            self.send("fetch the blob", Repeat::Always, || Ok(self.request(Method::GET, url.clone()))).await?;
        let client = self.clone();
        Ok(response.bytes_stream().map_err(move |error| client.unreachable("fetch the blob", error)))
    }

    /// Writes a blob to a file, which is made or replaced, and verifies it; gives its size. A transfer that is cut off begins
    /// anew. After an error the file may hold a part. `received` counts the bytes as they come.
    pub async fn download_blob(
        &self,
        digest: Sha256Digest,
        to: &Path,
        received: &Counters,
    ) -> Result<u64, ClientError> {
        let mut backoff = Backoff::new(self.retry_for);
        // What came a second time is not counted again.
        let mut counted = 0;
        loop {
            match self.transfer(digest, to, received, &mut counted).await {
                // While it cannot even be asked for, that was tried again already.
                Err(error @ ClientError::Unreachable { .. }) if counted > 0 => {
                    wait(&mut backoff, Repeat::Always, error.into()).await?;
                }
                ended => return ended,
            }
        }
    }

    async fn transfer(
        &self,
        digest: Sha256Digest,
        to: &Path,
        received: &Counters,
        counted: &mut u64,
    ) -> Result<u64, ClientError> {
        let mut content = std::pin::pin!(self.blob(digest).await?);
        let mut file = tokio::fs::File::create(to).await.map_err(|source| file_error("write", to, source))?;
        let (mut hasher, mut size) = (sha2::Sha256::new(), 0);
        while let Some(chunk) = content.next().await {
            let chunk = chunk?;
            hasher.update(&chunk);
            size += chunk.len() as u64;
            received.add_bytes(size.saturating_sub(*counted));
            *counted = size.max(*counted);
            file.write_all(&chunk).await.map_err(|source| file_error("write", to, source))?;
        }
        file.flush().await.map_err(|source| file_error("write", to, source))?;
        let got = Sha256Digest::new(hasher.finalize().into());
        if got == digest { Ok(size) } else { Err(ClientError::Damaged { expected: digest, got }) }
    }
}

fn file_error(action: &'static str, path: &Path, source: std::io::Error) -> ClientError {
    ClientError::File { action, path: path.to_owned(), source }
}
