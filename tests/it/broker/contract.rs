//! What workers may rely on, however offers come: the same tests over HTTP and by RabbitMQ.

use conveyor::domain::job::spec::JobSpec;
use conveyor::domain::job::state::{JobState, StateKind};

use crate::harness::{Gate, OTHER, REPOSITORY, Server, job, until};

/// A job that waits at the gate and then adds a line to a file: running it twice shows.
fn gated(server: &Server, gate: &Gate, repository: &str) -> JobSpec {
    job(repository, "/x", server.script(&format!("{}\necho once >>x/x", gate.script())))
}

fn jobs_succeed_each_once(server: Server) {
    let _workers = [server.worker("one"), server.worker("two")];
    let jobs: Vec<_> =
        (0..12).map(|n| server.submit(job([REPOSITORY, OTHER][n % 2], "/x", server.script("echo x >>x/x")))).collect();
    for id in jobs {
        let ended = server.ended(id);
        assert_eq!((ended.state, ended.attempt), (StateKind::Succeeded, 1), "{ended:?}");
    }
    assert_eq!(server.publishes(), 6);
}

fn a_job_waits_for_the_first_worker(server: Server) {
    let id = server.submit(job(REPOSITORY, "/x", server.script("echo x >x/x")));
    let _worker = server.worker("one");
    assert_eq!(server.ended(id).state, StateKind::Succeeded);
}

fn workers_share(server: Server) {
    let _workers = [server.worker("one"), server.worker("two")];
    let gate = Gate::new();
    let jobs = [REPOSITORY, OTHER].map(|repository| server.submit(gated(&server, &gate, repository)));
    gate.until_runs(2);
    let mut nodes = jobs.map(|id| match server.view(id).status {
        JobState::Running { node, .. } => node,
        other => panic!("{other:?}"),
    });
    nodes.sort();
    assert_eq!(nodes, ["one", "two"]);
    gate.open();
    assert!(jobs.iter().all(|id| server.ended(*id).state == StateKind::Succeeded));
}

fn a_killed_worker_publishes_once(server: Server) {
    let mut worker = server.worker("one");
    let gate = Gate::new();
    let id = server.submit(gated(&server, &gate, REPOSITORY));
    gate.until_runs(1);
    worker.kill9();
    until("the loss is noticed", || (server.view(id).state == StateKind::Recovering).then_some(()));
    let _again = server.worker("one");
    gate.until_runs(2);
    gate.open();
    let ended = server.ended(id);
    assert_eq!((ended.state, ended.failures, ended.interruptions), (StateKind::Succeeded, 0, 1), "{ended:?}");
    assert_eq!((server.publishes(), gate.runs()), (1, 2));
}

fn a_killed_server_stops_nothing(mut server: Server) {
    let _worker = server.worker("one");
    let gate = Gate::new();
    let id = server.submit(gated(&server, &gate, REPOSITORY));
    gate.until_runs(1);
    let behind = server.submit(job(REPOSITORY, "/x", server.script("echo y >>x/x")));
    server.crash_and_restart();
    gate.open();
    let ended = server.ended(id);
    assert_eq!((ended.state, ended.attempt), (StateKind::Succeeded, 1), "{ended:?}");
    assert_eq!(server.ended(behind).state, StateKind::Succeeded);
    assert_eq!((server.publishes(), gate.runs()), (2, 1));
}

mod over_http {
    use crate::harness::Server;

    macro_rules! contract {
        ($($name:ident),*) => { $(
            #[test]
            fn $name() {
                super::$name(Server::start());
            }
        )* };
    }
    contract!(
        jobs_succeed_each_once,
        a_job_waits_for_the_first_worker,
        workers_share,
        a_killed_worker_publishes_once,
        a_killed_server_stops_nothing
    );
}

mod by_rabbitmq {
    use crate::broker::server;
    use crate::harness::{no_rabbit, shared};

    macro_rules! contract {
        ($($name:ident),*) => { $(
            #[test]
            fn $name() {
                if !no_rabbit() {
                    super::$name(server(shared().port(), &shared().vhost()));
                }
            }
        )* };
    }
    contract!(
        jobs_succeed_each_once,
        a_job_waits_for_the_first_worker,
        workers_share,
        a_killed_worker_publishes_once,
        a_killed_server_stops_nothing
    );
}
