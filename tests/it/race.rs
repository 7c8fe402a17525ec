//! Servers and workers that get in each other's way, or die.

use conveyor::domain::job::spec::JobSpec;
use conveyor::domain::job::state::{JobState, StateKind};

use crate::harness::{Gate, OTHER, REPOSITORY, Server, job, until};

/// A job that waits at the gate and then adds a line to a file: running it twice shows.
fn gated(server: &Server, gate: &Gate, repository: &str) -> JobSpec {
    job(repository, "/x", server.script(&format!("{}\necho once >>x/x", gate.script())))
}

#[test]
fn a_second_worker_with_the_same_state_is_refused() {
    let server = Server::start();
    let _first = server.worker("one");
    let mut second = server.try_worker("two", "one");
    assert_eq!(second.wait().code(), Some(1));
    second.until_quiet();
    assert!(second.stderr().contains("another worker runs here"), "{}", second.stderr());
    assert_eq!(server.run(&["submit", "-r", REPOSITORY, "-p", "", "--wait"]).code, 0);
}

#[test]
fn a_worker_whose_node_has_a_later_one_ends() {
    let server = Server::start();
    let mut first = server.worker("one");
    let _later = server.try_worker("one", "elsewhere");
    assert_eq!(first.wait().code(), Some(1));
    first.until_quiet();
    assert!(first.stderr().contains("started later"), "{}", first.stderr());
    assert_eq!(server.run(&["submit", "-r", REPOSITORY, "-p", "", "--wait"]).code, 0);
}

#[test]
fn the_workers_of_a_fleet_share_its_jobs() {
    let server = Server::start();
    let _workers = [server.worker("one"), server.worker("two")];
    let gate = Gate::new();
    let jobs = [REPOSITORY, OTHER].map(|repository| server.submit(gated(&server, &gate, repository)));
    // With one slot each, both run at the same time only if each worker has one.
    gate.until_runs(2);
    let mut nodes = jobs.map(|id| match server.view(id).status {
        JobState::Running { node, .. } => node,
        other => panic!("{other:?}"),
    });
    nodes.sort();
    assert_eq!(nodes, ["one", "two"]);
    gate.open();
    assert!(jobs.iter().all(|id| server.ended(*id).state == StateKind::Succeeded));
}

#[test]
fn the_job_of_a_worker_that_was_killed_is_published_exactly_once() {
    let server = Server::start();
    let mut worker = server.worker("one");
    let gate = Gate::new();
    let id = server.submit(gated(&server, &gate, REPOSITORY));
    gate.until_runs(1);
    worker.kill9();
    until("the loss is noticed", || (server.view(id).state == StateKind::Recovering).then_some(()));
    let _again = server.worker("one");
    gate.until_runs(2);
    gate.open();
    let ended = server.ended(id);
    assert_eq!((ended.state, ended.failures, ended.interruptions), (StateKind::Succeeded, 0, 1), "{ended:?}");
    assert_eq!((server.publishes(), gate.runs()), (1, 2));
}

#[test]
fn a_server_that_was_killed_does_not_stop_what_runs() {
    let mut server = Server::start();
    let _worker = server.worker("one");
    let gate = Gate::new();
    let id = server.submit(gated(&server, &gate, REPOSITORY));
    gate.until_runs(1);
    server.crash_and_restart();
    gate.open();
    let ended = server.ended(id);
    assert_eq!((ended.state, ended.attempt), (StateKind::Succeeded, 1), "{ended:?}");
    assert_eq!((server.publishes(), gate.runs()), (1, 1));
}
