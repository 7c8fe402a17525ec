//! Defects in what was made of RabbitMQ, shown with a real one.

use conveyor::domain::ids::JobId;
use conveyor::domain::job::spec::{Condition, Dependency};
use conveyor::domain::job::state::StateKind;

use crate::broker::{server, table, until_broker};
use crate::harness::{Gate, OTHER, REPOSITORY, Rabbit, Server, job, no_rabbit, shared, until};

/// Each queue of a virtual host with its messages and consumers.
fn queues(vhost: &str) -> Vec<(String, u64, u64)> {
    let listed = shared().control(&["list_queues", "-p", vhost, "name", "messages", "consumers", "--no-table-headers"]);
    let queue = |line: &str| {
        let mut words = line.split_whitespace();
        let mut next = || words.next().unwrap().to_owned();
        (next(), next().parse().unwrap(), next().parse().unwrap())
    };
    listed.lines().filter(|line| !line.trim().is_empty()).map(queue).collect()
}

#[test]
fn a_job_that_comes_before_every_queue_and_worker_is_kept() {
    if no_rabbit() {
        return;
    }
    let vhost = shared().vhost();
    // No broker is there when it is submitted.
    let relay = crate::harness::Relay::to(1);
    let server = Server::start_with("", |base| table(base, relay.port(), &vhost));
    let id = server.submit(job(REPOSITORY, "/x", server.script("echo x >>x/x")));
    assert!(queues(&vhost).is_empty(), "{:?}", queues(&vhost));
    relay.turn(shared().port());
    until_broker(&server, "up");
    let _worker = server.worker("one");
    assert_eq!(server.ended(id).state, StateKind::Succeeded);
    assert_eq!(server.publishes(), 1);
}

#[test]
fn a_dependency_that_nobody_knows_is_refused_and_one_that_waits_holds_up_nobody() {
    if no_rabbit() {
        return;
    }
    let vhost = shared().vhost();
    let server = server(shared().port(), &vhost);
    let behind = |id: JobId| {
        let mut spec = job(REPOSITORY, "/x", server.script("echo x >>x/x"));
        spec.dependencies = vec![Dependency { job_id: id, condition: Condition::default() }];
        spec
    };
    let refused = server.try_submit(&[behind(JobId(uuid::Uuid::now_v7()))]).unwrap_err();
    assert_eq!((refused.status(), refused.code()), (Some(422), Some("unknown_dependency")), "{refused:?}");

    let _worker = server.worker("one");
    let gate = Gate::new();
    let first = server.submit(job(OTHER, "/x", server.script(&format!("{}\necho x >x/x", gate.script()))));
    let waiting: Vec<_> = (0..4).map(|_| server.submit(behind(first))).collect();
    gate.until_runs(1);
    // The only worker's only slot is taken by what they wait for, and not by their waiting.
    let _second = server.worker("two");
    for _ in 0..3 {
        let free = server.submit(job(REPOSITORY, "/y", server.script("echo y >>y/y")));
        assert_eq!(server.ended(free).state, StateKind::Succeeded);
    }
    assert!(waiting.iter().all(|id| server.view(*id).state == StateKind::Waiting));
    assert!(queues(&vhost).iter().all(|(_, _, consumers)| *consumers <= 2), "{:?}", queues(&vhost));
    gate.open();
    assert!(waiting.iter().all(|id| server.ended(*id).state == StateKind::Succeeded));
}

#[test]
fn nothing_is_left_on_the_broker_by_jobs_that_have_ended() {
    if no_rabbit() {
        return;
    }
    let vhost = shared().vhost();
    let server = server(shared().port(), &vhost);
    until_broker(&server, "up");
    let _workers = [server.worker("one"), server.worker("two")];
    let jobs: Vec<_> = (0..40)
        .map(|n| server.submit(job([REPOSITORY, OTHER][n % 2], "/x", conveyor::domain::job::spec::Payload::Empty)))
        .collect();
    for id in jobs {
        server.ended(id);
    }
    until("every queue is empty", || queues(&vhost).iter().all(|(_, messages, _)| *messages == 0).then_some(()));
    let names: Vec<_> = queues(&vhost).into_iter().map(|(name, ..)| name).collect();
    // By which the server hears of notifications, for as long as it is connected.
    let own = names.iter().filter(|name| name.starts_with("amq.gen-")).count();
    assert!(own <= 1 && names.len() - own == 2, "that of the offers and that of the dead letters: {names:?}");
}

#[test]
fn a_job_that_outlasts_the_brokers_patience_runs_once() {
    if no_rabbit() {
        return;
    }
    // Half an hour by default, looked at once a minute.
    let rabbit = Rabbit::start_with("[{rabbit, [{consumer_timeout, 15000}, {channel_tick_interval, 1000}]}].");
    let server = server(rabbit.port(), &rabbit.vhost());
    let _workers = [server.worker("one"), server.worker("two")];
    let gate = Gate::new();
    let id = server.submit(job(REPOSITORY, "/x", server.script(&format!("{}\necho once >>x/x", gate.script()))));
    gate.until_runs(1);
    let began = std::time::Instant::now();
    until("twice the patience is over", || (began.elapsed().as_secs() > 30).then_some(()));
    assert_eq!(gate.runs(), 1);
    gate.open();
    let ended = server.ended(id);
    assert_eq!((ended.state, ended.attempt), (StateKind::Succeeded, 1), "{ended:?}");
    assert_eq!((gate.runs(), server.publishes()), (1, 1));
    assert!(!rabbit.log().contains("timed out"), "{}", rabbit.log());
}
