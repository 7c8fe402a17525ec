//! Sends an attempt's log to the server while it grows. The log is for people: it never holds up or fails a job.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::client::Client;
use crate::domain::ids::{BatchId, JobId};

/// Pieces that may wait to be sent; beyond that a script waits when it writes.
const QUEUE: usize = 64;
/// Bytes sent in one piece.
const PIECE: usize = 256 * 1024;
/// How long output is collected before it is sent.
const COLLECT: Duration = Duration::from_millis(100);
/// How long the end of a log is tried to be sent after its job has ended.
const LAST_WORDS: Duration = Duration::from_secs(20);

/// The open log of one attempt.
pub(super) struct AttemptLog {
    queue: mpsc::Sender<Bytes>,
    sender: tokio::task::JoinHandle<()>,
}

/// Whose log it is.
pub(super) struct LogOwner {
    pub(super) batch: BatchId,
    pub(super) job: JobId,
    pub(super) token: String,
}

impl AttemptLog {
    pub(super) fn open(client: Client, owner: LogOwner) -> Self {
        let (queue, pieces) = mpsc::channel(QUEUE);
        Self { queue, sender: tokio::spawn(send(client, owner, pieces)) }
    }

    /// Where output goes.
    pub(super) fn sink(&self) -> mpsc::Sender<Bytes> {
        self.queue.clone()
    }

    /// Adds a line of our own.
    pub(super) async fn line(&self, text: String) {
        // A log that is closed has nobody to read it.
        let _ = self.queue.send(Bytes::from(format!("[conveyor] {text}\n"))).await;
    }

    /// Waits until all is sent.
    pub(super) async fn close(self) {
        drop(self.queue);
        let mut sender = self.sender;
        if tokio::time::timeout(LAST_WORDS, &mut sender).await.is_err() {
            sender.abort();
        }
    }
}

async fn send(client: Client, owner: LogOwner, mut pieces: mpsc::Receiver<Bytes>) {
    let mut end = 0u64;
    let mut open = true;
    while open {
        let mut piece = BytesMut::new();
        match pieces.recv().await {
            Some(bytes) => piece.extend_from_slice(&bytes),
            None => break,
        }
        let collected = tokio::time::Instant::now() + COLLECT;
        while piece.len() < PIECE {
            match tokio::time::timeout_at(collected, pieces.recv()).await {
                Ok(Some(bytes)) => piece.extend_from_slice(&bytes),
                Ok(None) => {
                    open = false;
                    break;
                }
                Err(_) => break,
            }
        }
        let piece = piece.freeze();
        match client.append_log(owner.batch, owner.job, &owner.token, end, piece.clone()).await {
            Ok(position) => end = position.end,
            Err(error) => {
                tracing::warn!(job.id = %owner.job, error = &error as &dyn std::error::Error, "a piece of the log was not stored");
                if !error.is_transient() {
                    // The claim is gone, so is the right to write its log. What still comes is read and dropped.
                    while pieces.recv().await.is_some() {}
                    return;
                }
            }
        }
    }
}
