//! What the checks beside the ledger are there to find is planted.

use std::collections::BTreeMap;
use std::time::Duration;

use conveyor::domain::ids::{BatchId, JobId, SubmissionId};
use conveyor::domain::job::LoggedEvent;
use conveyor::domain::job::event::JobEvent;
use conveyor::domain::job::state::{JobState, StateKind};
use jiff::Timestamp;
use uuid::Uuid;

use super::differences;
use super::plan::Fault;
use super::report::is_met;
use super::run::Happened;
use super::site::{NODES, Target, panic_in};
use super::stories::Stories;

fn event(number: u64, second: i64, event: JobEvent, state: StateKind) -> LoggedEvent {
    let (job_id, submission_id) = (JobId(Uuid::from_u128(1)), SubmissionId(Uuid::from_u128(2)));
    LoggedEvent { number, job_id, submission_id, at: Timestamp::from_second(second).unwrap(), event, state }
}

/// A job that is permitted to publish at second 3, and lost at second 6.
fn story() -> [LoggedEvent; 4] {
    let batch = BatchId(Uuid::from_u128(3));
    let node = NODES[1].to_owned();
    let claimed = JobEvent::Claimed { batch, node: node.clone() };
    [
        event(1, 1, JobEvent::Offered { batch }, StateKind::Offered),
        event(2, 2, claimed, StateKind::Running),
        event(3, 3, JobEvent::PublishPermitted { base_revision: 1 }, StateKind::Running),
        event(4, 6, JobEvent::WorkerLost { node }, StateKind::Recovering),
    ]
}

#[test]
fn an_event_that_is_missing_or_told_twice_is_found() {
    let whole = Stories::default();
    story().iter().for_each(|event| whole.note(event));
    assert_eq!(whole.heard().wrong, Vec::<String>::new());
    let [first, second, third, _] = story();
    for told in [[&first, &third], [&second, &third], [&first, &first]] {
        let stories = Stories::default();
        told.iter().for_each(|event| stories.note(event));
        assert_eq!(stories.heard().wrong.len(), 1, "{:?}", stories.heard().wrong);
    }
}

#[test]
fn a_kill_between_a_permission_and_its_outcome_is_counted_and_no_other() {
    let stories = Stories::default();
    story().iter().for_each(|event| stories.note(event));
    let heard = stories.heard();
    let [publishing] = heard.publishing.as_slice() else { panic!("{:?}", heard.publishing) };
    assert!(publishing.lost);
    let kill = |target, second| {
        let fault = Fault::Kill { target, aim: None, down: Duration::ZERO };
        is_met(&Happened { at: Timestamp::from_second(second).unwrap(), fault }, publishing)
    };
    assert!(kill(Target::Worker(1), 4) && kill(Target::Server, 5));
    assert!(!kill(Target::Worker(0), 4), "another node");
    assert!(!kill(Target::Broker, 4), "the broker publishes nothing");
    assert!(!kill(Target::Worker(1), 2) && !kill(Target::Worker(1), 7), "not between");
}

#[test]
fn a_job_that_nobody_asked_for_and_one_whose_end_was_not_told_are_found() {
    let job = JobId(Uuid::from_u128(1));
    let states = BTreeMap::from([(job, JobState::Cancelled)]);
    let told = BTreeMap::from([(job, StateKind::Cancelled)]);
    let differ = |told: &BTreeMap<JobId, StateKind>| differences(&[], &states, told);
    assert_eq!(differ(&told), [format!("job {job} was never asked for")]);
    assert_eq!(differ(&BTreeMap::new()).len(), 2);
    assert_eq!(differ(&BTreeMap::from([(job, StateKind::Queued)])).len(), 2);
}

#[test]
fn a_panic_is_found_in_what_a_process_said() {
    assert_eq!(panic_in("INFO all is well\n"), None);
    let said = "INFO well\n\nthread 'main' panicked at src/x.rs:1:1:\nno";
    assert_eq!(panic_in(said).unwrap(), "panicked at src/x.rs:1:1:\nno");
}
