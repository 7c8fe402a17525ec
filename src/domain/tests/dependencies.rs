use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{job_id, spec};
use crate::domain::dependencies::{GraphError, Readiness, is_met, order, readiness};
use crate::domain::job::spec::{Condition, Dependency, JobSpec};
use crate::domain::job::state::StateKind;

fn after(number: u8, before: &[u8]) -> JobSpec {
    let edge = |id: &u8| Dependency { job_id: job_id(*id), condition: Condition::Success };
    JobSpec { dependencies: before.iter().map(edge).collect(), ..spec(number) }
}

#[test]
fn jobs_come_after_what_they_depend_on_and_otherwise_as_given() {
    let specs = [after(1, &[3]), after(2, &[]), after(3, &[2]), after(4, &[])];
    assert_eq!(order(&specs), Ok(vec![1, 2, 0, 3]));
    assert_eq!(order(&[after(1, &[99])]), Ok(vec![0]), "ids from outside are not looked at");
    assert_eq!(order(&[]), Ok(vec![]));
}

#[test]
fn cycles_and_duplicates_are_refused() {
    let cycle = [after(1, &[]), after(2, &[4]), after(3, &[2]), after(4, &[3])];
    assert_eq!(order(&cycle), Err(GraphError::Cycle(job_id(2))));
    assert_eq!(order(&[after(1, &[1])]), Err(GraphError::Cycle(job_id(1))));
    assert_eq!(order(&[after(1, &[]), after(1, &[])]), Err(GraphError::Duplicate(job_id(1))));
}

#[test]
fn each_condition_is_met_by_the_ends_that_it_names() {
    for kind in StateKind::ALL {
        let met = [Condition::Success, Condition::Failure, Condition::Always].map(|condition| is_met(condition, kind));
        let expected = match kind {
            StateKind::Succeeded => [Some(true), Some(false), Some(true)],
            StateKind::Failed => [Some(false), Some(true), Some(true)],
            StateKind::Cancelled | StateKind::Skipped => [Some(false), Some(false), Some(true)],
            _ => [None; 3],
        };
        assert_eq!(met, expected, "{kind}");
    }
}

#[test]
fn one_that_ended_wrong_decides_at_once_and_one_that_runs_holds_up() {
    let dependency = |number, state| (job_id(number), Condition::Success, state);
    let (done, runs, failed) =
        (dependency(1, StateKind::Succeeded), dependency(2, StateKind::Running), dependency(3, StateKind::Failed));
    assert_eq!(readiness([]), Readiness::Met);
    assert_eq!(readiness([done]), Readiness::Met);
    assert_eq!(readiness([done, runs]), Readiness::Pending);
    assert_eq!(readiness([runs, failed, done]), Readiness::Unmet(job_id(3)));
}

proptest! {
    /// Edges between any two jobs, in both directions: there is an order, or there is a cycle, never neither.
    #[test]
    fn an_order_respects_every_edge_and_without_one_there_is_a_cycle(
        edges in proptest::collection::btree_set((0u8..8, 0u8..8), 0..16)
    ) {
        let before = |job: u8| edges.iter().filter(|(from, _)| *from == job).map(|(_, to)| *to).collect::<Vec<_>>();
        let specs: Vec<JobSpec> = (0..8).map(|job| after(job, &before(job))).collect();
        match order(&specs) {
            Ok(order) => {
                prop_assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), specs.len());
                let place = |job: u8| order.iter().position(|i| *i == usize::from(job)).unwrap();
                for (job, dependency) in &edges {
                    prop_assert!(place(*dependency) < place(*job));
                }
            }
            Err(error) => {
                // Taking away what depends on nothing, again and again, leaves a cycle.
                let mut left: BTreeSet<u8> = (0..8).collect();
                while let Some(free) = left.iter().copied().find(|job| before(*job).iter().all(|d| !left.contains(d))) {
                    left.remove(&free);
                }
                prop_assert!(!left.is_empty());
                let GraphError::Cycle(id) = error else { panic!("{error}") };
                prop_assert!(left.iter().any(|job| job_id(*job) == id));
            }
        }
    }
}
