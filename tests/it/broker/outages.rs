//! The broker fails in every way, and no job is lost or published twice.

use conveyor::domain::job::state::StateKind;

use super::amqp::Amqp;
use super::{broker_of, server, table, until_broker};
use crate::harness::{Http, REPOSITORY, Rabbit, Relay, Server, USER, job, no_rabbit, port_of, private, shared, until};

/// Publishes a line; the file shows how often.
#[track_caller]
fn publishes(server: &Server) {
    let id = server.submit(job(REPOSITORY, "/x", server.script("echo x >>x/x")));
    assert_eq!(server.ended(id).state, StateKind::Succeeded);
}

#[test]
fn the_broker_is_restarted_stopped_and_killed() {
    if no_rabbit() {
        return;
    }
    let rabbit = Rabbit::start(None);
    let mut server = server(rabbit.port(), &rabbit.vhost());
    let _worker = server.worker("one");
    publishes(&server);
    rabbit.stop();
    until_broker(&server, "down");
    let waiting = server.submit(job(REPOSITORY, "/x", server.script("echo x >>x/x")));
    // Also a server that starts without its broker takes jobs.
    server.crash_and_restart();
    let more = server.submit(job(REPOSITORY, "/x", server.script("echo x >>x/x")));
    assert!(until_broker(&server, "down")["reason"].as_str().unwrap().contains("cannot connect"));
    rabbit.up();
    for id in [waiting, more] {
        assert_eq!(server.ended(id).state, StateKind::Succeeded);
    }
    rabbit.kill9();
    until_broker(&server, "down");
    server.kill9();
    rabbit.up();
    server.start_again(None);
    publishes(&server);
    assert_eq!(server.publishes(), 4);
}

#[test]
fn a_queue_deleted_by_hand_is_declared_anew() {
    if no_rabbit() {
        return;
    }
    let vhost = shared().vhost();
    let server = server(shared().port(), &vhost);
    let _worker = server.worker("one");
    publishes(&server);
    shared().control(&["delete_queue", "-p", &vhost, "conveyor.offers.default"]);
    publishes(&server);
    assert_eq!(server.publishes(), 2);
}

#[test]
fn a_worker_that_the_broker_forgot_without_a_word_listens_again() {
    if no_rabbit() {
        return;
    }
    let relay = Relay::to(shared().port());
    let vhost = shared().vhost();
    let server = server(relay.port(), &vhost);
    // A worker that comes before the queue is there says that it has none.
    until_broker(&server, "up");
    let worker = server.worker("one");
    publishes(&server);
    relay.swallow_cancels(true);
    shared().control(&["delete_queue", "-p", &vhost, "conveyor.offers.default"]);
    publishes(&server);
    // It never heard that its consumer had ended.
    assert!(!worker.stderr().contains("no offers by the broker"), "{}", worker.stderr());
    assert_eq!(server.publishes(), 2);
}

#[test]
fn a_queue_that_nothing_is_sent_to_is_declared_anew_too() {
    if no_rabbit() {
        return;
    }
    let vhost = shared().vhost();
    let server = server(shared().port(), &vhost);
    until_broker(&server, "up");
    shared().control(&["delete_queue", "-p", &vhost, "conveyor.offers.default"]);
    until("the queue is there again", || {
        let queues = shared().control(&["list_queues", "-p", &vhost, "name"]);
        queues.contains("conveyor.offers.default").then_some(())
    });
}

#[test]
fn a_virtual_host_that_goes_and_comes_back_is_filled_again() {
    if no_rabbit() {
        return;
    }
    let vhost = shared().vhost();
    let server = server(shared().port(), &vhost);
    let _worker = server.worker("one");
    publishes(&server);
    shared().control(&["delete_vhost", &vhost]);
    until_broker(&server, "down");
    let id = server.submit(job(REPOSITORY, "/x", server.script("echo x >>x/x")));
    shared().control(&["add_vhost", &vhost]);
    shared().control(&["set_permissions", "-p", &vhost, USER, ".*", ".*", ".*"]);
    assert_eq!(server.ended(id).state, StateKind::Succeeded);
}

#[test]
fn a_wrong_password_is_said_and_never_shown_and_jobs_are_accepted() {
    if no_rabbit() {
        return;
    }
    let vhost = shared().vhost();
    let server = Server::start_with("", |base| {
        let table = table(base, shared().port(), &vhost);
        private(&base.join("broker-password"), "hidden-wrong-password");
        table
    });
    let broker = until_broker(&server, "down");
    assert!(broker["reason"].as_str().unwrap().contains("ACCESS_REFUSED"), "{broker}");
    server.submit(job(REPOSITORY, "/x", server.script("true")));
    let figures = String::from_utf8(Http::new(server.url(), server.token()).get("/metrics").body).unwrap();
    assert!(figures.contains("conveyor_broker_state{state=\"down\"} 1"), "{figures}");
    assert!(figures.contains("conveyor_broker_state_since_seconds "), "{figures}");
    assert!(!server.log().contains("hidden") && !broker.to_string().contains("hidden"), "{}", server.log());
}

#[test]
fn a_broker_that_accepts_and_never_answers_stops_nothing() {
    if no_rabbit() {
        return;
    }
    let relay = Relay::to(shared().port());
    let vhost = shared().vhost();
    let server = server(relay.port(), &vhost);
    let _worker = server.worker("one");
    publishes(&server);
    relay.mute(true);
    let id = server.submit(job(REPOSITORY, "/x", server.script("echo x >>x/x")));
    until_broker(&server, "down");
    relay.mute(false);
    assert_eq!(server.ended(id).state, StateKind::Succeeded);
    // What arrived unconfirmed was sent twice, and claimed once.
    assert_eq!(server.publishes(), 2);
}

#[test]
fn a_broker_that_takes_offers_and_never_confirms_is_told_and_nothing_runs_twice() {
    if no_rabbit() {
        return;
    }
    let relay = Relay::to(shared().port());
    let vhost = shared().vhost();
    let server = server(relay.port(), &vhost);
    let _worker = server.worker("one");
    publishes(&server);
    relay.swallow_confirms(true);
    let id = server.submit(job(REPOSITORY, "/x", server.script("echo x >>x/x")));
    // What came to the worker is claimed, whatever the server knows of it.
    assert_eq!(server.ended(id).state, StateKind::Succeeded);
    let said = until("it is told", || {
        let broker = broker_of(&server);
        (broker["state"] == "down" || !broker["fleets"].is_null()).then_some(broker)
    });
    assert!(said.to_string().contains("did not confirm a message within 15 s"), "{said}");
    let more = server.submit(job(REPOSITORY, "/x", server.script("echo x >>x/x")));
    relay.swallow_confirms(false);
    assert_eq!(server.ended(more).state, StateKind::Succeeded);
    until("all is well", || {
        let broker = broker_of(&server);
        (broker["state"] == "up" && broker["fleets"].is_null()).then_some(())
    });
    assert_eq!(server.publishes(), 3);
}

#[test]
fn connections_cut_at_any_moment_lose_nothing_and_double_nothing() {
    if no_rabbit() {
        return;
    }
    let relay = Relay::to(shared().port());
    let vhost = shared().vhost();
    let server = server(relay.port(), &vhost);
    let _workers = [server.worker("one"), server.worker("two")];
    let jobs: Vec<_> = (0..20).map(|_| server.submit(job(REPOSITORY, "/x", server.script("echo x >>x/x")))).collect();
    for id in &jobs {
        relay.cut();
        assert_eq!(server.ended(*id).state, StateKind::Succeeded);
    }
    assert_eq!(server.publishes(), jobs.len());
}

#[test]
fn a_broker_without_memory_is_shown_as_blocked_and_offers_wait_for_it() {
    if no_rabbit() {
        return;
    }
    let rabbit = Rabbit::start(None);
    let server = server(rabbit.port(), &rabbit.vhost());
    let _worker = server.worker("one");
    publishes(&server);
    rabbit.control(&["set_vm_memory_high_watermark", "absolute", "1"]);
    let id = server.submit(job(REPOSITORY, "/x", server.script("echo x >>x/x")));
    until_broker(&server, "blocked");
    rabbit.control(&["set_vm_memory_high_watermark", "absolute", "1GB"]);
    assert_eq!(server.ended(id).state, StateKind::Succeeded);
    until("the broker is up", || (broker_of(&server)["state"] == "up").then_some(()));
    assert_eq!(server.publishes(), 2);
}

#[test]
fn a_standby_leaves_the_broker_alone_and_takes_over_when_the_leader_is_dead() {
    if no_rabbit() {
        return;
    }
    let mut server = server(shared().port(), &shared().vhost());
    let relay = Relay::to(port_of(server.url()));
    server.reached_by(&format!("http://127.0.0.1:{}", relay.port()));
    let _worker = server.worker("one");
    publishes(&server);
    let (standby, url) = server.standby();
    publishes(&server);
    assert!(!standby.stderr().contains("offers and events go out"), "{}", standby.stderr());
    server.kill9();
    relay.turn(port_of(&url));
    server.replace(standby);
    publishes(&server);
    assert_eq!(server.publishes(), 3);
}

#[test]
fn an_offer_that_nobody_answers_for_is_left_on_the_broker() {
    if no_rabbit() {
        return;
    }
    let vhost = shared().vhost();
    let mut server = server(shared().port(), &vhost);
    until_broker(&server, "up");
    let mut worker = server.worker("one");
    let amqp = Amqp::connect(shared().port(), &vhost);
    let mut copies = amqp.listen("conveyor.offers", "conveyor.offers.default");
    publishes(&server);
    let (_, offer) = amqp.next(&mut copies);
    server.kill9();
    // It is delivered, and claiming it meets nobody.
    amqp.publish("conveyor.offers", "conveyor.offers.default", &offer);
    worker.said("it gives up", |_, log| log.contains("offers are left on the broker").then_some(()));
    server.start_again(None);
    publishes(&server);
    assert_eq!(server.publishes(), 2);
}
