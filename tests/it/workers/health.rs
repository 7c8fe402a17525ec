//! Whitelists that expire: told in time, and jobs wait for a new one.

use conveyor::cvmfs::stratum0::Stratum0;
use conveyor::domain::job::state::StateKind;
use jiff::Timestamp;

use super::{server, shown};
use crate::harness::{Http, REPOSITORY, Server, job, until};

const DAY: i64 = 86_400;

/// Signs the first repository's whitelist as if so many days from now, for some days; the end of its validity.
fn sign(server: &Server, days_from_now: i64, valid_days: u32) -> i64 {
    let at = server.base().join("repositories").join(REPOSITORY);
    let stratum0 = Stratum0::at(at, REPOSITORY, server.base().join("keys"));
    stratum0.resign(valid_days, Timestamp::now().as_second() + days_from_now * DAY).unwrap().expires_at
}

fn page(server: &Server, path: &str) -> String {
    String::from_utf8(Http::new(server.url(), server.token()).get(path).body).unwrap()
}

#[test]
fn a_whitelist_that_expires_is_told_in_time_and_one_that_has_makes_jobs_wait_for_a_new_one() {
    let server = server(60);
    let expires = sign(&server, -3, 5);
    let mut one = server.worker("one");
    until("the worker warns", || {
        one.stderr().contains(&format!("the whitelist of {REPOSITORY} expires at")).then_some(())
    });
    let said = format!("one: the whitelist of {REPOSITORY} expires at");
    until("the server says so", || page(&server, "/readyz").contains(&said).then_some(()));
    let figure = format!("conveyor_repository_whitelist_expires_seconds{{repository=\"{REPOSITORY}\"}} {expires}\n");
    assert!(page(&server, "/metrics").contains(&figure), "{}", page(&server, "/metrics"));
    let told = server.run(&["workers"]).stderr;
    assert!(told.contains(&format!("warning: {said}")), "{told}");
    assert!(one.terminate().success());

    sign(&server, -3, 2);
    let _two = server.worker("two");
    let id = server.submit(job(REPOSITORY, "/x", server.script("echo x >x/x")));
    until("the job waits", || (server.view(id).state == StateKind::Backoff).then_some(()));
    let story = server.run(&["check", "-i", &id.to_string(), "--full-status"]).stdout;
    assert!(story.contains("expired at") && story.contains("conveyor repository resign"), "{story}");
    sign(&server, 0, 30);
    let ended = server.ended(id);
    assert_eq!((ended.state, ended.failures), (StateKind::Succeeded, 0), "{ended:?}");
    until("the fault is over", || shown(&server, "two").filter(|worker| worker.get("faults").is_none()));
}
