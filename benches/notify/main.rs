//! What notifications cost, each beside a floor or ceiling of the same run: durable publishes that nobody listens to, the time
//! from a publish until a thousand subscribers have it, and the memory of a subscriber that waits.
//!
//! `cargo bench --bench notify [-- --quick] [--only WORD] [--rounds N]` prints one JSON object in each line. `--quick` takes
//! seconds and proves that all of it works, `--only` picks the figures whose group has the word in its name.
//! `CONVEYOR_BENCH_GATEWAY=FILE` names the program `cvmfs_gateway`, whose publishes are then measured in turns with ours. The
//! server is a process of its own and verifies every message; the clients are this process. docs/performance.md says what
//! the figures mean.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod delivery;
// Of the floors of jobs, the one that is about commits.
#[allow(dead_code)]
#[path = "../jobs/floor.rs"]
mod floor;
mod idle;
mod publisher;
mod publishes;
#[path = "../jobs/report.rs"]
mod report;
mod repositories;
mod server;
mod subscriber;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use repositories::Repositories;
use tokio::runtime::Runtime;

/// How much is done.
#[derive(Debug, Clone, Copy)]
struct Scale {
    quick: bool,
    rounds: usize,
    /// Files that this process may have open.
    files: usize,
}

impl Scale {
    /// The first number in a real run, the second one in a quick one.
    fn pick<T>(self, real: T, quick: T) -> T {
        if self.quick { quick } else { real }
    }
}

/// Measures and prints some figures.
type Group = fn(Scale, &Runtime, &Repositories);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().position(|word| word == name).and_then(|at| arguments.get(at + 1));
    let quick = arguments.iter().any(|word| word == "--quick");
    let rounds = value("--rounds").map_or(if quick { 1 } else { 5 }, |text| text.parse().unwrap());
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let scale = Scale { quick, rounds, files: usize::try_from(hard).unwrap_or(usize::MAX) };
    let only = value("--only").map_or("", String::as_str);
    // One thread, so that the server has the other one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let repositories = Repositories::new(publishes::REPOSITORIES);
    let groups: [(&str, Group); 3] = [("publishes", publishes::run), ("delivery", delivery::run), ("idle", idle::run)];
    for (name, group) in groups {
        if name.contains(only) {
            group(scale, &runtime, &repositories);
        }
    }
}

/// What else the machine does: processes that run or want to, on average over the last minute.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}
