//! A quorum queue without a leader, as a single node makes one when it is killed just after it was declared: it is there, and
//! takes and gives nothing.

use conveyor::broker::rabbitmq::{Connection, Difference, Part, Settings, Topology};
use conveyor::domain::job::state::StateKind;
use conveyor::domain::token::Token;

use super::{broker_of, table, until_broker};
use crate::harness::{PASSWORD, REPOSITORY, Rabbit, Server, USER, job, missing, no_rabbit, until};

/// Kills of the broker that are tried.
const ROUNDS: usize = 10;

fn settings(port: u16, vhost: &str) -> Settings {
    Settings {
        host: "127.0.0.1".into(),
        port,
        vhost: vhost.into(),
        user: USER.into(),
        password: Token::new(PASSWORD).unwrap(),
        tls: None,
        heartbeat_s: 5,
        prefix: "conveyor".into(),
        events_exchange: "conveyor.events".into(),
        single_node: false,
        delivery_limit: 20,
    }
}

/// Makes queues in these virtual hosts that have no leader; tells whether it succeeded, since that is a race with the broker.
fn make_leaderless(rabbit: &Rabbit, vhosts: &[String]) -> bool {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let is_offers = |part: &&Part| part.to_string() == "queue conveyor.offers.default";
    let mut alive: Vec<&String> = vhosts.iter().collect();
    for _ in 0..ROUNDS {
        let open = runtime.block_on(async {
            let mut open = Vec::new();
            for vhost in &alive {
                let settings = settings(rabbit.port(), vhost);
                let whole = Topology::wanted(&settings, ["default"]);
                let connection = Connection::open(&settings, "test").await.unwrap();
                whole.declare(&connection).await.unwrap();
                let what = "queue conveyor.offers.default".to_owned();
                let queue = Difference { what, why: String::new(), must_be_deleted: true };
                whole.delete(&connection, &[queue]).await.unwrap();
                let parts = whole.parts.iter().filter(is_offers).cloned().collect();
                open.push((connection, Topology { parts }));
            }
            let declare = |(connection, queue): (Connection, Topology)| async move {
                queue.declare(&connection).await.unwrap();
                connection
            };
            futures_util::future::join_all(open.into_iter().map(declare)).await
        });
        rabbit.kill9();
        drop(open);
        rabbit.up();
        // One that has no leader never gets one again: only the others are tried once more.
        alive.retain(|vhost| {
            let settings = settings(rabbit.port(), vhost);
            let topology = Topology::wanted(&settings, ["default"]);
            let dead = runtime.block_on(topology.leaderless(&settings)).unwrap();
            !dead.iter().any(|queue| queue.what == "queue conveyor.offers.default")
        });
        if alive.is_empty() {
            return true;
        }
    }
    false
}

#[test]
fn a_queue_without_a_leader_is_told_and_made_anew_by_force_or_where_there_is_one_node() {
    if no_rabbit() {
        return;
    }
    let rabbit = Rabbit::start(None);
    let vhosts = [rabbit.vhost(), rabbit.vhost()];
    let why = || format!("in {ROUNDS} rounds no kill came between a queue's declaration and its leader");
    if missing("leaderless", (!make_leaderless(&rabbit, &vhosts)).then(why)) {
        return;
    }
    let start = |vhost: &str, more: &str| {
        Server::start_with("", |base| format!("{}{more}\n", table(base, rabbit.port(), vhost)))
    };
    let submit = |server: &Server| server.submit(job(REPOSITORY, "/x", server.script("echo x >>x/x")));

    // It may be a cluster whose other nodes come back: nothing is deleted.
    let cluster = start(&vhosts[0], "");
    until_broker(&cluster, "up");
    let _worker = cluster.worker("one");
    let waiting = submit(&cluster);
    let told = until("it is told", || broker_of(&cluster)["fleets"]["default"].as_str().map(str::to_owned));
    assert!(told.contains("no leader"), "{told}");
    let checked = cluster.program().run(&["broker", "check"]);
    assert!(checked.code == 1 && checked.stdout.contains("no leader"), "{checked:?}");
    let kept = cluster.program().run(&["broker", "declare"]);
    assert!(kept.code == 1 && kept.stderr.contains("--force"), "{kept:?}");
    assert!(cluster.view(waiting).state != StateKind::Succeeded, "it is still there");

    // With one node nobody can bring its leader back.
    let single = start(&vhosts[1], "single_node = true");
    let _other = single.worker("two");
    let alone = submit(&single);
    assert_eq!(single.ended(alone).state, StateKind::Succeeded, "{}", single.log());

    cluster.program().good(&["broker", "declare", "--force"]);
    assert_eq!(cluster.ended(waiting).state, StateKind::Succeeded);
    until("all is well", || broker_of(&cluster)["fleets"].is_null().then_some(()));
    cluster.program().good(&["broker", "check"]);
    assert_eq!((cluster.publishes(), single.publishes()), (1, 1));
}
