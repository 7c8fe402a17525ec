//! Every named point: the process dies there, and nothing is lost or done twice.

use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use futures_util::StreamExt;
use tokio::sync::{Semaphore, watch};
use tower_http::services::ServeDir;

use super::home::REPOSITORIES;
use super::life::{Life, was_killed};
use super::mounter::Mounter;
use super::work::{Planned, submit_all};
use super::world::World;

/// Points that are passed only where something was lost before, and where to lose it.
const NEED_A_LOSS: [(&str, &str); 4] = [
    ("finding.before", "worker.permitted"),
    ("finding.after", "worker.permitted"),
    ("worker.recovering", "worker.permitted"),
    ("worker.found", "worker.permitted"),
];
/// Files to remove in each repository.
const SEEDS: usize = 2;
/// Cases beside each other.
const AT_ONCE: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_at_any_named_point_loses_nothing_and_publishes_nothing_twice() {
    let started = Instant::now();
    let mounter = Mounter::find();
    let seeded = World::seeded(SEEDS).await;
    let wanted = std::env::var("CONVEYOR_KILL_POINT").ok();
    let cases = cases().into_iter().filter(|case| wanted.is_none() || case.last() == wanted.as_ref());
    let ran = AtomicUsize::new(0);
    let failures: Vec<String> = futures_util::stream::iter(cases)
        .map(async |case| {
            ran.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let mut world = seeded.copied();
            let result = run(&case, &mut world, mounter).await;
            result.err().map(|error| format!("{}: {error}\n{}", case.join(", then "), world.home.log_end()))
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    let ran = ran.into_inner();
    println!("{ran} cases of dying at a named point in {:.1} s", started.elapsed().as_secs_f64());
    assert!(ran > 0, "there is no such point");
    assert!(failures.is_empty(), "{} of {ran} failed:\n{}", failures.len(), failures.join("\n\n"));
}

/// The points at which the lives of each case end: each at its first passage, and at the second where one kill is enough. There
/// may be no third: the jobs of a repository share a batch.
fn cases() -> Vec<Vec<String>> {
    let mut cases = Vec::new();
    // Pruning, backups, restores, RabbitMQ and cvmfs_server are killed in tests of their own: nothing of them runs here.
    let parts = ["retention.", "backup.", "restore.", "broker.", "notify.", "cvmfs-server."];
    let elsewhere = |point: &&str| parts.iter().any(|part| point.starts_with(part));
    for point in conveyor::crash::ALL.iter().copied().filter(|point| !elsewhere(point)) {
        match NEED_A_LOSS.iter().find(|(name, _)| *name == point) {
            Some((_, loss)) => cases.push(vec![(*loss).to_owned(), point.to_owned()]),
            None => cases.extend([vec![point.to_owned()], vec![format!("{point}:2")]]),
        }
    }
    cases
}

/// Three jobs of different kinds for each repository. One of each waits until a replica serves it.
fn jobs(replica: &str) -> Vec<Planned> {
    let kinds = [
        |repository: &str| Planned::tarball(repository, "/tarballs"),
        |repository: &str| Planned::script(repository, "/scripts"),
        |repository: &str| Planned::delete(repository, "/seeds", "seeds/0"),
    ];
    let mut jobs: Vec<_> = kinds.iter().flat_map(|kind| REPOSITORIES.map(kind)).collect();
    for (job, repository) in jobs.iter_mut().zip(REPOSITORIES) {
        job.visible_at(&format!("{replica}/cvmfs/{repository}"));
    }
    jobs
}

/// A replica that is never behind, on this host.
async fn replica(world: &World) -> (String, AbortOnDrop) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().nest_service("/cvmfs", ServeDir::new(world.home.repositories()));
    (url, AbortOnDrop(tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }).abort_handle()))
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(lives: &[String], world: &mut World, mounter: Option<Mounter>) -> Result<(), String> {
    let (url, _replica) = replica(world).await;
    let jobs = jobs(&url);
    world.entries.extend(jobs.iter().map(|job| job.entry.clone()));
    let (living, receiver) = watch::channel(None);
    let submitting = tokio::spawn(async move {
        let pace = Semaphore::new(jobs.len());
        submit_all(&jobs, &receiver, &pace, &AtomicUsize::new(0)).await;
    });
    for point in lives {
        let mut life = Life::start(&world.home, Some(point));
        living.send_replace(life.ready(&world.home).await);
        let status = life.died().await.ok_or("this point was never passed")?;
        living.send_replace(None);
        if !was_killed(status) {
            return Err(format!("it ended with {status} instead of dying there"));
        }
        world.look()?;
        if let Some(mounter) = mounter {
            let repository = REPOSITORIES[0];
            mounter.check(&world.home, repository, &world.any_file(repository)).await?;
        }
    }
    let mut life = Life::start(&world.home, None);
    let client = life.ready(&world.home).await.ok_or("it does not start again")?;
    living.send_replace(Some(client.clone()));
    submitting.await.map_err(|error| error.to_string())?;
    world.settle(life, &client).await
}
