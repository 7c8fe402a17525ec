//! What happens to jobs is told to whoever listens.

use std::collections::BTreeMap;

use conveyor::domain::job::LoggedEvent;
use conveyor::domain::job::state::StateKind;

use super::amqp::Amqp;
use super::{server, until_broker};
use crate::harness::{REPOSITORY, job, no_rabbit, shared};

#[test]
fn events_are_told_in_order_and_go_on_after_the_server_was_killed() {
    if no_rabbit() {
        return;
    }
    let vhost = shared().vhost();
    let mut server = server(shared().port(), &vhost);
    until_broker(&server, "up");
    let amqp = Amqp::connect(shared().port(), &vhost);
    let mut listener = amqp.listen("conveyor.events", "#");
    let _worker = server.worker("one");
    let mut jobs = Vec::new();
    for round in 0..3 {
        jobs.push(server.submit(job(REPOSITORY, "/x", server.script("echo x >>x/x"))));
        if round == 1 {
            server.crash_and_restart();
        }
        jobs.iter().for_each(|id| drop(server.ended(*id)));
    }
    let mut last: BTreeMap<_, (u64, StateKind)> = BTreeMap::new();
    let mut first = Vec::new();
    while jobs.iter().any(|id| last.get(id).is_none_or(|(_, state)| *state != StateKind::Succeeded)) {
        let (key, body) = amqp.next(&mut listener);
        let event: LoggedEvent = serde_json::from_slice(&body).unwrap();
        assert_eq!(key, format!("{REPOSITORY}.{}", event.state.as_str()));
        // Told again, perhaps; but never one before those in front of it.
        let known = last.get(&event.job_id).map_or(0, |(number, _)| *number);
        if event.number > known {
            last.insert(event.job_id, (event.number, event.state));
            first.push(event.number);
        }
    }
    assert!(first.is_sorted() && first.windows(2).all(|pair| pair[1] == pair[0] + 1), "none is left out: {first:?}");
}
