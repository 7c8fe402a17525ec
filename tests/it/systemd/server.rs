//! Readiness, status and end of a server.

use conveyor::domain::job::state::StateKind;

use super::managed;
use crate::harness::{Daemon, Ear, Gate, Port, REPOSITORY, job};

#[test]
fn a_submit_at_the_moment_of_ready_succeeds_and_the_end_is_told() {
    let ear = Ear::new();
    let mut server = managed(&ear, |_| {});
    for _ in 0..3 {
        let first = ear.next();
        assert!(first.says("READY=1"), "{first:?}");
        assert_eq!(first.status(), Some("accepting jobs, 0 workers"));
        let run = server.run(&["--retry-for", "0", "submit", "-r", REPOSITORY, "-p", ""]);
        assert_eq!(run.code, 0, "{run:?}");
        assert!(server.process().terminate().success());
        let told = ear.until("it ends", |told| told.says("STOPPING=1"));
        assert_eq!(told.last().unwrap().status(), Some("stopping"));
        assert!(!told.iter().any(|told| told.says("READY=1") || told.says("RELOADING=1")), "{told:?}");
        let mut command = server.command();
        let process = Daemon::start(ear.hears(&mut command));
        server.replace(process);
    }
    assert!(ear.next().says("READY=1"));
    assert_eq!(ear.until_status("queued"), "3 jobs queued, 0 running, 0 workers");
}

#[test]
fn the_status_follows_the_facts() {
    let ear = Ear::new();
    let server = managed(&ear, |_| {});
    assert_eq!(ear.until_status("queued"), "0 jobs queued, 0 running, 0 workers");
    let gate = Gate::new();
    let id = server.submit(job(REPOSITORY, "/x", server.script(&format!("{}\necho x >x/x", gate.script()))));
    ear.until_status("1 job queued, 0 running, 0 workers");
    let _worker = server.worker("one");
    ear.until_status("0 jobs queued, 1 running, 1 worker");
    gate.open();
    assert_eq!(server.ended(id).state, StateKind::Succeeded);
    // What did not change is not told again.
    let told = ear.until("it is over", |told| told.status().is_some_and(|status| status.contains("0 running")));
    let statuses: Vec<_> = told.iter().filter_map(|told| told.status()).collect();
    assert!(statuses.windows(2).all(|pair| pair[0] != pair[1]), "{statuses:?}");
}

#[test]
fn a_server_that_waits_for_its_broker_is_ready_and_says_so() {
    let ear = Ear::new();
    let nobody = Port::reserve();
    let port = nobody.number();
    let tables = |base: &std::path::Path| {
        let password = base.join("password");
        crate::harness::private(&password, "a-password");
        format!("[broker]\nurl = \"amqp://127.0.0.1:{port}\"\nuser = \"u\"\npassword_file = {password:?}\n")
    };
    let server = super::managed_with(&ear, tables, |_| {});
    assert!(ear.next().says("READY=1"));
    let status = ear.until_status(&format!("waiting for RabbitMQ at 127.0.0.1:{port}: "));
    assert!(status.to_lowercase().contains("refused") && !status.contains("a-password"), "{status}");
    server.submit(job(REPOSITORY, "/x", server.script("true")));
    ear.until_status("1 job queued");
}

#[test]
fn a_server_that_stands_by_is_ready_and_says_for_what() {
    let ear = Ear::new();
    let mut server = managed(&ear, |_| {});
    assert!(ear.next().says("READY=1"));
    let second = Ear::new();
    let mut command = server.program().command(&["server", "--listen", "127.0.0.1:0"]);
    let mut standby = Daemon::start(second.hears(&mut command));
    let first = second.next();
    assert!(first.says("READY=1"), "{first:?}");
    let wanted = format!("standing by: another server leads on {}", server.state().display());
    assert_eq!(first.status(), Some(&*wanted));
    server.kill9();
    second.until_status("0 jobs queued, 0 running, 0 workers");
    assert!(standby.terminate().success());
    second.until("its end", |told| told.says("STOPPING=1"));
}
