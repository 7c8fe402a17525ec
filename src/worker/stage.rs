//! Opens the transaction and puts the payloads into it: everything that happens before the permission to publish.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::batch::Ending;
use super::failure::{chain, failed, outcome};
use super::held::Stop;
use super::log::AttemptLog;
use super::{Account, Worker, WorkerSettings, revert, source};
use crate::domain::ids::BatchId;
use crate::domain::job::spec::{Payload, Publish};
use crate::domain::outcome::Outcome;
use crate::domain::progress::{Counters, Step};
use crate::domain::protocol::{ClaimReply, ClaimedJob};
use crate::domain::tree::EntryPath;
use crate::payload::archive::{self, ArchiveItem, ArchiveLimits, ReadError, Summary};
use crate::payload::script::{self, ScriptRun};
use crate::publisher::{PublisherError, Transaction};

/// Where the repositories of a machine with CernVM-FS are; absolute links in archives are read as such.
const CVMFS: &str = "/cvmfs";

/// Time that a script gets to end by itself when it is told to.
const GRACE: Duration = Duration::from_secs(5);
/// Payloads that are fetched at the same time.
const FETCHES_AT_ONCE: usize = 8;
/// Bytes of a script's output that are passed on.
const OUTPUT_LIMIT: u64 = 256 * 1024 * 1024;

pub(super) type Open = Box<dyn Transaction>;

/// Everything that a batch wants to change, and nothing of it visible yet.
pub(super) struct Staged {
    pub(super) transaction: Open,
    /// What each job put there.
    pub(super) counts: Vec<Count>,
}

/// Files and bytes that were staged.
pub(super) struct Count {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// Fetches all payloads, then opens the transaction, then stages each in turn. An error leaves no transaction open.
pub(super) async fn stage(
    worker: &Arc<Worker>,
    batch: BatchId,
    claim: &ClaimReply,
    logs: &[AttemptLog],
    stop: &mut watch::Receiver<Stop>,
    scratch: &Path,
) -> Result<Staged, Ending> {
    worker.wait_for_whitelist(&claim.repository).await.map_err(Ending::All)?;
    let files = fetch_all(worker, batch, claim, logs, stop, scratch).await?;
    let publisher = Arc::clone(&worker.publisher);
    let (repository, lease_path, key) = (claim.repository.clone(), claim.lease_path.clone(), claim.key.clone());
    let draft = scratch.join("transaction");
    std::fs::create_dir(&draft).map_err(|e| Ending::All(node_failed(&draft, &e)))?;
    let opened = blocking(move || publisher.open(&repository, &lease_path, &key, &draft)).await;
    let mut transaction = opened.map_err(Ending::All)?;
    let progress = transaction.progress();
    worker.held.begin(batch, Step::Staging, Arc::clone(&progress));
    let mut counts = Vec::with_capacity(claim.jobs.len());
    for (number, ((job, log), file)) in claim.jobs.iter().zip(logs).zip(files).enumerate() {
        let (files, bytes) = (progress.files(), progress.bytes());
        let staged = stage_one(worker, transaction, job, log, file, stop).await;
        transaction = staged.map_err(|outcome| Ending::of_one(number, outcome))?;
        counts.push(Count { files: progress.files() - files, bytes: progress.bytes() - bytes });
    }
    Ok(Staged { transaction, counts })
}

/// Fetches the payloads of all jobs, several at a time.
async fn fetch_all(
    worker: &Arc<Worker>,
    batch: BatchId,
    claim: &ClaimReply,
    logs: &[AttemptLog],
    stop: &mut watch::Receiver<Stop>,
    scratch: &Path,
) -> Result<Vec<Option<PathBuf>>, Ending> {
    let fetched = Arc::new(Counters::default());
    worker.held.begin(batch, Step::Fetching, Arc::clone(&fetched));
    let mut fetches = Vec::with_capacity(claim.jobs.len());
    for (number, log) in logs.iter().enumerate() {
        let folder = scratch.join(format!("job-{number}"));
        fetches.push(fetch_one(worker, batch, claim, number, log, folder, &fetched));
    }
    // In the order of the jobs, so that of several that fail it is the first that is told of.
    let fetching = futures_util::stream::iter(fetches).buffered(FETCHES_AT_ONCE).try_collect();
    tokio::select! {
        files = fetching => files,
        () = stopped(stop) => Err(Ending::All(Outcome::Released)),
    }
}

/// Fetches the payload of one job, where it has one.
async fn fetch_one(
    worker: &Worker,
    batch: BatchId,
    claim: &ClaimReply,
    number: usize,
    log: &AttemptLog,
    folder: PathBuf,
    fetched: &Arc<Counters>,
) -> Result<Option<PathBuf>, Ending> {
    let job = &claim.jobs[number];
    std::fs::create_dir(&folder).map_err(|e| Ending::All(node_failed(&folder, &e)))?;
    let Some(source) = job.spec.publish().payload.source() else { return Ok(None) };
    let fetch = source::fetch(worker, batch, &claim.token, job, source, &folder, log, fetched);
    let limit = TimeLimit::of(job, None);
    let file = tokio::time::timeout(limit.time, fetch).await;
    let file = file.unwrap_or_else(|_| Err(limit.exceeded("fetching the payload")));
    file.map(Some).map_err(|outcome| Ending::of_one(number, outcome))
}

/// How long a payload may take, and what says so.
#[derive(Debug, Clone)]
pub(super) struct TimeLimit {
    pub(super) time: Duration,
    by: String,
}

impl TimeLimit {
    /// `lease`: what is left of the transaction's lease, where it has one.
    pub(super) fn of(job: &ClaimedJob, lease: Option<Duration>) -> Self {
        let own = job.spec.timeout_s;
        let mut limit = Self { time: Duration::from_secs(own.into()), by: format!("the job's limit of {own} s") };
        let deadline = job.time_left_s.map(|left| Duration::from_secs(left.into()));
        for (left, what) in [(deadline, "until the job's deadline"), (lease, "of the gateway's lease for the payload")]
        {
            if let Some(time) = left.filter(|left| *left < limit.time) {
                limit = Self { time, by: format!("the {} s that were left {what}", time.as_secs()) };
            }
        }
        limit
    }

    pub(super) fn exceeded(&self, what: &str) -> Outcome {
        failed("timed_out", format!("{what} took longer than {}", self.by), true)
    }
}

async fn stage_one(
    worker: &Worker,
    mut transaction: Open,
    job: &ClaimedJob,
    log: &AttemptLog,
    file: Option<PathBuf>,
    stop: &mut watch::Receiver<Stop>,
) -> Result<Open, Outcome> {
    let publish = job.spec.publish();
    let lease_path = publish.lease_path.clone();
    let entered = blocking(move || {
        transaction.enter(&lease_path)?;
        let left = transaction.time_left();
        Ok((transaction, left))
    });
    let (mut transaction, left) = entered.await?;
    let limit = TimeLimit::of(job, left);
    match (&publish.payload, file) {
        (Payload::Tarball { .. }, Some(file)) => {
            let repository_root = format!("{CVMFS}/{}", publish.repository);
            let base = lease(publish)?;
            let over = Arc::new(AtomicBool::new(false));
            let asked = Arc::clone(&over);
            let mut unpacking =
                tokio::task::spawn_blocking(move || unpack(transaction, &file, &base, &repository_root, &asked));
            let unpacked = tokio::select! {
                unpacked = &mut unpacking => unpacked,
                () = stopped(stop) => { over.store(true, Ordering::Relaxed); unpacking.await }
                () = tokio::time::sleep(limit.time) => {
                    over.store(true, Ordering::Relaxed);
                    let _ = unpacking.await;
                    return Err(limit.exceeded("unpacking"));
                }
            };
            let (transaction, summary) =
                unpacked.map_err(|panic| failed("node_failed", format!("unpacking failed: {panic}"), true))??;
            log.line(format!("unpacked {} entries", summary.entries)).await;
            if summary.ignored_attributes > 0 {
                let count = summary.ignored_attributes;
                log.line(format!("{count} extended attributes were left out: CernVM-FS keeps up to 255 bytes of each"))
                    .await;
            }
            Ok(transaction)
        }
        (Payload::Script { .. }, Some(file)) => run_script(worker, transaction, job, log, file, limit.time, stop).await,
        (Payload::Delete { paths }, _) => {
            let paths =
                Payload::delete_paths(paths, &publish.lease_path).map_err(|why| failed("bad_job", why, false))?;
            let (transaction, absent) = blocking(move || {
                let mut absent = Vec::new();
                for path in paths {
                    if !transaction.remove(&path)? {
                        absent.push(path);
                    }
                }
                Ok((transaction, absent))
            })
            .await?;
            for path in absent {
                log.line(format!("/{path} was not there")).await;
            }
            Ok(transaction)
        }
        (Payload::Revert { .. }, _) => revert::stage(worker, transaction, job, log, limit, stop).await,
        (Payload::Empty | Payload::Script { .. } | Payload::Tarball { .. }, _) => Ok(transaction),
    }
}

/// Streams an archive into the transaction. Blocks.
fn unpack(
    mut transaction: Open,
    file: &Path,
    base: &EntryPath,
    repository_root: &str,
    over: &AtomicBool,
) -> Result<(Open, Summary), Outcome> {
    let source = std::fs::File::open(file).map_err(|e| node_failed(file, &e))?;
    let read = archive::read(source, &ArchiveLimits::default(), base, repository_root, &mut |entry, content| {
        if over.load(Ordering::Relaxed) {
            return Err(Interrupted::Stopped);
        }
        let path = base.join(&entry.path);
        match &entry.item {
            ArchiveItem::Node(kind) => transaction.put(&path, &entry.meta, kind, content),
            ArchiveItem::HardLink { to } => transaction.link(&path, &base.join(to)),
        }
        .map_err(Interrupted::Publisher)
    });
    match read {
        Ok(summary) => match transaction.settle() {
            Ok(()) => Ok((transaction, summary)),
            Err(error) => Err(outcome(&error)),
        },
        Err(ReadError::Archive(error)) => Err(failed("bad_archive", chain(&error), error.is_transient())),
        Err(ReadError::Sink { source: Interrupted::Publisher(error), .. }) => Err(outcome(&error)),
        Err(ReadError::Sink { source: Interrupted::Stopped, .. }) => Err(Outcome::Released),
    }
}

/// Why entries were no longer wanted.
enum Interrupted {
    Publisher(PublisherError),
    Stopped,
}

async fn run_script(
    worker: &Worker,
    mut transaction: Open,
    job: &ClaimedJob,
    log: &AttemptLog,
    file: PathBuf,
    time_limit: Duration,
    stop: &mut watch::Receiver<Stop>,
) -> Result<Open, Outcome> {
    let publish = job.spec.publish();
    let args = match &publish.payload {
        Payload::Script { args, .. } => args.as_slice(),
        _ => &[],
    };
    let settings = worker.settings.clone();
    let temporary = file.with_file_name("tmp");
    let (program, home) = (file.clone(), temporary.clone());
    let (mut transaction, workspace, run_as) = blocking(move || {
        let io = |source| PublisherError::Io { what: "prepare the script".into(), source };
        std::fs::create_dir(&home).map_err(io)?;
        let workspace = transaction.check_out()?;
        let run_as = settings.account(&workspace);
        for tree in [program.as_path(), &home].into_iter().chain(WorkerSettings::to_give(&workspace)) {
            give_tree(tree, run_as).map_err(io)?;
        }
        Ok((transaction, workspace, run_as))
    })
    .await?;
    let isolated = worker.isolates || workspace.live.is_some();
    let confinement = isolated.then(|| worker.settings.confinement(&workspace));

    let script = ScriptRun {
        run_id: uuid::Uuid::now_v7(),
        program: file,
        repository: publish.repository.clone(),
        lease_path: publish.lease_path.clone(),
        args: args.iter().map(OsString::from).collect(),
        directory: workspace.root,
        temporary,
        environment: BTreeMap::from([
            ("CONVEYOR_JOB_ID".into(), job.spec.id.to_string()),
            ("CONVEYOR_ATTEMPT".into(), job.attempt.to_string()),
            ("CONVEYOR_REPOSITORY".into(), publish.repository.to_string()),
            ("CONVEYOR_LEASE_PATH".into(), publish.lease_path.to_string()),
        ]),
        time_limit,
        grace: GRACE,
        output_limit: OUTPUT_LIMIT,
        run_as: run_as.map(|account| (account.uid.into(), account.gid.into())),
        allow_root: false,
        confinement,
    };
    let cancel = CancellationToken::new();
    let mut running = std::pin::pin!(script::run(script, &cancel, log.sink()));
    let ended = tokio::select! {
        ended = running.as_mut() => ended,
        () = stopped(stop) => {
            cancel.cancel();
            running.await
        }
    };
    let report = ended.map_err(|error| failed("script_not_run", chain(&error), error.is_transient()))?;
    if report.dropped_bytes > 0 {
        log.line(format!("{} bytes of output were dropped, beyond the limit of {OUTPUT_LIMIT}", report.dropped_bytes))
            .await;
    }
    match report.ending {
        script::Ending::Exited { code: 0 } => {}
        script::Ending::Exited { .. } | script::Ending::Signaled { .. } => {
            return Err(failed("script_failed", format!("the script {}", report.ending), true));
        }
        script::Ending::TimedOut { .. } => {
            return Err(failed("timed_out", format!("the script {}", report.ending), true));
        }
        script::Ending::Cancelled => return Err(Outcome::Released),
    }
    blocking(move || {
        transaction.check_in()?;
        Ok(transaction)
    })
    .await
}

/// Runs a publisher's call on a thread that may block. A transaction inside a failed call is dropped, and so aborted.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PublisherError> + Send + 'static,
) -> Result<T, Outcome> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(outcome(&error)),
        Err(panic) => Err(failed("node_failed", format!("the publisher failed: {panic}"), true)),
    }
}

/// Waits until the batch must be stopped.
pub(super) async fn stopped(stop: &mut watch::Receiver<Stop>) {
    if stop.wait_for(|stop| *stop != Stop::No).await.is_err() {
        // Nobody is left who could say so.
        std::future::pending().await
    }
}

/// Gives a file, or a directory and all in it, to the account that will write there; links are not followed.
fn give_tree(root: &Path, run_as: Option<Account>) -> std::io::Result<()> {
    // Nobody else could give anything away, and its scripts run as itself.
    let Some(Account { uid, gid }) = run_as.filter(|_| nix::unistd::geteuid().is_root()) else { return Ok(()) };
    for entry in walkdir::WalkDir::new(root) {
        std::os::unix::fs::lchown(entry?.path(), Some(uid), Some(gid))?;
    }
    Ok(())
}

pub(super) fn lease(publish: &Publish) -> Result<EntryPath, Outcome> {
    EntryPath::new(publish.lease_path.relative().as_bytes())
        .map_err(|error| failed("bad_job", error.to_string(), false))
}

fn node_failed(path: &Path, error: &std::io::Error) -> Outcome {
    failed("node_failed", format!("cannot use {}: {error}", path.display()), true)
}
