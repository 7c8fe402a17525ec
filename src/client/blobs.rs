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

use super::{CALL_TIMEOUT, Client, ClientError, Repeat};
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
        let response = self.send(action, Repeat::Always, build).await?;
        self.json(action, response).await
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

    /// Writes a blob to a file, which is made or replaced, and verifies it; gives its size. After an error the file
    /// may hold a part. `received` counts the bytes as they come.
    pub async fn download_blob(
        &self,
        digest: Sha256Digest,
        to: &Path,
        received: &Counters,
    ) -> Result<u64, ClientError> {
        let mut content = std::pin::pin!(self.blob(digest).await?);
        let mut file = tokio::fs::File::create(to).await.map_err(|source| file_error("write", to, source))?;
        let (mut hasher, mut size) = (sha2::Sha256::new(), 0);
        while let Some(chunk) = content.next().await {
            let chunk = chunk?;
            hasher.update(&chunk);
            size += chunk.len() as u64;
            received.add_bytes(chunk.len() as u64);
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
