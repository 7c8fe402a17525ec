//! Opens the transaction and puts the payloads into it: everything that happens before the permission to publish.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::failure::{chain, failed, outcome};
use super::held::Stop;
use super::log::AttemptLog;
use super::{Account, Worker, source};
use crate::domain::ids::BatchId;
use crate::domain::job::spec::{Payload, Publish};
use crate::domain::outcome::Outcome;
use crate::domain::progress::{Counters, Step};
use crate::domain::protocol::{ClaimReply, ClaimedJob};
use crate::domain::tree::EntryPath;
use crate::payload::archive::{self, ArchiveItem, ArchiveLimits, ReadError, Summary};
use crate::payload::script::{self, Ending, ScriptRun};
use crate::publisher::{PublisherError, Transaction};

/// Where the repositories of a machine with CernVM-FS are; absolute links in archives are read as such.
const CVMFS: &str = "/cvmfs";

/// Time that a script gets to end by itself when it is told to.
const GRACE: Duration = Duration::from_secs(5);
/// Bytes of a script's output that are passed on.
const OUTPUT_LIMIT: u64 = 256 * 1024 * 1024;

type Open = Box<dyn Transaction>;

/// Fetches all payloads, then opens the transaction, then stages each in turn. An error leaves no transaction open.
pub(super) async fn stage(
    worker: &Arc<Worker>,
    batch: BatchId,
    claim: &ClaimReply,
    logs: &[AttemptLog],
    stop: &mut watch::Receiver<Stop>,
    scratch: &Path,
) -> Result<Open, Outcome> {
    let mut files = Vec::with_capacity(claim.jobs.len());
    let fetched = Arc::new(Counters::default());
    worker.held.begin(batch, Step::Fetching, Arc::clone(&fetched));
    for (number, (job, log)) in claim.jobs.iter().zip(logs).enumerate() {
        let folder = scratch.join(format!("job-{number}"));
        std::fs::create_dir(&folder).map_err(|e| node_failed(&folder, &e))?;
        files.push(match job.spec.publish().payload.source() {
            None => None,
            Some(source) => {
                let fetch = source::fetch(worker, batch, &claim.token, job, source, &folder, log, &fetched);
                let limit = job.spec.timeout_s;
                tokio::select! {
                    file = fetch => Some(file?),
                    () = stopped(stop) => return Err(Outcome::Released),
                    () = tokio::time::sleep(Duration::from_secs(limit.into())) => {
                        let message = format!("fetching the payload took longer than the job's limit of {limit} s");
                        return Err(failed("timed_out", message, true));
                    }
                }
            }
        });
    }

    let publisher = Arc::clone(&worker.publisher);
    let (repository, lease_path, key) = (claim.repository.clone(), claim.lease_path.clone(), claim.key.clone());
    let draft = scratch.join("transaction");
    std::fs::create_dir(&draft).map_err(|e| node_failed(&draft, &e))?;
    let mut transaction = blocking(move || publisher.open(&repository, &lease_path, &key, &draft)).await?;
    worker.held.begin(batch, Step::Staging, transaction.progress());
    for ((job, log), file) in claim.jobs.iter().zip(logs).zip(files) {
        transaction = stage_one(worker, transaction, job, log, file, stop).await?;
    }
    Ok(transaction)
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
    match (&publish.payload, file) {
        (Payload::Tarball { .. }, Some(file)) => {
            let repository_root = format!("{CVMFS}/{}", publish.repository);
            let base = lease(publish)?;
            let limit = Duration::from_secs(job.spec.timeout_s.into());
            let over = Arc::new(AtomicBool::new(false));
            let asked = Arc::clone(&over);
            let mut unpacking =
                tokio::task::spawn_blocking(move || unpack(transaction, &file, &base, &repository_root, &asked));
            let unpacked = tokio::select! {
                unpacked = &mut unpacking => unpacked,
                () = stopped(stop) => { over.store(true, Ordering::Relaxed); unpacking.await }
                () = tokio::time::sleep(limit) => {
                    over.store(true, Ordering::Relaxed);
                    let _ = unpacking.await;
                    return Err(failed("timed_out", format!("unpacking took longer than the job's limit of {} s", job.spec.timeout_s), true));
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
        (Payload::Script { args, .. }, Some(file)) => run_script(worker, transaction, job, log, file, args, stop).await,
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
    args: &[String],
    stop: &mut watch::Receiver<Stop>,
) -> Result<Open, Outcome> {
    let publish = job.spec.publish();
    let run_as = worker.settings.run_as;
    let temporary = file.with_file_name("tmp");
    let (program, home) = (file.clone(), temporary.clone());
    let (mut transaction, directory) = blocking(move || {
        let io = |source| PublisherError::Io { what: "prepare the script".into(), source };
        std::fs::create_dir(&home).map_err(io)?;
        let directory = transaction.check_out()?;
        for tree in [&program, &home, &directory] {
            give_tree(tree, run_as).map_err(io)?;
        }
        Ok((transaction, directory))
    })
    .await?;

    let script = ScriptRun {
        run_id: uuid::Uuid::now_v7(),
        program: file,
        repository: publish.repository.clone(),
        lease_path: publish.lease_path.clone(),
        args: args.iter().map(OsString::from).collect(),
        directory,
        temporary,
        environment: BTreeMap::from([
            ("CONVEYOR_JOB_ID".into(), job.spec.id.to_string()),
            ("CONVEYOR_ATTEMPT".into(), job.attempt.to_string()),
            ("CONVEYOR_REPOSITORY".into(), publish.repository.to_string()),
            ("CONVEYOR_LEASE_PATH".into(), publish.lease_path.to_string()),
        ]),
        time_limit: Duration::from_secs(job.spec.timeout_s.into()),
        grace: GRACE,
        output_limit: OUTPUT_LIMIT,
        run_as: run_as.map(|account| (account.uid.into(), account.gid.into())),
        allow_root: false,
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
        Ending::Exited { code: 0 } => {}
        Ending::Exited { .. } | Ending::Signaled { .. } => {
            return Err(failed("script_failed", format!("the script {}", report.ending), true));
        }
        Ending::TimedOut { .. } => return Err(failed("timed_out", format!("the script {}", report.ending), true)),
        Ending::Cancelled => return Err(Outcome::Released),
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
async fn stopped(stop: &mut watch::Receiver<Stop>) {
    if stop.wait_for(|stop| *stop != Stop::No).await.is_err() {
        // Nobody is left who could say so.
        std::future::pending().await
    }
}

/// Gives a file, or a directory and all in it, to the account that will write there; links are not followed.
fn give_tree(root: &Path, run_as: Option<Account>) -> std::io::Result<()> {
    let Some(Account { uid, gid }) = run_as else { return Ok(()) };
    for entry in walkdir::WalkDir::new(root) {
        std::os::unix::fs::lchown(entry?.path(), Some(uid), Some(gid))?;
    }
    Ok(())
}

fn lease(publish: &Publish) -> Result<EntryPath, Outcome> {
    EntryPath::new(publish.lease_path.relative().as_bytes())
        .map_err(|error| failed("bad_job", error.to_string(), false))
}

fn node_failed(path: &Path, error: &std::io::Error) -> Outcome {
    failed("node_failed", format!("cannot use {}: {error}", path.display()), true)
}
