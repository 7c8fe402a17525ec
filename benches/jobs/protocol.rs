//! Jobs through the whole protocol with a real worker and a publisher that does nothing.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use conveyor::domain::job::state::StateKind;
use conveyor::domain::names::{LeasePath, RepositoryName};
use conveyor::domain::progress::Counters;
use conveyor::domain::tree::{ChangedPath, EntryKind, EntryMeta, EntryPath};
use conveyor::payload::fetch::FetchLimits;
use conveyor::publisher::{Evidence, Publisher, PublisherError, Revision, Transaction};
use conveyor::worker::{self, Account, Halt, WorkerSettings};
use serde_json::json;
use tokio::sync::watch;

use super::Scale;
use super::floor::sqlite_rows_per_s;
use super::report::{figure, median};
use super::server::{REPOSITORIES, Server, job, runtime};

const SLOTS: u32 = 8;
/// Commits of one job: submission, claim, permission, outcome; the note that an offer went out is left out.
const COMMITS: f64 = 4.0;

pub(crate) fn run(scale: Scale) {
    let directory = tempfile::tempdir().unwrap();
    let (mut floors, mut ours) = (Vec::new(), Vec::new());
    let rounds = scale.pick(5, 1);
    for _ in 0..rounds {
        floors.push(sqlite_rows_per_s(directory.path(), scale.pick(2_000, 100), 1) / COMMITS);
        ours.push(runtime().block_on(jobs_per_s(scale.pick(4_000, 200))));
    }
    let more = json!({ "repositories": REPOSITORIES, "slots": SLOTS, "batch": 1, "rounds": rounds });
    let floor = Some(("four SQLite commits for each job", median(&floors)));
    figure("jobs through the protocol, no-op publisher, batches of one", median(&ours), "jobs/s", floor, more);
}

async fn jobs_per_s(count: usize) -> f64 {
    let server = Server::start().await;
    let settings = WorkerSettings {
        node: "bench".into(),
        fleet: "default".into(),
        slots: SLOTS,
        state_dir: server.directory.path().join("worker"),
        temp_dir: server.directory.path().join("tmp"),
        run_as: nix::unistd::geteuid().is_root().then_some(Account { uid: 65534, gid: 65534 }),
        fetch: FetchLimits::default(),
        broker: None,
        repositories: None,
        drain_timeout: Duration::from_secs(60),
        once: None,
    };
    let (stop, shutdown) = watch::channel(Halt::No);
    let working = tokio::spawn(worker::run(server.client(), Arc::new(Idle::default()), settings, shutdown));
    let client = server.client();
    let jobs: Vec<_> = (0..count).map(job).collect();
    let began = Instant::now();
    for jobs in jobs.chunks(100) {
        client.submit(jobs, None).await.unwrap();
    }
    while succeeded(&server).await < count as u64 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    stop.send_replace(Halt::Now);
    working.await.unwrap().unwrap();
    server.stop().await;
    count as f64 / seconds
}

async fn succeeded(server: &Server) -> u64 {
    let counts = server.engine.store().read(|db| db.count_by_state()).await.unwrap();
    counts.into_iter().find(|(state, _)| *state == StateKind::Succeeded).map_or(0, |(_, count)| count)
}

/// Publishes nothing, at once.
#[derive(Default)]
struct Idle {
    revisions: Arc<AtomicU64>,
}

struct IdleTransaction {
    revisions: Arc<AtomicU64>,
    base: Revision,
}

fn revision(number: u64) -> Revision {
    Revision { number, root_hash: "0".repeat(40) }
}

impl Publisher for Idle {
    fn kind(&self) -> &'static str {
        "idle"
    }

    fn open(
        &self,
        _: &RepositoryName,
        _: &LeasePath,
        _: &str,
        _: &Path,
    ) -> Result<Box<dyn Transaction>, PublisherError> {
        let base = revision(self.revisions.load(Ordering::SeqCst));
        Ok(Box::new(IdleTransaction { revisions: Arc::clone(&self.revisions), base }))
    }

    fn recover(&self, _: &RepositoryName, _: &str) -> Result<Evidence, PublisherError> {
        Ok(Evidence::NotPublished)
    }
}

impl Transaction for IdleTransaction {
    fn base(&self) -> &Revision {
        &self.base
    }

    fn progress(&self) -> Arc<Counters> {
        Arc::default()
    }

    fn enter(&mut self, _: &LeasePath) -> Result<(), PublisherError> {
        Ok(())
    }

    fn put(&mut self, _: &EntryPath, _: &EntryMeta, _: &EntryKind, _: &mut dyn Read) -> Result<(), PublisherError> {
        Ok(())
    }

    fn link(&mut self, _: &EntryPath, _: &EntryPath) -> Result<(), PublisherError> {
        Ok(())
    }

    fn remove(&mut self, _: &EntryPath) -> Result<bool, PublisherError> {
        Ok(false)
    }

    fn check_out(&mut self) -> Result<PathBuf, PublisherError> {
        unreachable!("no script is run here")
    }

    fn check_in(&mut self) -> Result<(), PublisherError> {
        Ok(())
    }

    fn settle(&mut self) -> Result<(), PublisherError> {
        Ok(())
    }

    fn changes(&self, _: &mut dyn FnMut(ChangedPath)) -> Result<(), PublisherError> {
        Ok(())
    }

    fn publish(self: Box<Self>, _: &str) -> Result<Revision, PublisherError> {
        Ok(revision(self.revisions.fetch_add(1, Ordering::SeqCst) + 1))
    }

    fn abort(self: Box<Self>) -> Result<(), PublisherError> {
        Ok(())
    }
}
