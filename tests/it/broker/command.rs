//! `conveyor broker`, and what ends as a dead letter.

use super::amqp::Amqp;
use super::{server, table, until_broker};
use crate::harness::{PASSWORD, Place, Program, REPOSITORY, USER, job, no_rabbit, private, shared, until};

fn program(place: &Place, vhost: &str) -> Program {
    let config = place.path().join("config.toml");
    private(&config, &format!("[repositories.\"a.example.org\"]\n{}", table(place.path(), shared().port(), vhost)));
    Program::new(&config, place.path())
}

#[test]
fn check_finds_what_is_missing_or_differs_and_declare_makes_it() {
    if no_rabbit() {
        return;
    }
    let (place, vhost) = (Place::new(), shared().vhost());
    let program = program(&place, &vhost);
    let whats = |run: &crate::harness::Run| -> Vec<String> {
        run.lines().iter().filter_map(|line| line["what"].as_str().map(str::to_owned)).collect()
    };
    let missing = program.run(&["broker", "check"]);
    assert_eq!(missing.code, 1, "{missing:?}");
    assert!(whats(&missing).contains(&"queue conveyor.offers.default".to_owned()), "{missing:?}");
    program.good(&["broker", "declare"]);
    let good = program.good(&["broker", "check"]);
    assert_eq!(good.last()["good"], true);
    assert!(!good.stdout.contains(PASSWORD) && !good.stderr.contains(PASSWORD));

    let amqp = Amqp::connect(shared().port(), &vhost);
    shared().control(&["delete_queue", "-p", &vhost, "conveyor.offers.default"]);
    amqp.wrong_queue("conveyor.offers.default");
    let differs = program.run(&["broker", "check"]);
    assert_eq!((differs.code, whats(&differs)[0].as_str()), (1, "queue conveyor.offers.default"), "{differs:?}");
    assert!(differs.stdout.contains("x-queue-type") || differs.stdout.contains("inequivalent"), "{differs:?}");
    let kept = program.run(&["broker", "declare"]);
    assert_eq!(kept.code, 1, "what differs is not deleted unasked: {kept:?}");
    assert!(kept.stderr.contains("--force"), "{kept:?}");
    program.good(&["broker", "declare", "--force"]);
    program.good(&["broker", "check"]);

    shared().control(&["set_permissions", "-p", &vhost, USER, "^$", "^$", "^$"]);
    // The broker remembers for a while what a connection may, so each command has one of its own.
    let refused = program.run(&["broker", "check"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    for what in ["permission to write to exchange conveyor.offers", "permission to read queue conveyor.offers.default"]
    {
        assert!(whats(&refused).contains(&what.to_owned()), "{what}: {refused:?}");
    }
}

#[test]
fn what_is_no_offer_ends_as_a_dead_letter_and_an_offer_twice_changes_nothing() {
    if no_rabbit() {
        return;
    }
    let vhost = shared().vhost();
    let server = server(shared().port(), &vhost);
    until_broker(&server, "up");
    let amqp = Amqp::connect(shared().port(), &vhost);
    let worker = server.worker("one");
    amqp.publish("conveyor.offers", "conveyor.offers.default", b"{\"no\": \"offer\"}");
    let place = Place::new();
    private(
        &place.path().join("config.toml"),
        &format!("[repositories.\"{REPOSITORY}\"]\n{}", table(place.path(), shared().port(), &vhost)),
    );
    let program = Program::new(&place.path().join("config.toml"), place.path());
    let letter = until("a dead letter", || program.good(&["broker", "dead-letters", "show"]).lines().pop());
    assert_eq!((&letter["queue"], &letter["reason"]), (&"conveyor.offers.default".into(), &"rejected".into()));
    assert_eq!(letter["body"]["no"], "offer");
    assert_eq!(program.good(&["broker", "dead-letters", "purge"]).last()["deleted"], 1);
    assert_eq!(program.good(&["broker", "dead-letters", "show"]).stdout, "");

    // A copy of each offer, as a broker may deliver it again.
    let mut copies = amqp.listen("conveyor.offers", "conveyor.offers.default");
    let first = server.submit(job(REPOSITORY, "/x", server.script("echo x >>x/x")));
    let (_, offer) = amqp.next(&mut copies);
    amqp.publish("conveyor.offers", "conveyor.offers.default", &offer);
    server.ended(first);
    amqp.publish("conveyor.offers", "conveyor.offers.default", &offer);
    let second = server.submit(job(REPOSITORY, "/x", server.script("echo x >>x/x")));
    server.ended(second);
    assert_eq!(server.publishes(), 2);
    drop(worker);
    until("the queue is empty", || amqp.drain("conveyor.offers.default").is_empty().then_some(()));
    assert_eq!(program.good(&["broker", "dead-letters", "show"]).stdout, "", "nothing of this is a dead letter");
}
