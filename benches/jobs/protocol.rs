//! Jobs through the whole protocol with a real worker and a publisher that does nothing.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use conveyor::app::Settings;
use conveyor::broker::rabbitmq;
use conveyor::domain::job::state::StateKind;
use conveyor::domain::names::{LeasePath, RepositoryName};
use conveyor::domain::progress::Counters;
use conveyor::domain::tree::{ChangedPath, EntryKind, EntryMeta, EntryPath};
use conveyor::payload::fetch::FetchLimits;
use conveyor::publisher::{Evidence, Published, Publisher, PublisherError, Revision, Transaction, Workspace};
use conveyor::worker::{self, Account, Adjustable, Halt, Handle, WorkerSettings};
use serde_json::json;
use tokio::sync::watch;

use super::floor::sqlite_rows_per_s;
use super::report::{figure, median};
use super::server::{REPOSITORIES, Server, job, one_by_one, runtime};
use super::{Scale, broker};

const SLOTS: u32 = 8;
/// About those of an offer of one job.
const OFFER_BYTES: usize = 300;
/// Commits of one job: submission, claim, permission, outcome; the note that an offer went out is left out.
const COMMITS: f64 = 4.0;

pub(crate) fn run(scale: Scale) {
    let directory = tempfile::tempdir().unwrap();
    let rabbit = broker::settings();
    let rounds = scale.pick(5, 1);
    let count = scale.pick(4_000, 200);
    let mut commits = Vec::new();
    let mut messages = Vec::new();
    let mut ours = [const { Vec::new() }; 4];
    for _ in 0..rounds {
        commits.push(sqlite_rows_per_s(directory.path(), scale.pick(2_000, 100), 1) / COMMITS);
        if let Some(rabbit) = &rabbit {
            let body = vec![b'x'; OFFER_BYTES];
            messages.push(runtime().block_on(broker::messages_per_s(rabbit, &body, count, SLOTS as u16 + 1)));
        }
        for (figures, (batching, by_broker)) in ours.iter_mut().zip(KINDS) {
            let broker = by_broker.then(broker::settings);
            if broker.as_ref().is_none_or(Option::is_some) {
                let settings = if batching { Settings::default() } else { one_by_one() };
                figures.push(runtime().block_on(jobs_per_s(count, settings, broker.flatten())));
            }
        }
    }
    for (figures, (batching, by_broker)) in ours.iter().zip(KINDS).filter(|(figures, _)| !figures.is_empty()) {
        let batches = if batching { "default batching" } else { "batches of one" };
        let transport = if by_broker { "RabbitMQ" } else { "HTTP" };
        let floor = match by_broker {
            true => ("plain lapin: publish, confirm, consume, acknowledge", median(&messages)),
            false => ("four SQLite commits for each job", median(&commits)),
        };
        let more = json!({ "repositories": REPOSITORIES, "slots": SLOTS, "rounds": rounds, "all": figures });
        let name = format!("jobs through the protocol by {transport}, no-op publisher, {batches}");
        figure(&name, median(figures), "jobs/s", Some(floor), more);
    }
}

/// With batches of many, and by RabbitMQ.
const KINDS: [(bool, bool); 4] = [(false, false), (true, false), (false, true), (true, true)];

async fn jobs_per_s(count: usize, settings: Settings, broker: Option<rabbitmq::Settings>) -> f64 {
    let server = Server::start_with(settings, broker.clone()).await;
    let by_broker = broker.is_some();
    let settings = WorkerSettings {
        node: "bench".into(),
        fleet: "default".into(),
        adjustable: Adjustable {
            slots: SLOTS,
            repositories: None,
            drain_timeout: Duration::from_secs(60),
            whitelist_warning_days: 0,
        },
        state_dir: server.directory().join("worker"),
        temp_dir: server.directory().join("tmp"),
        run_as: nix::unistd::geteuid().is_root().then_some(Account { uid: 65534, gid: 65534 }),
        isolation_required: false,
        hidden: Vec::new(),
        fetch: FetchLimits::default(),
        broker,
        once: None,
    };
    let (stop, shutdown) = watch::channel(Halt::No);
    let client = server.client();
    let working = tokio::spawn(async move {
        worker::run(client, Arc::new(Idle::default()), settings, shutdown, &Handle::default()).await
    });
    let client = server.client();
    if by_broker {
        // One goes before: then the worker is known to listen.
        client.submit(&[job(0)], None).await.unwrap();
        while succeeded(&server).await < 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let before = succeeded(&server).await;
    let jobs: Vec<_> = (0..count).map(job).collect();
    let began = Instant::now();
    for jobs in jobs.chunks(100) {
        client.submit(jobs, None).await.unwrap();
    }
    while succeeded(&server).await < before + count as u64 {
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

    fn check_out(&mut self) -> Result<Workspace, PublisherError> {
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

    fn publish(self: Box<Self>, _: &str) -> Result<Published, PublisherError> {
        Ok(revision(self.revisions.fetch_add(1, Ordering::SeqCst) + 1).into())
    }

    fn abort(self: Box<Self>) -> Result<(), PublisherError> {
        Ok(())
    }
}
