//! Brings a payload's bytes to this machine, before any transaction is opened.

use std::path::{Path, PathBuf};

use super::failure::{chain, failed};
use super::{Worker, log::AttemptLog};
use crate::client::ClientError;
use crate::domain::digest::Checksum;
use crate::domain::ids::BatchId;
use crate::domain::job::spec::Source;
use crate::domain::outcome::Outcome;
use crate::domain::progress::Counters;
use crate::domain::protocol::{ClaimedJob, PinRequest};

/// Fetches into a file below `scratch`, counting in `fetched`. The bytes are those that an earlier attempt used, or the attempt fails.
#[allow(clippy::too_many_arguments)]
pub(super) async fn fetch(
    worker: &Worker,
    batch: BatchId,
    token: &str,
    job: &ClaimedJob,
    source: &Source,
    scratch: &Path,
    log: &AttemptLog,
    fetched: &Counters,
) -> Result<PathBuf, Outcome> {
    let file = scratch.join("payload");
    match source {
        Source::Blob { digest } => {
            let size = worker
                .client
                .download_blob(*digest, &file, fetched)
                .await
                .map_err(|error| failed("fetch_failed", chain(&error), error.is_transient()))?;
            log.line(format!("fetched {digest}, {size} bytes")).await;
        }
        Source::Url { url, checksum } => {
            let content = worker
                .fetcher
                .fetch(url, checksum.as_ref(), &file, fetched)
                .await
                .map_err(|error| failed("fetch_failed", chain(&error), error.is_transient()))?;
            log.line(format!("fetched {url}, {} bytes, {}", content.size, content.sha256)).await;
            match job.pinned {
                Some(pinned) if Checksum::from(pinned) != Checksum::from(content.sha256) => {
                    let message = format!(
                        "{url} delivers {} now, and delivered {pinned} at the first attempt; submit a new job for the new content",
                        content.sha256
                    );
                    return Err(failed("source_changed", message, false));
                }
                Some(_) => {}
                None => pin(worker, batch, token, job, content.sha256).await?,
            }
        }
    }
    Ok(file)
}

async fn pin(
    worker: &Worker,
    batch: BatchId,
    token: &str,
    job: &ClaimedJob,
    digest: crate::domain::digest::Sha256Digest,
) -> Result<(), Outcome> {
    match worker.client.pin(batch, job.spec.id, &PinRequest { token: token.to_owned(), digest }).await {
        Ok(()) => Ok(()),
        Err(ClientError::Refused { status: 409, .. }) => Err(Outcome::Released),
        Err(error) => Err(failed("server_unreachable", chain(&error), true)),
    }
}
