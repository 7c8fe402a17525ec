//! The watchdog: fed while the daemon lives, and not while it stands still.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::managed;
use crate::harness::{Daemon, Ear, REPOSITORY, Server, job, port_of};

/// After which a service manager would take the daemon for dead.
const INTERVAL: Duration = Duration::from_millis(900);

fn watched(command: &mut std::process::Command) {
    command.env("WATCHDOG_USEC", INTERVAL.as_micros().to_string());
}

/// Waits until it is said twice that the daemon lives.
fn until_alive(ear: &Ear) {
    for _ in 0..2 {
        ear.until("it lives", |told| told.says("WATCHDOG=1"));
    }
}

/// Stops the process, and sees that nothing says that it lives; then lets it go on.
fn stands_still(daemon: &mut Daemon, ear: &Ear) {
    daemon.send(Signal::SIGSTOP);
    // What it had said before.
    while ear.within(INTERVAL / 2).is_some() {}
    assert_eq!(ear.within(INTERVAL), None);
    daemon.send(Signal::SIGCONT);
    until_alive(ear);
}

#[test]
fn a_server_is_fed_for_as_long_as_it_goes_on() {
    let ear = Ear::new();
    let mut server = managed(&ear, watched);
    until_alive(&ear);
    stands_still(server.process(), &ear);
    // One that stands by, too.
    let second = Ear::new();
    let mut command = server.program().command(&["server", "--listen", "127.0.0.1:0"]);
    watched(second.hears(&mut command));
    let _standby = Daemon::start(&mut command);
    until_alive(&second);
}

#[test]
fn a_worker_is_fed_for_though_it_cannot_reach_its_server() {
    let ear = Ear::new();
    let mut server = Server::start();
    let mut command = server.worker_command("one", "one", &[]);
    watched(ear.hears(&mut command));
    let mut worker = Daemon::start(&mut command);
    until_alive(&ear);
    server.kill9();
    ear.until_status("waiting for the server");
    until_alive(&ear);
    // A server that takes requests and never answers.
    let _silent = std::net::TcpListener::bind(("127.0.0.1", port_of(server.url()))).unwrap();
    for _ in 0..4 {
        until_alive(&ear);
    }
    stands_still(&mut worker, &ear);
}

#[test]
fn nobody_is_fed_for_who_is_not_watched() {
    for variables in [&[][..], &[("WATCHDOG_USEC", "900000"), ("WATCHDOG_PID", "1")], &[("WATCHDOG_USEC", "0")]] {
        let ear = Ear::new();
        let server = managed(&ear, |command| {
            command.envs(variables.iter().copied());
        });
        server.submit(job(REPOSITORY, "/x", server.script("true")));
        let told = ear.until("the job is counted", |told| told.status().is_some_and(|s| s.starts_with("1 job")));
        assert!(!told.iter().any(|told| told.says("WATCHDOG=1")), "{variables:?}: {told:?}");
    }
}
