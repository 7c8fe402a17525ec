//! A second server on the same state: it is not the leader, and becomes it when the first one is dead.

use std::time::{Duration, Instant};

use conveyor::domain::job::state::StateKind;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Answer, Daemon, Gate, Http, REPOSITORY, Relay, Server, job, port_of, until};

/// Longer than claims last in these tests.
const LONGER_THAN_CLAIMS: Duration = Duration::from_secs(6);

fn ready(http: &Http) -> (u16, Value) {
    let Answer { status, body, .. } = http.get("/readyz");
    (status, serde_json::from_slice(&body).unwrap())
}

fn until_ready(http: &Http) {
    until("it leads", || (ready(http).0 == 200).then_some(()));
}

/// A leader that clients and a worker reach by an address that can be turned to its standby.
struct Pair {
    server: Server,
    standby: Daemon,
    at: Http,
    port: u16,
    address: Relay,
}

impl Pair {
    fn start() -> Self {
        let mut server = Server::start();
        let address = Relay::to(port_of(server.url()));
        server.reached_by(&format!("http://127.0.0.1:{}", address.port()));
        let (standby, url) = server.standby();
        Self { at: Http::new(&url, server.token()), port: port_of(&url), server, standby, address }
    }
}

#[test]
fn a_second_server_stands_by_and_says_so() {
    let Pair { server, mut standby, at, port, address: _address } = Pair::start();
    assert_eq!(at.get("/healthz").status, 200);
    assert_eq!(ready(&at), (503, serde_json::json!({"ready": false, "reason": "standby: not leader"})));
    for path in ["/api/v1/jobs", "/api/v1/events", "/api/v1/openapi.json", "/metrics", "/", "/nowhere"] {
        let answer = at.get(path);
        assert_eq!((answer.status, answer.code().as_str()), (503, "not_leader"), "{path}");
    }
    let body = serde_json::to_vec(&[job(REPOSITORY, "/x", server.script("true"))]).unwrap();
    assert_eq!(at.post("/api/v1/jobs", &body).code(), "not_leader");
    let url = format!("http://127.0.0.1:{port}");
    let run = server.program().run(&["--url", &url, "--retry-for", "0", "submit", "-r", REPOSITORY, "-p", ""]);
    assert!(run.code == 1 && run.stderr.contains("not the leader") && run.stderr.contains("hint:"), "{run:?}");
    // The leader does not mind, and the standby ends as any server does.
    assert_eq!(server.run(&["submit", "-r", REPOSITORY, "-p", ""]).code, 0);
    assert!(standby.terminate().success());
}

#[test]
fn a_standby_takes_over_from_a_leader_that_is_killed_in_the_middle_of_jobs() {
    let Pair { mut server, standby, at, port, address } = Pair::start();
    let _worker = server.worker("one");
    let gate = Gate::new();
    let script = || server.script(&format!("{}\necho once >>x/x", gate.script()));
    let jobs: Vec<_> = (0..4).map(|_| server.submit(job(REPOSITORY, "/x", script()))).collect();
    gate.until_runs(1);
    // Waits at the standby for what it does not serve yet.
    let url = format!("http://127.0.0.1:{port}");
    let mut waiting = Daemon::start(&mut server.program().command(&[
        "--url",
        &url,
        "check",
        "--wait",
        "--ids",
        &jobs[0].to_string(),
    ]));
    waiting.said("the client tries again", |_, log| log.contains("connecting anew").then_some(()));
    let killed = Instant::now();
    server.kill9();
    until_ready(&at);
    let took = killed.elapsed();
    println!("took over within {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    address.turn(port);
    server.replace(standby);
    gate.open();
    for id in &jobs {
        let ended = server.ended(*id);
        assert_eq!((ended.state, ended.attempt, ended.interruptions), (StateKind::Succeeded, 1, 0), "{ended:?}");
    }
    assert_eq!((server.publishes(), gate.runs()), (4, 4));
    assert!(waiting.wait().success());
    server.program().good(&["check-db", "--verify"]);
}

#[test]
fn the_leader_of_before_comes_back_as_the_standby() {
    let Pair { mut server, standby, at, port, address } = Pair::start();
    let _worker = server.worker("one");
    server.kill9();
    until_ready(&at);
    address.turn(port);
    let (back, url) = server.standby();
    let back_at = Http::new(&url, server.token());
    assert_eq!(ready(&back_at).0, 503);
    server.publish(job(REPOSITORY, "/x", server.script("echo x >x/x")));
    server.replace(standby);
    // Ended in order, it hands over too.
    assert!(server.process().terminate().success());
    until_ready(&back_at);
    address.turn(port_of(&url));
    server.replace(back);
    server.publish(job(REPOSITORY, "/x", server.script("echo y >>x/x")));
    assert_eq!(server.publishes(), 2);
}

#[test]
fn a_leader_that_stands_still_is_not_dead() {
    let Pair { mut server, standby, at, port, address } = Pair::start();
    let _worker = server.worker("one");
    let gate = Gate::new();
    let script = server.script(&format!("{}\necho once >>x/x", gate.script()));
    let mut spec = job(REPOSITORY, "/x", script);
    // The worker begins no publish while it has not heard of the server for long: that is a failed attempt.
    spec.attempts = 3;
    let id = server.submit(spec);
    gate.until_runs(1);
    server.process().send(Signal::SIGSTOP);
    let stopped = Instant::now();
    until("the leader has stood still for longer than claims last", || {
        assert_eq!(ready(&at).0, 503, "two lead");
        (stopped.elapsed() > LONGER_THAN_CLAIMS).then_some(())
    });
    server.process().send(Signal::SIGCONT);
    gate.open();
    assert_eq!(server.ended(id).state, StateKind::Succeeded);
    assert_eq!(server.publishes(), 1);
    // Stopped and then killed, it is.
    server.process().send(Signal::SIGSTOP);
    server.kill9();
    until_ready(&at);
    address.turn(port);
    server.replace(standby);
    server.publish(job(REPOSITORY, "/x", server.script("echo x >>x/x")));
}
