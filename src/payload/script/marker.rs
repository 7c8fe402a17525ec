//! Finding the processes of a run by a mark in their environment.
//!
//! The second net under the keeper, and the only one for a worker that comes back after its own death and that of its
//! keepers. It finds all that did not clear its environment.

use std::time::Duration;

use uuid::Uuid;

use crate::processes;

/// The variable that marks the processes of a run.
pub(super) const RUN_ID: &str = "CONVEYOR_RUN_ID";

/// The processes that carry a run's mark now.
pub fn processes_of(run_id: Uuid) -> Vec<i32> {
    processes::marked(RUN_ID, &run_id.to_string(), &[])
}

/// Kills the processes that carry a run's mark and waits until there are none; returns those that are left when
/// patience ends. Blocks.
///
/// A worker calls this when it finds that an earlier life of its own began a run and did not see it end.
pub fn end_run(run_id: Uuid, patience: Duration) -> Vec<i32> {
    processes::end(RUN_ID, &run_id.to_string(), &[], patience)
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
