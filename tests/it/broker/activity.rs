//! Servers that tell each other of new revisions, and what `cvmfs-notify` tells and hears.

use serde_json::json;

use super::amqp::Amqp;
use super::table;
use crate::announce::{Foreign, Notifier};
use crate::harness::{
    Daemon, Http, PASSWORD, Place, Program, REPOSITORY, Relay, USER, no_rabbit, private, shared, until,
};

/// A port on which nobody listens.
const NOBODY: u16 = 1;

#[test]
fn servers_share_what_they_are_told_and_miss_nothing_while_they_or_the_broker_are_away() {
    if no_rabbit() {
        return;
    }
    let (rabbit, foreign) = (shared(), Foreign::new());
    let (vhost, relay) = (rabbit.vhost(), Relay::to(rabbit.port()));
    let directory = foreign.root().join(REPOSITORY);
    let start = || Notifier::start(&foreign, |base| table(base, relay.port(), &vhost));
    let (mut one, mut two) = (start(), start());
    let exchanges = |server: &Notifier| until("it exchanges", || server.said().contains("state=\"up\"").then_some(()));
    [&one, &two].into_iter().for_each(exchanges);

    // What is posted goes as it came to whoever listens, `cvmfs-notify` among them.
    let first = foreign.publish();
    let amqp = Amqp::connect(rabbit.port(), &vhost);
    let mut listener = amqp.listen("repository.activity", REPOSITORY);
    let old = |manifest: &[u8]| {
        use base64::Engine as _;
        let manifest = base64::engine::general_purpose::STANDARD.encode(manifest);
        format!(
            "{{\"repository\": \"{REPOSITORY}\",\"type\":\"activity\",  \"manifest\":\"{manifest}\",\"timestamp\":\"26 Nov 2026 10:00:00\",\"version\":1}}"
        )
    };
    let body = old(&foreign.manifest());
    let answer = Http::new(&one.url(), "none").post("/api/v1/publish", body.as_bytes());
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap(), json!({"status": "ok"}));
    assert_eq!(amqp.next(&mut listener), (REPOSITORY.to_owned(), body.into_bytes()));
    two.tells(first);

    // What `cvmfs-notify` tells is heard, and so is what comes after something that is none.
    let second = foreign.publish();
    amqp.publish("repository.activity", REPOSITORY, b"no message");
    amqp.publish("repository.activity", REPOSITORY, old(&foreign.manifest()).as_bytes());
    one.tells(second);
    two.tells(second);

    // Told while the broker is away by a server that dies: sent all the same.
    relay.turn(NOBODY);
    let third = foreign.publish();
    one.publish(&directory);
    one.kill9();
    relay.turn(rabbit.port());
    one.start_again(None);
    two.tells(third);

    // A server that was away asks.
    two.stop();
    let fourth = foreign.publish();
    one.publish(&directory);
    two.start_again(None);
    two.tells(fourth);

    // So does one whose connection was cut meanwhile.
    let fifth = foreign.publish();
    relay.turn(NOBODY);
    one.publish(&directory);
    relay.turn(rabbit.port());
    two.tells(fifth);
}

#[test]
fn what_cvmfs_notify_had_in_its_environment_leads_to_the_broker() {
    if no_rabbit() {
        return;
    }
    let (rabbit, place) = (shared(), Place::new());
    let path = |name: &str| place.path().join(name);
    private(&path("config.toml"), "");
    let program = Program::new(&path("config.toml"), place.path());
    let mut command = program.command(&["notify", "server", "--listen", "127.0.0.1:0", "--state-dir"]);
    command.arg(path("state")).env("CVMFS_NOTIFY_LOG_LEVEL", "debug").envs([
        ("CVMFS_NOTIFY_AMQP_URL", "127.0.0.1"),
        ("CVMFS_NOTIFY_AMQP_PORT", &rabbit.port().to_string()),
        ("CVMFS_NOTIFY_AMQP_VHOST", &rabbit.vhost()),
        ("CVMFS_NOTIFY_AMQP_USERNAME", USER),
        ("CVMFS_NOTIFY_AMQP_PASSWORD", PASSWORD),
    ]);
    let mut server = Daemon::start(&mut command);
    server.said("it exchanges", |_, log| log.contains("state=\"up\"").then_some(()));
    let url =
        server.said("it listens", |_, log| Some(log.split_once("notifications at ")?.1.split_once('\n')?.0.to_owned()));
    Http::new(&url, "none").get("/readyz");
    server.said("it logs in detail", |_, log| log.contains("DEBUG").then_some(()));
    assert!(server.terminate().success());
    server.until_quiet();
    assert!(!server.stderr().contains(PASSWORD), "{}", server.stderr());
}

#[cfg(feature = "crash-points")]
#[test]
fn a_server_that_dies_before_or_after_it_sent_a_message_sends_it() {
    if no_rabbit() {
        return;
    }
    let foreign = Foreign::new();
    let (rabbit, vhost) = (shared(), shared().vhost());
    let start = || Notifier::start(&foreign, |base| table(base, rabbit.port(), &vhost));
    let (mut one, two) = (start(), start());
    for point in ["notify.before-send", "notify.sent"] {
        one.stop();
        one.start_again(Some(point));
        let revision = foreign.publish();
        // It may die before it answers; then whoever publishes asks again.
        let mut publishing = one.publishing(&foreign.root().join(REPOSITORY));
        one.died();
        one.start_again(None);
        two.tells(revision);
        assert!(publishing.wait().success(), "{}", publishing.stderr());
    }
}
