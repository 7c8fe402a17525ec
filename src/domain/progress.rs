//! How far a running attempt has come. It is shown and never stored: it proves nothing.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::ids::JobId;

/// What a worker does for an attempt before it publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Bringing the payload to the worker's machine.
    Fetching,
    /// Putting files into the repository's transaction.
    Staging,
    /// Published: waiting for the job's URLs to serve its revision.
    Distributing,
}

/// How far a worker has come with a batch, as it reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProgressReport {
    /// What is being done; the figures begin anew with each step.
    pub step: Step,
    /// Files done.
    pub files: u64,
    /// Bytes of content read.
    pub bytes: u64,
}

/// How far an attempt has come, as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProgressView {
    /// What is being done; the figures begin anew with each step.
    pub step: Step,
    /// Files done.
    pub files: u64,
    /// Bytes of content read.
    pub bytes: u64,
    /// Bytes a second between the last two reports; absent after the first of a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_s: Option<u64>,
    /// How many of the job's URLs serve its revision; only of the step `distributing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Replicas>,
}

/// How many of a job's URLs serve its revision, or a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Replicas {
    /// The revision.
    pub revision: u64,
    /// Those that serve it.
    pub serving: u32,
    /// All of them.
    pub of: u32,
}

/// An event of type `progress`: how far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobProgress {
    /// The job.
    pub job_id: JobId,
    /// The attempt that runs.
    pub attempt: u32,
    /// How far it has come.
    #[serde(flatten)]
    pub progress: ProgressView,
}

impl ProgressView {
    /// What a report makes of the view before it, which is `elapsed` old.
    pub fn next(before: Option<&Self>, report: ProgressReport, elapsed: Duration) -> Self {
        let before = before.filter(|before| before.step == report.step);
        let rate = |before: &Self| {
            let millis = elapsed.as_millis();
            let more = u128::from(report.bytes.saturating_sub(before.bytes));
            match (more * 1000).checked_div(millis) {
                Some(rate) => Some(u64::try_from(rate).unwrap_or(u64::MAX)),
                None => before.bytes_per_s,
            }
        };
        let bytes_per_s = before.and_then(rate);
        Self { step: report.step, files: report.files, bytes: report.bytes, bytes_per_s, replicas: None }
    }
}

impl From<Replicas> for ProgressView {
    fn from(replicas: Replicas) -> Self {
        Self { step: Step::Distributing, files: 0, bytes: 0, bytes_per_s: None, replicas: Some(replicas) }
    }
}

impl fmt::Display for Replicas {
    /// For people, such as `2 of 3 replicas serve revision 17`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { revision, serving, of } = self;
        let (replicas, serve) =
            (if *of == 1 { "replica" } else { "replicas" }, if *serving == 1 { "serves" } else { "serve" });
        write!(f, "{serving} of {of} {replicas} {serve} revision {revision}")
    }
}

impl fmt::Display for ProgressView {
    /// For people, such as `staged 12 files, 3.4 MiB, 1.1 MiB/s`; empty where nothing is done yet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(replicas) = self.replicas {
            return replicas.fmt(f);
        }
        if (self.files, self.bytes) == (0, 0) {
            return Ok(());
        }
        match self.step {
            Step::Fetching => write!(f, "fetched {}", Size(self.bytes))?,
            Step::Staging if self.files == 1 => write!(f, "staged 1 file, {}", Size(self.bytes))?,
            Step::Staging => write!(f, "staged {} files, {}", self.files, Size(self.bytes))?,
            Step::Distributing => return Ok(()),
        }
        match self.bytes_per_s {
            Some(rate) if rate > 0 => write!(f, ", {}/s", Size(rate)),
            _ => Ok(()),
        }
    }
}

/// Bytes in their greatest unit.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut size = self.0 as f64;
        for unit in ["B", "KiB", "MiB", "GiB"] {
            // What would be rounded to 1024 is 1 of the next.
            if size < 1023.95 {
                return if unit == "B" { write!(f, "{size} B") } else { write!(f, "{size:.1} {unit}") };
            }
            size /= 1024.0;
        }
        write!(f, "{size:.1} TiB")
    }
}

/// What is counted while it is done, to be read meanwhile by another thread.
#[derive(Debug, Default)]
pub struct Counters {
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Counters {
    /// Counts one file that is done.
    pub fn add_file(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes of content that were read.
    pub fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Files that are done.
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Bytes of content that were read.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}
