//! Restarts under load: the sockets stay, and with them whoever connects.

use std::time::{Duration, Instant};

use super::{Held, load};

/// Accepted jobs between two restarts.
const BETWEEN: usize = 250;
/// How long a server that stops waits for requests that do not end.
const GRACE: Duration = Duration::from_secs(10);

/// How often the server is restarted: `CONVEYOR_TEST_RESTARTS`, for long runs.
fn restarts() -> usize {
    std::env::var("CONVEYOR_TEST_RESTARTS").map_or(6, |text| text.parse().unwrap())
}

#[test]
fn a_restart_under_load_drops_no_request_and_loses_no_job() {
    let Some(mut held) = Held::open() else { return };
    held.serve();
    let mut longest = Duration::ZERO;
    let tally = load::run(&mut held, "restarts", |held, tally| {
        for _ in 0..restarts() {
            load::until_more(tally, BETWEEN);
            let told = Instant::now();
            assert!(held.server.process().terminate().success());
            longest = longest.max(told.elapsed());
            held.serve();
        }
        load::until_more(tally, BETWEEN);
    });
    println!("longest stop {longest:.0?}");
    let failed = tally.failures_of_raw();
    assert!(failed.is_empty(), "{} failed: {failed:#?}", failed.len());
    assert!(longest < GRACE, "nobody was waited for in vain: {longest:.0?}");
}

#[test]
fn a_server_that_is_killed_under_load_costs_nobody_who_tries_again_anything() {
    let Some(mut held) = Held::open() else { return };
    held.serve();
    load::run(&mut held, "kills", |held, tally| {
        for _ in 0..restarts() {
            load::until_more(tally, BETWEEN);
            held.server.process().kill9();
            held.serve();
        }
        load::until_more(tally, BETWEEN);
    });
}
