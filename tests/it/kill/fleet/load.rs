//! Work for the fleet, for as long as it lasts: jobs of every kind, in every order, some cancelled and tried again. What is
//! asked is written down first, what is accepted behind it, in a file that Conveyor knows nothing of.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use conveyor::client::{Client, ClientError};
use conveyor::domain::ids::JobId;
use conveyor::domain::job::spec::Condition;
use conveyor::domain::job::state::StateKind;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio::sync::watch;

use super::site::REPOSITORIES;
use super::stories::Stories;
use crate::kill::chain::Change;
use crate::kill::ledger::{End, Entry};
use crate::kill::work::{Living, Planned, accepted_by};

/// Jobs that have not ended; no more are submitted while there are so many.
const BACKLOG: usize = 30;
/// Most jobs in one submission.
const TOGETHER: usize = 5;
/// Longest run of a script, in milliseconds.
const SCRIPT_MS: u64 = 400;
/// Jobs that wait to be tried again once they were cancelled.
const CANCELLED: usize = 5;
/// Pause before a look at how many are open.
const LOOK: Duration = Duration::from_millis(20);
/// Leases: of several repositories' paths some lie in others.
const LEASES: [&str; 6] = ["/a", "/b", "/b/inner", "/c", "/d/deep/er", "/d"];
/// Signs outside, then takes its time.
const SIGNING: &str = "echo \"$3\" >>\"$4\"\nsleep \"$5\"";
/// Signs, and fails.
const FAILING: &str = "echo \"$3\" >>\"$4\"\nexit 1";
/// Signs, and fails the first time.
const FLAKY: &str = "echo \"$3\" >>\"$4\"\n[ \"$CONVEYOR_ATTEMPT\" -gt 1 ] || exit 1";
/// What jobs may be tried, and for how many seconds: more than any outage lasts.
const TRIED: (u32, u32) = (100, 900);

/// The client that submits.
pub(super) struct Load {
    client: Client,
    living: Living,
    stories: Arc<Stories>,
    random: ChaCha8Rng,
    /// What scripts sign.
    ledger: PathBuf,
    file: File,
    entries: Vec<Entry>,
    /// Files that nobody was asked to remove, each with the job that adds it.
    files: Vec<(usize, String, &'static str, JobId)>,
    cancelled: VecDeque<JobId>,
    submissions: usize,
    retried: usize,
}

/// What was asked for.
pub(super) struct Asked {
    pub(super) entries: Vec<Entry>,
    pub(super) submissions: usize,
    /// Jobs that were cancelled, and tried again.
    pub(super) retried: usize,
}

impl Load {
    pub(super) fn new(seed: u64, client: Client, stories: Arc<Stories>, ledger: &Path, records: &Path) -> Self {
        Self {
            living: watch::channel(Some(client.clone())).1,
            client,
            stories,
            random: ChaCha8Rng::seed_from_u64(seed),
            ledger: ledger.to_owned(),
            file: File::create(records.join("ledger.jsonl")).unwrap(),
            entries: Vec::new(),
            files: Vec::new(),
            cancelled: VecDeque::new(),
            submissions: 0,
            retried: 0,
        }
    }

    /// Submits until it is told to stop; everything that was asked is accepted then.
    pub(super) async fn run(mut self, stop: &AtomicBool) -> Asked {
        while !stop.load(Ordering::SeqCst) {
            if self.stories.open() >= BACKLOG {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            let jobs = self.group();
            jobs.iter().for_each(|job| self.write_down("asked", &job.entry));
            accepted_by(&jobs, &self.living).await;
            jobs.iter().for_each(|job| self.write_down("accepted", &job.entry));
            self.submissions += 1;
            self.stories.accepted(jobs.len());
            self.remember(&jobs);
            if self.random.random_ratio(1, 8) {
                self.cancel().await;
            }
            if self.cancelled.len() > CANCELLED {
                self.retry().await;
            }
        }
        Asked { entries: self.entries, submissions: self.submissions, retried: self.retried }
    }

    /// Some jobs, of which each may wait for the one before.
    fn group(&mut self) -> Vec<Planned> {
        let mut jobs: Vec<Planned> = Vec::new();
        for _ in 0..self.random.random_range(1..=TOGETHER) {
            let mut job = self.job();
            if let Some(before) = jobs.last().filter(|_| self.random.random_ratio(1, 4)) {
                let conditions = [Condition::Success, Condition::Failure, Condition::Always];
                job = job.after(before.entry.job, conditions[self.random.random_range(0..conditions.len())]);
            }
            jobs.push(job);
        }
        jobs
    }

    fn job(&mut self) -> Planned {
        let dice = self.random.random_range(0..100);
        let number = self.random.random_range(0..REPOSITORIES.len());
        let repository = REPOSITORIES[number];
        let lease = LEASES[self.random.random_range(0..LEASES.len())];
        let pause = format!("{:.2}", self.random.random_range(0..SCRIPT_MS) as f64 / 1000.0);
        let args = [self.ledger.display().to_string(), pause];
        let (attempts, timeout_s) = TRIED;
        match dice {
            0..40 => Planned::tarball(repository, lease),
            40..65 => Planned::script_with(repository, lease, SIGNING, &args),
            65..88 if !self.files.is_empty() => {
                let at = self.random.random_range(0..self.files.len());
                let (number, path, lease, job) = self.files.swap_remove(at);
                Planned::delete(REPOSITORIES[number], lease, &path).after(job, Condition::Success)
            }
            88..92 => Planned::script_with(repository, lease, FLAKY, &args),
            // Failed once, it has failed: whatever it was that failed.
            92..95 => return Planned::script_with(repository, lease, FAILING, &args).ending(End::Failure),
            _ => Planned::empty(repository, lease),
        }
        .tried(attempts, timeout_s)
    }

    fn remember(&mut self, jobs: &[Planned]) {
        for Planned { entry, .. } in jobs {
            if let ([Change::Added(path)], End::Success) = (entry.changes.as_slice(), entry.end) {
                let number = REPOSITORIES.iter().position(|name| *name == entry.repository).unwrap();
                // The longest, since some begin with others.
                let leases = LEASES.iter().filter(|lease| format!("/{path}").starts_with(&format!("{lease}/")));
                let lease = leases.max_by_key(|lease| lease.len()).unwrap();
                self.files.push((number, path.clone(), lease, entry.job));
            }
            self.entries.push(entry.clone());
        }
    }

    /// Wants one of the latest jobs not to happen.
    async fn cancel(&mut self) {
        let latest = self.entries.len().saturating_sub(BACKLOG);
        let at = self.random.random_range(latest..self.entries.len());
        let entry = &self.entries[at];
        if entry.end != End::Success || !entry.dependencies.is_empty() {
            return;
        }
        let job = entry.job;
        let cancelled = loop {
            match self.client.cancel(job).await {
                Ok(view) => break Some(view.state == StateKind::Cancelled),
                Err(ClientError::Refused { status: 409, .. }) => break None,
                // A request whose answer was lost may have been heard.
                Err(_) => self.entries[at].end = End::SuccessOrCancelled,
            }
        };
        let Some(at_once) = cancelled else { return };
        self.entries[at].end = if at_once { End::Cancelled } else { End::SuccessOrCancelled };
        self.write_down("cancelled", &self.entries[at].clone());
        self.cancelled.push_back(job);
    }

    /// Wants a cancelled one to happen after all.
    async fn retry(&mut self) {
        let Some(job) = self.cancelled.pop_front() else { return };
        let Some(at) = self.entries.iter().rposition(|entry| entry.job == job) else { return };
        // What was cancelled on its way may be on its way still, or have succeeded: then this is refused.
        loop {
            match self.client.retry(job, true).await {
                Ok(_) => {
                    self.entries[at].end = End::Success;
                    self.retried += 1;
                    self.write_down("retried", &self.entries[at].clone());
                    return;
                }
                Err(ClientError::Refused { status: 409, .. }) => return,
                Err(_) => self.entries[at].end = End::SuccessOrCancelled,
            }
        }
    }

    fn write_down(&mut self, what: &str, entry: &Entry) {
        let Entry { job, repository, changes, end, dependencies } = entry;
        let line = json!({
            "at": jiff::Timestamp::now().to_string(),
            "what": what,
            "job": job,
            "repository": repository,
            "changes": changes.iter().map(|change| format!("{change:?}")).collect::<Vec<_>>(),
            "end": format!("{end:?}"),
            "dependencies": dependencies,
        });
        writeln!(self.file, "{line}").unwrap();
    }
}
