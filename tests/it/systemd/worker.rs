//! Readiness, status, reload and end of a worker.

use std::os::unix::fs::PermissionsExt;

use conveyor::domain::job::state::StateKind;
use nix::sys::signal::Signal;

use super::edit;
use crate::harness::{Daemon, Ear, Gate, REPOSITORY, Server, job, private};

fn server() -> Server {
    Server::start_with("drain_timeout_s = 600", |_| String::new())
}

fn worker(server: &Server, ear: &Ear) -> Daemon {
    let mut command = server.worker_command("one", "one", &[]);
    Daemon::start(ear.hears(&mut command))
}

#[test]
fn a_worker_is_ready_without_its_server_and_says_what_it_waits_for() {
    let ear = Ear::new();
    let mut server = server();
    server.kill9();
    let mut worker = worker(&server, &ear);
    let first = ear.next();
    assert!(first.says("READY=1"), "{first:?}");
    // Its control socket answers.
    let state = server.base().join("worker-one").into_os_string().into_string().unwrap();
    assert_eq!(server.run(&["worker", "status", "--state-dir", &state]).code, 0);
    let status = ear.until_status(&format!("waiting for the server at {}: ", server.url()));
    assert!(status.to_lowercase().contains("refused"), "{status}");
    server.start_again(None);
    assert_eq!(ear.until_status("idle"), "idle, 1 slot");
    assert!(worker.terminate().success());
    ear.until("its end", |told| told.says("STOPPING=1"));
}

#[test]
fn what_a_worker_does_is_told_and_its_drain_is_given_time() {
    let ear = Ear::new();
    let server = server();
    let mut worker = worker(&server, &ear);
    ear.until_status("idle, 1 slot");
    let gate = Gate::new();
    let id = server.submit(job(REPOSITORY, "/x", server.script(&format!("{}\necho x >x/x", gate.script()))));
    gate.until_runs(1);
    ear.until_status(&format!("staging 1 job in {REPOSITORY}"));
    worker.signal();
    let told = ear.until("it drains", |told| told.says("STOPPING=1"));
    assert!(!told.iter().any(|told| told.value("EXTEND_TIMEOUT_USEC").is_some()), "{told:?}");
    // Asked for again and again, each time for more than until the next.
    for _ in 0..2 {
        let told = ear.until("it asks for time", |told| told.value("EXTEND_TIMEOUT_USEC").is_some());
        assert_eq!(told.last().unwrap().value("EXTEND_TIMEOUT_USEC"), Some("30000000"));
        assert!(told.iter().all(|told| told.status().is_none_or(|s| s.contains("draining: 1 batch left"))), "{told:?}");
    }
    gate.open();
    assert!(worker.wait().success());
    assert_eq!(server.ended(id).state, StateKind::Succeeded);
}

#[test]
fn a_hangup_changes_slots_and_never_ends_a_worker() {
    let ear = Ear::new();
    let server = server();
    let mut worker = worker(&server, &ear);
    ear.until_status("idle, 1 slot");
    edit(&server, |text| text.replace("slots = 1\n", "slots = 3\nfleet = \"elsewhere\"\n"));
    worker.send(Signal::SIGHUP);
    ear.until("it reads again", |told| told.says("RELOADING=1"));
    let told = ear.until("it has read again", |told| told.says("READY=1"));
    let status = told.last().unwrap().status().unwrap();
    assert_eq!(status, "idle, 3 slots; restart to bring into force: [worker] fleet");
    edit(&server, |text| text.replace("slots = 3\n", "slots = 0\n"));
    worker.send(Signal::SIGHUP);
    let status = ear.until_status("the settings cannot be used");
    assert!(status.starts_with("idle, 3 slots; ") && status.contains("slots is 0"), "{status}");
    // Another signal while nothing is the matter.
    edit(&server, |text| text.replace("slots = 0\nfleet = \"elsewhere\"\n", "slots = 2\n"));
    worker.send(Signal::SIGHUP);
    assert_eq!(ear.until_status("2 slots"), "idle, 2 slots");
    server.publish(job(REPOSITORY, "/x", server.script("echo x >x/x")));
    assert!(worker.terminate().success());
}

#[test]
fn scripts_hear_nothing_of_the_service_manager_and_see_no_credentials() {
    let ear = Ear::new();
    let server = server();
    let credentials = server.base().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    private(&credentials.join("token"), server.token());
    // As open as can be, so that only the isolation hides it.
    std::fs::set_permissions(&credentials, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(credentials.join("other"), "a-secret-beside-it").unwrap();
    edit(&server, |text| {
        let token = server.base().join("token");
        let worker = text.find("[worker]").unwrap();
        let (before, after) = text.split_at(worker);
        format!("{before}{}", after.replace(&format!("token_file = {token:?}\n"), ""))
    });
    let mut command = server.worker_command("one", "one", &[]);
    ear.hears(&mut command).env("CREDENTIALS_DIRECTORY", &credentials);
    command.env("WATCHDOG_USEC", "30000000").env("LISTEN_FDS", "0").env("LISTEN_FDNAMES", "none");
    let _worker = Daemon::start(&mut command);
    // The server is reached by the credential alone.
    ear.until_status("idle, 1 slot");
    let look =
        format!("env\necho -- ; cat {0}/other {0}/token || true\nls {0} || true\necho x >x/x", credentials.display());
    let id = server.submit(job(REPOSITORY, "/x", server.script(&look)));
    assert_eq!(server.ended(id).state, StateKind::Succeeded, "{}", api_log(&server, id));
    let said = api_log(&server, id);
    for word in ["NOTIFY_SOCKET", "WATCHDOG", "CREDENTIALS", "LISTEN_", "a-secret-beside-it", server.token()] {
        assert!(!said.contains(word), "{word}: {said}");
    }
    assert!(said.contains("CONVEYOR_RUN_ID"), "{said}");
}

/// What a job said; a server has a log of its own.
fn api_log(server: &Server, id: conveyor::domain::ids::JobId) -> String {
    let api: &crate::harness::Api = server;
    api.log(id)
}
