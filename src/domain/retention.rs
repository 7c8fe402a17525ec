//! How long what is over is kept.

use std::time::Duration;

/// How long finished jobs, their logs and their blobs are kept; what is absent is kept for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Finished jobs, with their events, from their end.
    pub jobs: Option<Duration>,
    /// Finished jobs in all.
    pub jobs_max: Option<u64>,
    /// Logs, from the end of their job.
    pub logs: Option<Duration>,
    /// Bytes of all logs, as stored.
    pub logs_max_bytes: Option<u64>,
    /// Blobs that only finished jobs name, from the end of the last of them.
    pub blobs: Option<Duration>,
    /// Bytes of all blobs.
    pub blobs_max_bytes: Option<u64>,
    /// Time between two rounds.
    pub interval: Duration,
}

/// A blob that was uploaded, or asked for by whoever wants to use it, stays at least this long.
pub const UNUSED_BLOB: Duration = Duration::from_secs(24 * 3600);

/// A token that has expired or was revoked is shown for so long.
pub const VOID_TOKEN: Duration = Duration::from_secs(30 * 24 * 3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for Retention {
    fn default() -> Self {
        Self {
            jobs: Some(DAY * 180),
            jobs_max: None,
            logs: Some(DAY * 90),
            logs_max_bytes: Some(10 << 30),
            blobs: Some(DAY * 30),
            blobs_max_bytes: None,
            interval: Duration::from_secs(300),
        }
    }
}
