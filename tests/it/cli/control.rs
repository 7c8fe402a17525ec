//! Stopping jobs and trying them again.

use conveyor::domain::job::state::StateKind;

use crate::harness::{Dev, Gate, REPOSITORY, job};

#[test]
fn a_running_script_is_cancelled_and_nothing_of_it_is_published() {
    let dev = Dev::start();
    let gate = Gate::new();
    let id = dev.submit(job(REPOSITORY, "/x", dev.script(&format!("echo x >x/x\n{}", gate.script()))));
    gate.until_runs(1);
    let run = dev.program().good(&["cancel", &id.to_string()]);
    assert_eq!(run.job_id(), id);
    assert_eq!(dev.ended(id).state, StateKind::Cancelled);
    assert_eq!((dev.publishes(), gate.runs()), (0, 1));
    // Once more is no error, and what has ended otherwise cannot be cancelled.
    dev.program().good(&["cancel", &id.to_string()]);
    let done = dev.program().good(&["submit", "-r", REPOSITORY, "-p", "", "-w"]).job_id().to_string();
    let run = dev.program().run(&["cancel", &done]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("already_ended"), "{run:?}");
}

#[test]
fn a_waiting_job_is_cancelled_at_once_and_those_behind_it_are_skipped() {
    let dev = Dev::start();
    let gate = Gate::new();
    let first = dev.submit(job(REPOSITORY, "/x", dev.script(&format!("mkdir -p x\n{}", gate.script()))));
    let behind = |id: &str| dev.program().good(&["submit", "-r", REPOSITORY, "-p", "", "-d", id]).job_id();
    let second = behind(&first.to_string());
    let third = behind(&second.to_string());
    let run = dev.program().good(&["cancel", &second.to_string()]);
    assert_eq!(run.last()["state"], "cancelled");
    assert_eq!(dev.ended(third).state, StateKind::Skipped);
    gate.open();
    assert_eq!(dev.ended(first).state, StateKind::Succeeded);
}

#[test]
fn a_failed_job_is_tried_again_with_those_that_were_skipped_because_of_it() {
    let dev = Dev::start();
    let id = dev.submit(job(REPOSITORY, "/x", dev.script("mkdir -p x; [ $CONVEYOR_ATTEMPT -ge 2 ]")));
    let behind = dev.program().good(&["submit", "-r", REPOSITORY, "-p", "", "-d", &id.to_string()]).job_id();
    assert_eq!((dev.ended(id).state, dev.ended(behind).state), (StateKind::Failed, StateKind::Skipped));
    dev.program().good(&["retry", "--with-dependents", &id.to_string()]);
    let ended = dev.ended(id);
    assert_eq!((ended.state, ended.attempt), (StateKind::Succeeded, 2));
    assert_eq!(dev.ended(behind).state, StateKind::Succeeded);
    let run = dev.program().run(&["retry", &id.to_string()]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("not_retryable"), "{run:?}");
    // The log of each attempt is kept.
    assert!(dev.program().good(&["logs", "--attempt", "1", &id.to_string()]).stdout.contains("failed"));
}

#[test]
fn a_failing_job_is_tried_as_often_as_it_says() {
    let dev = Dev::start();
    let gate = Gate::new();
    gate.open();
    let path = dev.base().join("flaky");
    std::fs::write(&path, format!("#!/bin/sh\nset -e\nmkdir -p x\n{}\n[ $CONVEYOR_ATTEMPT = 3 ]\n", gate.script()))
        .unwrap();
    let path = path.to_str().unwrap();
    let run = dev.program().good(&["submit", "-r", REPOSITORY, "-l", "x", "--script", path, "--attempts", "3", "-w"]);
    assert_eq!((run.last()["attempt"].as_u64(), gate.runs(), dev.publishes()), (Some(3), 3, 1));
}
