//! The watchdog: fed while the daemon lives, and not while it stands still.

use std::time::Duration;

use conveyor::domain::job::spec::Payload;
use nix::sys::signal::Signal;

use super::managed;
use crate::harness::{Daemon, Ear, Http, REPOSITORY, Server, job, missing, port_of, until};

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
fn a_full_disk_is_told_and_no_reason_to_be_killed() {
    let ear = Ear::new();
    let mut server = Server::start();
    assert!(server.process().terminate().success());
    let own = server.command();
    let small = server.base().join("small");
    std::fs::create_dir(&small).unwrap();
    let mount = "mount -t tmpfs -o size=8m,mode=0700 test \"$0\" && exec \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", mount]).arg(&small).arg(own.get_program());
    command.args(own.get_args()).args(["--state-dir", small.to_str().unwrap()]);
    watched(ear.hears(&mut command));
    server.replace(Daemon::start(&mut command));
    if ear.within(INTERVAL * 10).is_none() && server.process().poll().is_some() {
        missing("small-disk", Some("only root can mount a small file system in a namespace of its own".into()));
        return;
    }
    let filler = format!("/proc/{}/root{}/filler", server.process().id(), small.display());
    let mut file = std::fs::File::create(&filler).unwrap();
    while std::io::Write::write(&mut file, &[1; 4096]).is_ok() {}
    let http = Http::new(server.url(), server.token());
    until("nothing is taken any more", || {
        let body = serde_json::to_vec(&[job(REPOSITORY, "/x", Payload::Empty)]).unwrap();
        (http.post("/api/v1/jobs", &body).status == 507).then_some(())
    });
    assert!(ear.until_status("the database cannot be written").contains("jobs are refused"));
    for _ in 0..4 {
        until_alive(&ear);
    }
    std::fs::remove_file(&filler).unwrap();
    drop(file);
    until("jobs are taken again", || server.try_submit(&[job(REPOSITORY, "/x", Payload::Empty)]).ok());
    ear.until("it is told", |told| told.status().is_some_and(|status| !status.contains("cannot be written")));
}

#[test]
fn a_service_manager_that_reads_nothing_holds_up_nobody() {
    let ear = Ear::new();
    ear.fill();
    let mut server = managed(&ear, watched);
    let mut command = server.worker_command("one", "one", &[]);
    watched(ear.hears(&mut command));
    let mut worker = Daemon::start(&mut command);
    for _ in 0..3 {
        server.publish(job(REPOSITORY, "/x", server.script("echo x >>x/x")));
    }
    assert!(worker.terminate().success());
    assert!(server.process().terminate().success());
    assert!(ear.within(INTERVAL).is_some_and(|told| told.status() == Some("of the test")), "it was full");
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
