//! Workers as processes: what is shown of them, how they end, and one that takes a single batch.

mod control;
mod health;

use std::time::{Duration, Instant};

use conveyor::domain::ids::JobId;
use conveyor::domain::job::state::StateKind;
use serde_json::{Value, json};

use crate::harness::{Gate, Http, OTHER, REPOSITORY, Server, job, until};

/// A server whose workers drain for so many seconds.
fn server(drain_timeout_s: u32) -> Server {
    Server::start_with(&format!("drain_timeout_s = {drain_timeout_s}"), |_| String::new())
}

/// What is shown of one worker; nothing while it is not known.
fn shown(server: &Server, node: &str) -> Option<Value> {
    let run = server.run(&["workers", "--json"]);
    assert_eq!(run.code, 0, "{run:?}");
    run.lines().into_iter().find(|worker| worker["node"] == node)
}

fn until_shown(server: &Server, node: &str, state: &str) -> Value {
    until(&format!("{node} is {state}"), || shown(server, node).filter(|worker| worker["state"] == state))
}

fn gated(server: &Server, gate: &Gate, repository: &str) -> JobId {
    server.submit(job(repository, "/x", server.script(&format!("{}\necho once >>x/x", gate.script()))))
}

#[test]
fn slots_run_batches_of_different_repositories_at_once_and_all_of_it_is_shown() {
    let server = server(60);
    let _worker = server.worker_of_slots("two", 3);
    let idle = until_shown(&server, "two", "idle");
    assert_eq!((&idle["slots"], &idle["free_slots"], &idle["offers"]), (&json!(3), &json!(3), &json!("http")));
    assert_eq!((&idle["fleet"], &idle["publisher"]), (&json!("default"), &json!("native")));
    assert_eq!(idle["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(idle["repositories"], json!([OTHER, REPOSITORY]));
    let gate = Gate::new();
    let jobs = [REPOSITORY, OTHER].map(|repository| gated(&server, &gate, repository));
    gate.until_runs(2);
    let busy = until("two batches are held, and a slot is free", || {
        shown(&server, "two").filter(|worker| worker["free_slots"] == 1 && worker["state"] == "busy")
    });
    assert_eq!(busy["batches"].as_array().unwrap().len(), 2, "{busy}");
    let page = String::from_utf8(Http::new(server.url(), server.token()).get("/workers").body).unwrap();
    assert!(page.contains("w-busy") && page.contains(OTHER), "{page}");
    gate.open();
    assert!(jobs.iter().all(|id| server.ended(*id).state == StateKind::Succeeded));
    until_shown(&server, "two", "idle");
}

#[test]
fn a_repository_that_nobody_serves_is_told_and_waits_for_a_worker_that_does() {
    let server = Server::start_with(&format!("repositories = [{OTHER:?}]"), |_| String::new());
    let mut one = server.worker("one");
    until_shown(&server, "one", "idle");
    let waits = server.submit(job(REPOSITORY, "/x", server.script("echo x >x/x")));
    let runs = server.submit(job(OTHER, "/x", server.script("echo x >x/x")));
    assert_eq!(server.ended(runs).state, StateKind::Succeeded);
    assert_eq!(server.view(waits).state, StateKind::Queued);
    let said = format!("no worker of fleet default serves {REPOSITORY}: its jobs wait");
    let warned = server.run(&["workers"]).stderr;
    assert!(warned.contains(&said), "{warned}");
    until("the log says so", || server.log().contains(&said).then_some(()));
    assert!(one.terminate().success());
    // Without the list it serves what is there.
    server.configure("");
    let _two = server.worker("two");
    assert_eq!(server.ended(waits).state, StateKind::Succeeded);
    let warned = server.run(&["workers"]).stderr;
    assert!(warned.is_empty(), "{warned}");
}

#[test]
fn a_worker_that_drains_finishes_what_it_has_and_takes_no_more() {
    let server = server(600);
    let mut one = server.worker("one");
    let gate = Gate::new();
    let runs = gated(&server, &gate, REPOSITORY);
    gate.until_runs(1);
    one.signal();
    until_shown(&server, "one", "draining");
    let waits = server.submit(job(OTHER, "/x", server.script("echo x >x/x")));
    let _two = server.worker("two");
    assert_eq!(server.ended(waits).state, StateKind::Succeeded);
    assert_eq!(server.view(runs).state, StateKind::Running, "it is not given back before its time");
    gate.open();
    let ended = server.ended(runs);
    assert_eq!((ended.state, ended.attempt, gate.runs()), (StateKind::Succeeded, 1, 1));
    assert_eq!(one.wait().code(), Some(0));
    until("one that said goodbye is not missed", || shown(&server, "one").is_none().then_some(()));
}

#[test]
fn what_is_not_finished_in_time_is_given_back() {
    let server = server(1);
    let mut one = server.worker("one");
    let gate = Gate::new();
    let id = gated(&server, &gate, REPOSITORY);
    gate.until_runs(1);
    one.signal();
    assert_eq!(one.wait().code(), Some(0));
    let _two = server.worker("two");
    gate.until_runs(2);
    gate.open();
    let ended = server.ended(id);
    assert_eq!((ended.state, ended.failures, ended.interruptions), (StateKind::Succeeded, 0, 0), "{ended:?}");
}

#[test]
fn a_second_signal_gives_back_at_once() {
    let server = server(600);
    let mut one = server.worker("one");
    let gate = Gate::new();
    let id = gated(&server, &gate, REPOSITORY);
    gate.until_runs(1);
    one.signal();
    until_shown(&server, "one", "draining");
    one.signal();
    assert_eq!(one.wait().code(), Some(0));
    until("it was given back", || (server.view(id).state != StateKind::Running).then_some(()));
    assert_eq!(server.view(id).interruptions, 0);
}

#[test]
fn a_server_that_is_gone_does_not_keep_a_worker_that_drains() {
    let mut server = server(1);
    let mut one = server.worker("one");
    let gate = Gate::new();
    let id = gated(&server, &gate, REPOSITORY);
    gate.until_runs(1);
    server.kill9();
    let began = Instant::now();
    one.signal();
    assert_eq!(one.wait().code(), Some(0), "{}", one.stderr());
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    server.start_again(None);
    until("the loss is noticed", || (server.view(id).state == StateKind::Recovering).then_some(()));
    let silent = until_shown(&server, "one", "silent");
    assert_eq!(silent["batches"][0]["state"], "recovering", "{silent}");
    gate.open();
    let _again = server.worker("one");
    assert_eq!(server.ended(id).state, StateKind::Succeeded);
    assert_eq!(server.publishes(), 1);
}

#[test]
fn a_worker_for_one_batch_takes_one_and_says_whether_there_was_one() {
    let server = server(60);
    let none = server.worker_once("one", &["--wait", "1"]).wait();
    assert_eq!(none.code(), Some(75));
    let jobs = ["exit 1", "echo x >>x/x"].map(|text| server.submit(job(REPOSITORY, "/x", server.script(text))));
    assert_eq!(server.worker_once("one", &["--wait", "60"]).wait().code(), Some(0));
    // How the job ended is for whoever submitted it; the next one is still there.
    assert_eq!(server.view(jobs[0]).state, StateKind::Failed);
    assert!(!server.view(jobs[1]).state.is_final());
    assert_eq!(server.worker_once("one", &[]).wait().code(), Some(0));
    assert_eq!(server.view(jobs[1]).state, StateKind::Succeeded);
}
