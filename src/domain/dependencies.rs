//! When a job may run, given how the jobs before it ended; and what a submission's graph must look like.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::ids::JobId;
use crate::domain::job::spec::{Condition, JobSpec};
use crate::domain::job::state::StateKind;

/// What a job's dependencies say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// At least one has not ended.
    Pending,
    /// All ended as they should.
    Met,
    /// This one ended otherwise; the job will never run.
    Unmet(JobId),
}

/// Tells what a condition says about a job in this state: `None` while it has not ended.
pub fn is_met(condition: Condition, state: StateKind) -> Option<bool> {
    state.is_final().then(|| match condition {
        Condition::Success => state == StateKind::Succeeded,
        Condition::Failure => state == StateKind::Failed,
        Condition::Always => true,
    })
}

/// Sums up a job's dependencies, each with its condition and present state. One that failed decides at once.
pub fn readiness(dependencies: impl IntoIterator<Item = (JobId, Condition, StateKind)>) -> Readiness {
    let mut readiness = Readiness::Met;
    for (job, condition, state) in dependencies {
        match is_met(condition, state) {
            Some(false) => return Readiness::Unmet(job),
            Some(true) => {}
            None => readiness = Readiness::Pending,
        }
    }
    readiness
}

/// Why a submission's graph was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// The same id twice.
    #[error("job {0} is in this submission twice")]
    Duplicate(JobId),
    /// A job that leads back to itself.
    #[error("job {0} depends on itself, through other jobs of this submission")]
    Cycle(JobId),
}

/// Puts a submission's jobs in an order in which each comes after those it depends on.
///
/// Returns indices into `specs`; among jobs that do not depend on each other the given order is kept. Ids from outside
/// the submission are not looked at.
pub fn order(specs: &[JobSpec]) -> Result<Vec<usize>, GraphError> {
    let mut index = BTreeMap::new();
    for (i, spec) in specs.iter().enumerate() {
        if index.insert(spec.id, i).is_some() {
            return Err(GraphError::Duplicate(spec.id));
        }
    }
    let mut open = vec![0usize; specs.len()];
    let mut behind: Vec<Vec<usize>> = vec![Vec::new(); specs.len()];
    for (i, spec) in specs.iter().enumerate() {
        for dependency in &spec.dependencies {
            if let Some(&before) = index.get(&dependency.job_id) {
                open[i] += 1;
                behind[before].push(i);
            }
        }
    }
    let mut free: BTreeSet<usize> = (0..specs.len()).filter(|&i| open[i] == 0).collect();
    let mut order = Vec::with_capacity(specs.len());
    while let Some(i) = free.pop_first() {
        order.push(i);
        for &j in &behind[i] {
            open[j] -= 1;
            if open[j] == 0 {
                free.insert(j);
            }
        }
    }
    match open.iter().position(|&n| n > 0) {
        Some(i) => Err(GraphError::Cycle(specs[i].id)),
        None => Ok(order),
    }
}
