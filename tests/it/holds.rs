//! Repositories paused and held, by the command line, with a server, a worker and a repository that are real.

use conveyor::domain::job::state::StateKind;
use serde_json::Value;

use crate::harness::{Gate, OTHER, REPOSITORY, Server, job, packed, until};

fn shown(server: &Server) -> Value {
    let run = server.run(&["repository", "show", REPOSITORY]);
    assert_eq!(run.code, 0, "{run:?}");
    run.last()
}

#[test]
fn a_pause_is_shown_everywhere_outlives_the_server_and_is_ended() {
    let mut server = Server::start();
    let run = server.run(&["repository", "pause", REPOSITORY, "--reason", "new disks", "--until", "2h"]);
    assert_eq!(run.code, 0, "{run:?}");
    let _worker = server.worker("one");
    let waiting = server.submit(job(REPOSITORY, "/x", server.tarball(packed(&[("a", "1")]))));
    server.publish(job(OTHER, "/x", server.tarball(packed(&[("a", "1")]))));
    server.crash_and_restart();
    let checked = server.run(&["check", &waiting.to_string()]).last();
    assert_eq!(checked["state"], "queued");
    assert!(checked["remark"].as_str().unwrap().contains("new disks"), "{checked}");
    let listed = server.run(&["repositories"]).lines();
    let held = |name: &str| listed.iter().find(|line| line["repository"] == name).unwrap()["holds"].clone();
    assert_eq!((&held(REPOSITORY)[0]["kind"], held(OTHER).as_array().unwrap().len()), (&"pause".into(), 0));
    let server_says = &shown(&server)["server"];
    assert_eq!((&server_says["fleet"], &server_says["jobs"]["queued"]), (&"default".into(), &1.into()));

    assert_eq!(server.run(&["repository", "resume", REPOSITORY]).code, 0);
    assert_eq!(server.ended(waiting).state, StateKind::Succeeded);
    let shown = shown(&server);
    assert_eq!(shown["server"]["last_success"]["revision"], shown["revision"]);
    assert_eq!(shown["server"]["last_success"]["job_id"], waiting.to_string().as_str());
}

#[test]
fn a_command_has_the_repository_for_itself() {
    let server = Server::start();
    let gate = Gate::new();
    let worker = server.worker("one");
    let running = server.submit(job(REPOSITORY, "/x", server.script(&gate.script())));
    gate.until_runs(1);
    let next = server.submit(job(REPOSITORY, "/y", server.tarball(packed(&[("a", "1")]))));
    let (began, go) = (server.base().join("began"), server.base().join("go"));
    let script = format!("touch {}; while [ ! -e {} ]; do sleep 0.02; done; exit 7", began.display(), go.display());
    let mut holder = server.daemon(&["repository", "hold", REPOSITORY, "--", "sh", "-c", &script]);
    holder.said("that it waits", |_, stderr| stderr.contains("waits for batch").then_some(()));
    let given_up = server.run(&["repository", "hold", REPOSITORY, "--for", "1m", "--wait", "--give-up-after", "1s"]);
    assert!(given_up.code == 1 && given_up.stderr.contains("held for maintenance"), "{given_up:?}");
    assert!(!began.exists(), "the job still runs");
    gate.open();
    assert_eq!(server.ended(running).state, StateKind::Succeeded);
    until("the command", || began.exists().then_some(()));
    assert_eq!(server.view(next).state, StateKind::Queued);
    // What the holder does to the repository, a worker does not meet.
    let signed = server.run(&["repository", "resign", REPOSITORY]);
    assert_eq!(signed.code, 0, "{signed:?}");
    std::fs::write(&go, "").unwrap();
    assert_eq!(holder.wait().code(), Some(7), "the command's own exit code");
    assert_eq!(server.ended(next).state, StateKind::Succeeded);
    drop(worker);
}

#[test]
fn a_hold_that_somebody_ends_ends_its_command_and_one_for_a_time_needs_none() {
    let server = Server::start();
    let mut holder = server.daemon(&["repository", "hold", REPOSITORY, "-m", "looking", "--", "sleep", "1000"]);
    until("the hold", || {
        shown(&server)["server"]["holds"][0]["reason"].as_str().filter(|reason| *reason == "looking").map(drop)
    });
    holder.said("that it runs", |_, stderr| stderr.contains("is held; runs sleep 1000").then_some(()));
    assert_eq!(server.run(&["repository", "resume", REPOSITORY]).code, 0);
    assert_eq!(holder.wait().code(), Some(1));
    holder.until_quiet();
    assert!(holder.stderr().contains("no longer held"), "{}", holder.stderr());

    let run = server.run(&["repository", "hold", REPOSITORY, "--for", "10m", "--wait"]);
    assert_eq!((run.code, &run.last()["exclusive"]), (0, &true.into()), "{run:?}");
    let without = server.run(&["repository", "hold", REPOSITORY]);
    assert_eq!(without.code, 2, "{without:?}");
}
