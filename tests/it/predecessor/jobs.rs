//! Defects that have nothing to do with a broker.

use std::time::{Duration, Instant};

use conveyor::domain::job::spec::{Payload, Source};
use conveyor::domain::job::state::{JobState, StateKind};
use serde_json::Value;

use crate::harness::{Dev, Gate, Origin, Page, REPOSITORY, Server, job, private, until};

#[test]
fn a_urls_path_leads_nowhere() {
    let dev = Dev::start();
    let origin = Origin::start();
    let bait = dev.base().join("bait");
    std::fs::write(&bait, "alive").unwrap();
    let script = b"#!/bin/sh\necho x >x/x\n".to_vec();
    for path in ["/../../../../../../../tmp/bait", "/%2e%2e/%2e%2e/bait", "//bait", "/a/../../bait"] {
        let url = origin.page(path, Page::Content(script.clone()));
        // A client may also take the dots out, and ask for what is left.
        origin.page("/bait", Page::Content(script.clone()));
        origin.page("/tmp/bait", Page::Content(script.clone()));
        let payload = Payload::Script { source: Source::Url { url, checksum: None }, args: Vec::new() };
        dev.publish(job(REPOSITORY, "/x", payload));
        assert_eq!(std::fs::read_to_string(&bait).unwrap(), "alive", "{path}");
    }
    // Temporary files go.
    until("nothing else is there", || {
        let mut names =
            std::fs::read_dir(dev.base()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.all(|name| name == "bait" || name == "state" || name.starts_with("conveyor-dev-")).then_some(())
    });
}

#[test]
fn a_success_after_a_failure_is_nothing_but_a_success() {
    let dev = Dev::start();
    let mut spec = job(REPOSITORY, "/x", dev.script("echo $CONVEYOR_ATTEMPT >x/x\n[ $CONVEYOR_ATTEMPT -gt 1 ]"));
    spec.attempts = 2;
    let id = dev.submit(spec);
    let ended = dev.ended(id);
    assert_eq!((ended.state, ended.attempt, ended.failures), (StateKind::Succeeded, 2, 1), "{ended:?}");
    assert!(matches!(&ended.status, JobState::Succeeded { .. }));
    let line = dev.program().good(&["check", "-i", &id.to_string()]).last();
    assert_eq!(line["success"], true);
    for key in ["error", "error_code"] {
        assert!(line.get(key).is_none_or(Value::is_null), "{line}");
    }
    assert_eq!(dev.published("x/x").unwrap(), b"2\n", "nothing is left of the first attempt");
}

#[test]
fn waiting_has_an_end_however_much_happens() {
    let server = Server::start();
    let config = server.base().join("waiting.toml");
    private(
        &config,
        &format!(
            "job_wait_timeout = 3\n[client]\nurl = {:?}\ntoken_file = {:?}\n",
            server.url(),
            server.base().join("token")
        ),
    );
    let never = server.submit(job(REPOSITORY, "/x", Payload::Empty)).to_string();
    let mut waiting = crate::harness::Daemon::start(
        crate::harness::bare(server.base()).arg("-c").arg(&config).args(["check", "--wait", "--ids", &never]),
    );
    let began = Instant::now();
    // Events of other jobs, and of one that stands in front of it.
    let status = until("the wait ends", || {
        let other = server.submit(job(REPOSITORY, "/x", Payload::Empty)).to_string();
        server.run(&["cancel", &other]);
        waiting.poll()
    });
    waiting.until_quiet();
    assert_eq!(status.code(), Some(1), "{}", waiting.stderr());
    assert!(waiting.stderr().contains("have not ended after 3 s"), "{}", waiting.stderr());
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_worker_that_is_told_to_stop_leaves_nothing_open() {
    let server = Server::start();
    let mut worker = server.worker("one");
    let gate = Gate::new();
    let id = server.submit(job(REPOSITORY, "/x", server.script(&format!("{}\necho x >x/x", gate.script()))));
    gate.until_runs(1);
    // The first signal lets it finish what it has, the second does not.
    worker.signal();
    worker.said("it drains", |_, log| log.contains("draining").then_some(()));
    assert!(worker.terminate().success(), "{}", worker.stderr());
    // Given back at once: no claim has to expire, and no attempt was used up by it.
    let back = server.view(id);
    assert!(matches!(back.state, StateKind::Queued | StateKind::Offered), "{back:?}");
    gate.open();
    let _next = server.worker("two");
    let ended = server.ended(id);
    assert_eq!((ended.state, ended.failures, ended.interruptions), (StateKind::Succeeded, 0, 0), "{ended:?}");
    assert_eq!(server.publishes(), 1);
}
