//! Finding the processes of a run by a mark in their environment.
//!
//! The second net under the keeper, and the only one for a worker that comes back after its own death and that of its
//! keepers. It finds all that did not clear its environment.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use uuid::Uuid;

/// The variable that marks the processes of a run.
pub(super) const RUN_ID: &str = "CONVEYOR_RUN_ID";

/// The processes that carry a run's mark now.
pub fn processes_of(run_id: Uuid) -> Vec<i32> {
    let mark = format!("{RUN_ID}={run_id}");
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        // Unreadable are those of other users, and those that have ended.
        std::fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environment| environment.split(|b| *b == 0).any(|variable| variable == mark.as_bytes()))
    })
    .collect()
}

/// Kills the processes that carry a run's mark and waits until there are none; returns those that are left when
/// patience ends. Blocks.
///
/// A worker calls this when it finds that an earlier life of its own began a run and did not see it end.
pub fn end_run(run_id: Uuid, patience: Duration) -> Vec<i32> {
    let deadline = Instant::now() + patience;
    loop {
        let pids = processes_of(run_id);
        if pids.is_empty() || Instant::now() >= deadline {
            return pids;
        }
        for pid in pids {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_run_is_found_by_its_mark_and_ended() {
        let (ours, other) = (Uuid::now_v7(), Uuid::now_v7());
        let start = |id: Uuid| Command::new("sleep").arg("1000").env(RUN_ID, id.to_string()).spawn().unwrap();
        let (mut one, mut two) = (start(ours), start(other));
        // A zombie has no environment any more, so nothing has to be reaped for the run to be over.
        assert!(end_run(ours, Duration::from_secs(60)).is_empty());
        assert_eq!(processes_of(other), [two.id() as i32]);
        assert!(!one.wait().unwrap().success());
        two.kill().unwrap();
        two.wait().unwrap();
        assert!(processes_of(other).is_empty());
    }
}
