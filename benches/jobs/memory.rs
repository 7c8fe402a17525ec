//! What a server takes, and how fast it answers and starts, with very many jobs stored; in processes of their own.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use conveyor::app::Settings;
use conveyor::client::ListQuery;
use conveyor::domain::ids::JobId;
use conveyor::domain::job::spec::{Condition, Dependency};
use conveyor::domain::job::state::StateKind;
use conveyor::store::JobFilter;
use serde_json::json;

use super::Scale;
use super::report::{figure, quantile};
use super::server::{Server, job, repository, runtime};

/// The arguments that make this program fill a directory, or measure one.
pub(crate) const FILL: &str = "--fill-this-directory";
pub(crate) const MEASURE: &str = "--measure-this-directory";
/// Jobs in one submission.
const ARRAY: usize = 1_000;

pub(crate) fn run(scale: Scale) {
    let directory = tempfile::tempdir().unwrap();
    for step in [FILL, MEASURE] {
        in_process(step, directory.path(), scale);
    }
}

/// Does a step in a process of its own.
pub(crate) fn in_process(step: &str, directory: &Path, scale: Scale) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(step).arg(directory).args(["--stored", &scale.stored.to_string()]);
    assert!(command.args(scale.quick.then_some("--quick")).status().unwrap().success());
}

pub(crate) fn queued(scale: Scale) -> usize {
    scale.pick(10_000, 1_000)
}

/// Fills a server's state with finished jobs, and some that wait for a worker.
pub(crate) fn fill(directory: &Path, scale: Scale) {
    runtime().block_on(async {
        let engine = super::server::engine(directory, Settings::default()).await;
        for _ in 0..scale.stored / ARRAY {
            // One cancel ends them all: the others are skipped because of it.
            let mut jobs: Vec<_> = (0..ARRAY).map(job).collect();
            let first: JobId = jobs[0].id;
            for job in &mut jobs[1..] {
                job.dependencies.push(Dependency { job_id: first, condition: Condition::Success });
            }
            engine.submit(None, jobs).await.unwrap();
            engine.cancel(first).await.unwrap();
        }
        for _ in 0..queued(scale) / ARRAY {
            engine.submit(None, (0..ARRAY).map(job).collect()).await.unwrap();
        }
    });
}

/// Starts a server on it and looks at it as people and programs do.
pub(crate) fn measure(directory: &Path, scale: Scale) {
    let more = json!({ "finished": scale.stored, "queued": queued(scale) });
    runtime().block_on(async {
        let bare = resident_mb();
        let began = Instant::now();
        let server = Server::start_in(directory, Settings::default(), None).await;
        server.client().list(&ListQuery { limit: Some(1), ..ListQuery::default() }).await.unwrap();
        let ready = began.elapsed();
        figure("start to first answer with jobs stored", ready.as_secs_f64() * 1e3, "ms", None, more.clone());

        let engine = &server.engine;
        let newest = engine.list(JobFilter::default(), None, 1).await.unwrap().jobs.remove(0);
        let page = |filter: JobFilter, cursor| async move {
            engine.list(filter, cursor, 50).await.unwrap();
        };
        let of = |repository| JobFilter { repository: Some(repository), ..JobFilter::default() };
        let queries: [(&str, Vec<f64>); 7] = [
            ("one job", times(scale, || async { drop(engine.job(newest.job_id).await.unwrap()) }).await),
            (
                "its events",
                times(scale, || async { drop(engine.events(Some(newest.job_id), None, 0, 100).await.unwrap()) }).await,
            ),
            ("the newest 50", times(scale, || page(JobFilter::default(), None)).await),
            ("50 from the middle", times(scale, || page(JobFilter::default(), Some(scale.stored as u64 / 2))).await),
            ("50 of a repository", times(scale, || page(of(repository(1)), None)).await),
            (
                "50 that are queued",
                times(scale, || page(JobFilter { states: vec![StateKind::Queued], ..JobFilter::default() }, None))
                    .await,
            ),
            ("how many in each state", times(scale, || async { drop(engine.count_by_state().await.unwrap()) }).await),
        ];
        for (name, times) in queries {
            let mut more = more.clone();
            more["p99"] = json!(quantile(&times, 0.99));
            figure(&format!("query with jobs stored: {name}, p50"), quantile(&times, 0.5), "ms", None, more);
        }
        let mut more = more;
        more["before_start"] = json!(bare);
        figure("server memory (RSS) with jobs stored", resident_mb(), "MB", None, more);
        server.stop().await;
    });
}

async fn times<F: Future<Output = ()>>(scale: Scale, ask: impl Fn() -> F) -> Vec<f64> {
    let mut times = Vec::new();
    for _ in 0..scale.pick(50, 3) {
        let began = Instant::now();
        ask().await;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    times
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1e3
}
