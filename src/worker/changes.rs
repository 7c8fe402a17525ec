//! What a batch changes: the first paths in each job's log, all of them in a list that the server keeps.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};

use super::Worker;
use super::log::AttemptLog;
use crate::domain::ids::BatchId;
use crate::domain::protocol::{ClaimReply, ClaimedJob};
use crate::domain::tree::EntryPath;
use crate::publisher::{PublisherError, Transaction};

/// Changed paths that are named in the log.
const IN_LOG: usize = 50;
/// Changed paths of a job that are listed.
const MOST_PATHS: usize = 200_000;
/// Bytes of a job's list.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of a list that are sent at once.
const PIECE: u64 = 512 * 1024;
/// Lists that are sent at the same time.
const LISTS_AT_ONCE: usize = 8;
/// How long the lists are tried to be sent: no publish waits longer for that.
const SENDING: Duration = Duration::from_secs(20);

/// What is told of a change set, which can have millions of paths.
pub(super) struct Changed {
    /// What lies within each job's lease path.
    pub(super) of_jobs: Vec<Listed>,
    /// Nothing changes, in the whole batch.
    pub(super) is_empty: bool,
    /// SHA-256 over all of it.
    pub(super) digest: String,
}

/// Changed paths: how many, the first of them, and the list.
pub(super) struct Listed {
    pub(super) count: usize,
    first: Vec<String>,
    /// A line each, in a file: there is nothing to list without.
    file: Option<PathBuf>,
}

/// A list that is being written.
struct List {
    count: usize,
    bytes: usize,
    left_out: usize,
    first: Vec<String>,
    path: PathBuf,
    /// Opened with the first line.
    file: Option<BufWriter<File>>,
}

impl Changed {
    /// Blocks. `leases`: those of the batch's jobs; `scratch`: a directory for the lists.
    pub(super) fn of(
        transaction: &dyn Transaction,
        leases: &[EntryPath],
        scratch: &Path,
    ) -> Result<Self, PublisherError> {
        let list = |number| List::new(scratch.join(format!("changes-{number}")));
        let (mut lists, mut hasher) = ((0..leases.len()).map(list).collect::<Vec<_>>(), Sha256::new());
        let (mut is_empty, mut written) = (true, Ok(()));
        transaction.changes(&mut |change| {
            is_empty = false;
            let line = change.to_string();
            hasher.update(&line);
            hasher.update([0]);
            for (list, lease) in lists.iter_mut().zip(leases) {
                if written.is_ok() && change.path().is_within(lease) {
                    written = list.add(&line);
                }
            }
        })?;
        let io =
            |source| PublisherError::Io { what: format!("list the changed paths in {}", scratch.display()), source };
        written.map_err(io)?;
        let of_jobs = lists.into_iter().map(List::end).collect::<io::Result<_>>().map_err(io)?;
        Ok(Self { of_jobs, is_empty, digest: hex::encode(hasher.finalize()) })
    }
}

impl List {
    fn new(path: PathBuf) -> Self {
        Self { count: 0, bytes: 0, left_out: 0, first: Vec::new(), path, file: None }
    }

    fn add(&mut self, line: &str) -> io::Result<()> {
        self.count += 1;
        if self.first.len() < IN_LOG {
            self.first.push(line.to_owned());
        }
        if self.left_out > 0 || self.count > MOST_PATHS || self.bytes + line.len() + 1 > MOST_BYTES {
            self.left_out += 1;
            return Ok(());
        }
        self.bytes += line.len() + 1;
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(BufWriter::new(File::create_new(&self.path)?)),
        };
        writeln!(file, "{line}")
    }

    fn end(mut self) -> io::Result<Listed> {
        if let Some(file) = &mut self.file {
            if self.left_out > 0 {
                writeln!(file, "# {} more paths are left out", self.left_out)?;
            }
            file.flush()?;
        }
        let file = self.file.is_some().then_some(self.path);
        Ok(Listed { count: self.count, first: self.first, file })
    }
}

/// Tells the log of each job what it changes, and sends the lists. That one could not be sent fails no job.
pub(super) async fn tell(worker: &Worker, batch: BatchId, claim: &ClaimReply, logs: &[AttemptLog], changed: &Changed) {
    let until = tokio::time::Instant::now() + SENDING;
    let mut telling = Vec::with_capacity(logs.len());
    for ((job, log), listed) in claim.jobs.iter().zip(logs).zip(&changed.of_jobs) {
        telling.push(async move {
            describe(log, job, listed).await;
            let Some(file) = &listed.file else { return };
            let sent = match tokio::time::timeout_at(until, send(worker, batch, claim, job, file)).await {
                Ok(sent) => sent,
                Err(_) => Err(format!("the server did not take it within {} s", SENDING.as_secs())),
            };
            if let Err(why) = sent {
                log.line(format!("the list of all changed paths is not kept: {why}")).await;
            }
        });
    }
    futures_util::stream::iter(telling).buffer_unordered(LISTS_AT_ONCE).collect::<()>().await;
}

async fn describe(log: &AttemptLog, job: &ClaimedJob, changed: &Listed) {
    log.line(format!("{} paths change", changed.count)).await;
    for line in &changed.first {
        log.line(line.clone()).await;
    }
    if changed.count > IN_LOG {
        log.line(format!("… and {} more: conveyor changes {}", changed.count - IN_LOG, job.spec.id)).await;
    }
}

async fn send(
    worker: &Worker,
    batch: BatchId,
    claim: &ClaimReply,
    job: &ClaimedJob,
    file: &Path,
) -> Result<(), String> {
    let mut file = File::open(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let mut end = 0;
    loop {
        let mut piece = Vec::new();
        // From the machine's own memory: it was just written.
        Read::by_ref(&mut file)
            .take(PIECE)
            .read_to_end(&mut piece)
            .map_err(|error| format!("cannot read the list: {error}"))?;
        if piece.is_empty() {
            return Ok(());
        }
        let sent = end + piece.len() as u64;
        let stored = worker.client.append_changes(batch, job.spec.id, &claim.token, end, Bytes::from(piece)).await;
        end = stored.map_err(|error| super::failure::chain(&error))?.end;
        if end != sent {
            return Err(format!("the server has {end} bytes of it instead of {sent}"));
        }
    }
}
