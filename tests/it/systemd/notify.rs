//! The service of notifications under a service manager.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::announce::Foreign;
use crate::harness::{Daemon, Ear, Http, Place, Program, REPOSITORY, private, until};

/// After which a service manager would take it for dead.
const INTERVAL: Duration = Duration::from_millis(900);

/// `conveyor notify server` in the ear of a service manager.
struct Managed {
    process: Daemon,
    program: Program,
    foreign: Foreign,
    url: String,
    base: Place,
}

impl Managed {
    fn start(ear: &Ear, prepare: impl FnOnce(&mut Command)) -> Self {
        let (base, foreign) = (Place::new(), Foreign::new());
        private(&base.path().join("token"), "a-token-of-the-tests");
        private(&base.path().join("config.toml"), &text(&base, &foreign));
        let program = Program::new(&base.path().join("config.toml"), base.path());
        let mut command = program.command(&["notify", "server", "--listen", "127.0.0.1:0"]);
        prepare(ear.hears(&mut command));
        let mut process = Daemon::start(&mut command);
        let url = process.said("it listens", |_, log| {
            Some(format!("http://{}", log.split_once("notifications at http://")?.1.split_once('\n')?.0.trim()))
        });
        Self { process, program, foreign, url, base }
    }

    fn edit(&self, change: impl FnOnce(String) -> String) {
        let path = self.base.path().join("config.toml");
        private(&path, &change(text(&self.base, &self.foreign)));
    }

    /// Makes it read its settings again and gives the status that it ends with.
    fn reload(&mut self, ear: &Ear) -> String {
        self.process.send(Signal::SIGHUP);
        ear.until("it reads again", |told| told.says("RELOADING=1"));
        let told = ear.until("it has read again", |told| told.says("READY=1"));
        told.last().unwrap().status().unwrap().to_owned()
    }

    fn figures(&self, token: &str) -> (u16, String) {
        let answer = Http::new(&self.url, token).get("/metrics");
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    }
}

fn text(base: &Place, foreign: &Foreign) -> String {
    let path = |name: &str| base.path().join(name);
    let (token, state) = (path("token"), path("state"));
    let text = foreign.notify_table().replace("[server]\n", &format!("[server]\ntoken_file = {token:?}\n"));
    text.replace("[notify]\n", &format!("[notify]\nstate_dir = {state:?}\n"))
}

#[test]
fn it_is_ready_when_it_is_served_and_says_how_it_stands_until_it_ends() {
    let ear = Ear::new();
    let mut service = Managed::start(&ear, |_| {});
    let first = ear.next();
    assert!(first.says("READY=1"), "{first:?}");
    assert_eq!(first.status(), Some("0 subscribers, 0 repositories announced"));
    assert_eq!(Http::new(&service.url, "").get("/readyz").status, 200);
    let subscribe = ["--url", &service.url, "notify", "subscribe", REPOSITORY, "--count", "1"];
    let mut subscriber = Daemon::start(&mut service.program.command(&subscribe));
    ear.until_status("1 subscriber, 0 repositories announced");
    service.foreign.publish();
    let repository = service.foreign.root().join(REPOSITORY);
    service.program.good(&["--url", &service.url, "notify", "publish", repository.to_str().unwrap()]);
    ear.until_status("0 subscribers, 1 repository announced");
    assert!(subscriber.wait().success(), "{}", subscriber.stderr());
    let (status, figures) = service.figures("a-token-of-the-tests");
    assert_eq!(status, 200);
    assert!(figures.contains("conveyor_notify_messages_total{outcome=\"told\"} 1\n"), "{figures}");
    assert_eq!(service.figures("another").0, 401);
    assert!(service.process.terminate().success());
    let told = ear.until("it ends", |told| told.says("STOPPING=1"));
    assert_eq!(told.last().unwrap().status(), Some("stopping"));
    assert!(!told.iter().any(|told| told.says("READY=1") || told.says("RELOADING=1")), "{told:?}");
}

#[test]
fn tokens_follow_what_needs_a_restart_is_named_and_an_error_changes_nothing() {
    let ear = Ear::new();
    let mut service = Managed::start(&ear, |_| {});
    assert!(ear.next().says("READY=1"));
    private(&service.base.path().join("token"), "another-token-of-the-tests");
    assert_eq!(service.reload(&ear), "0 subscribers, 0 repositories announced");
    assert_eq!(
        (service.figures("a-token-of-the-tests").0, service.figures("another-token-of-the-tests").0),
        (401, 200)
    );
    service.edit(|text| text.replace("[server]\n", "[server]\nanonymous_read = true\n"));
    service.reload(&ear);
    assert_eq!(service.figures("nobody").0, 200);
    service.edit(|text| text.replace("[notify]\n", "[notify]\nmax_subscribers = 3\nlisten = [\"127.0.0.1:1\"]\n"));
    let status = service.reload(&ear);
    // The flag that it was started with still beats the file.
    let named = "; restart to bring into force: [notify]; url, path, watch_s or notifiers of a repository";
    assert!(status.ends_with(named), "{status}");
    assert_eq!(service.figures("nobody").0, 401);
    service.edit(|text| text + "\n[server");
    let status = service.reload(&ear);
    assert!(status.contains("the settings cannot be used: "), "{status}");
    assert_eq!(service.figures("another-token-of-the-tests").0, 200);
    until("the log says so", || service.process.stderr().contains("all stays as it is").then_some(()));
}

#[test]
fn it_is_fed_for_as_long_as_it_goes_on() {
    let ear = Ear::new();
    let mut service = Managed::start(&ear, |command| {
        command.env("WATCHDOG_USEC", INTERVAL.as_micros().to_string());
    });
    let until_alive = || {
        for _ in 0..2 {
            ear.until("it lives", |told| told.says("WATCHDOG=1"));
        }
    };
    until_alive();
    service.process.send(Signal::SIGSTOP);
    // What it had said before.
    while ear.within(INTERVAL / 2).is_some() {}
    assert_eq!(ear.within(INTERVAL), None);
    service.process.send(Signal::SIGCONT);
    until_alive();
}
