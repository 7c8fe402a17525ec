//! What a server's memory comes to with many jobs stored, measured in a process of its own.

use std::process::Command;

use conveyor::domain::ids::JobId;
use conveyor::domain::job::spec::{Condition, Dependency};
use serde_json::json;

use super::Scale;
use super::report::figure;
use super::server::{Server, job, runtime};

/// The argument that makes this program measure itself.
pub(crate) const CHILD: &str = "--memory-of-this-process";
/// Jobs in one submission.
const ARRAY: usize = 1_000;

pub(crate) fn run(scale: Scale) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([CHILD, "--stored", &scale.stored.to_string()]).args(scale.quick.then_some("--quick"));
    assert!(command.status().unwrap().success());
}

/// Fills a server and prints what it takes.
pub(crate) fn child(scale: Scale) {
    let queued = scale.pick(10_000, 1_000);
    let bare = resident_mb();
    runtime().block_on(async {
        let server = Server::start().await;
        let fresh = resident_mb();
        for _ in 0..scale.stored / ARRAY {
            // One cancel ends them all: the others are skipped because of it.
            let mut jobs: Vec<_> = (0..ARRAY).map(job).collect();
            let first: JobId = jobs[0].id;
            for job in &mut jobs[1..] {
                job.dependencies.push(Dependency { job_id: first, condition: Condition::Success });
            }
            server.engine.submit(None, jobs).await.unwrap();
            server.engine.cancel(first).await.unwrap();
        }
        for _ in 0..queued / ARRAY {
            server.engine.submit(None, (0..ARRAY).map(job).collect()).await.unwrap();
        }
        let resident = resident_mb();
        let more = json!({ "finished": scale.stored, "queued": queued, "empty": fresh, "before_start": bare });
        figure("server memory (RSS) with jobs stored", resident, "MB", None, more);
        server.stop().await;
    });
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1e3
}
