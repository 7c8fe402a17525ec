//! What the client says of each answer of a gateway.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::stand_in::{Fault, StandIn, key};
use super::*;

const LATER: &str = "2098-11-21 04:52:37.871 +0000 UTC";

fn limits() -> Timeouts {
    let patient = Duration::from_secs(60);
    Timeouts { connect: patient, answer: patient, commit: patient }
}

fn gateway(stand_in: &StandIn) -> Gateway {
    Gateway::new(&stand_in.url(), Some(key()), limits()).unwrap()
}

fn token(text: &str) -> SessionToken {
    SessionToken::new(text).unwrap()
}

#[test]
fn leases_are_listed_and_found_by_their_token() {
    let stand_in = StandIn::start();
    stand_in.add_lease("T1=", "r.org/a", LATER, "host1");
    stand_in.add_lease("T2=", "s.org/", "2098-11-21 05:52:37.871 +0100 CET", "");
    let gateway = Gateway::new(&format!("{}/", stand_in.url()), None, limits()).unwrap();
    let leases = gateway.leases().unwrap();
    let expires: Timestamp = "2098-11-21T04:52:37.871Z".parse().unwrap();
    let first = Lease { path: "r.org/a".into(), key_id: "key1".into(), expires, hostname: Some("host1".into()) };
    assert_eq!(leases["r.org/a"], first);
    assert_eq!(leases["s.org/"], Lease { path: "s.org/".into(), hostname: None, ..first.clone() });
    assert_eq!(gateway.lease(&token("T1=")).unwrap(), Some(first));
    assert_eq!(gateway.lease(&token("T3=")).unwrap(), None);
}

#[test]
fn a_lease_is_dropped_once_and_then_it_was_gone() {
    let stand_in = StandIn::start();
    stand_in.add_lease("T1=", "r.org/a", LATER, "host1");
    let gateway = gateway(&stand_in);
    assert_eq!(gateway.drop_lease(&token("T1=")).unwrap(), Dropped::Now);
    assert_eq!(gateway.drop_lease(&token("T1=")).unwrap(), Dropped::WasGone);
}

#[test]
fn a_wrong_key_is_refused_in_the_gateways_words_and_no_secret_is_told() {
    let stand_in = StandIn::start();
    stand_in.add_lease("T1=", "r.org/a", LATER, "host1");
    let wrong = GatewayKey::new("key1", "Other-secret").unwrap();
    let gateway = Gateway::new(&stand_in.url(), Some(wrong), limits()).unwrap();
    let error = gateway.drop_lease(&token("T1=")).unwrap_err();
    assert!(matches!(&error, GatewayError::Refused { reason, .. } if reason == "invalid_hmac"), "{error:?}");
    assert!(!error.is_outcome_unknown());
    let shown = format!("{error} {error:?} {gateway:?}");
    assert!(!shown.contains("Other-secret") && !shown.contains("T1="), "{shown}");
    let without = Gateway::new(&stand_in.url(), None, limits()).unwrap();
    assert!(matches!(without.drop_lease(&token("T1=")).unwrap_err(), GatewayError::NoKey { .. }));
    assert_eq!(stand_in.state().leases.len(), 1);
}

#[test]
fn dropping_waits_for_a_commit_that_runs() {
    let stand_in = StandIn::start();
    stand_in.add_lease("T1=", "r.org/a", LATER, "host1");
    stand_in.state().committing = true;
    let gateway = gateway(&stand_in);
    std::thread::scope(|scope| {
        let dropping = scope.spawn(|| gateway.drop_lease(&token("T1=")));
        stand_in.wait_for_requests(1);
        assert!(!dropping.is_finished());
        // The commit ends, and its lease with it.
        let mut state = stand_in.state();
        state.committing = false;
        state.leases.clear();
        drop(state);
        assert_eq!(dropping.join().unwrap().unwrap(), Dropped::WasGone);
    });
}

#[test]
fn a_commit_that_takes_too_long_leaves_the_outcome_unknown() {
    let stand_in = StandIn::start();
    stand_in.add_lease("T1=", "r.org/a", LATER, "host1");
    stand_in.state().committing = true;
    // Long enough to send the request on a busy machine.
    let limits = Timeouts { commit: Duration::from_secs(2), ..limits() };
    let gateway = Gateway::new(&stand_in.url(), Some(key()), limits).unwrap();
    let error = gateway.drop_lease(&token("T1=")).unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");
}

#[test]
fn what_was_sent_and_not_answered_is_told_from_what_was_not_sent() {
    let stand_in = StandIn::start();
    stand_in.add_lease("T1=", "r.org/a", LATER, "host1");
    let gateway = gateway(&stand_in);
    let foreign = "<html>bad gateway</html>";
    let faults = [
        Fault::CutBefore,
        Fault::Answer(502, foreign),
        Fault::Answer(200, foreign),
        Fault::Answer(200, ""),
        Fault::CutAfter,
    ];
    for fault in faults {
        stand_in.state().faults.push_back(fault.clone());
        let error = gateway.drop_lease(&token("T1=")).unwrap_err();
        assert!(error.is_outcome_unknown(), "{fault:?}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("T1="), "{error:?}");
    }
    assert_eq!(stand_in.state().seen.len(), 5, "nothing was sent twice");
    assert_eq!(gateway.drop_lease(&token("T1=")).unwrap(), Dropped::WasGone);

    // Nobody listens there, and nobody else gets it.
    let bound = tokio::net::TcpSocket::new_v4().unwrap();
    bound.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = bound.local_addr().unwrap().port();
    let nowhere = Gateway::new(&format!("http://127.0.0.1:{port}/api/v1"), Some(key()), limits()).unwrap();
    let error = nowhere.drop_lease(&token("T1=")).unwrap_err();
    assert!(matches!(error, GatewayError::Unreachable { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("T1="), "{error:?}");
}

#[test]
fn an_error_with_status_200_is_an_error_and_so_is_one_in_plain_text() {
    let stand_in = StandIn::start();
    let gateway = gateway(&stand_in);
    for (fault, words) in [
        (Fault::Answer(200, r#"{"status":"error","reason":"database is locked"}"#), "database is locked"),
        (Fault::Answer(200, r#"{"status":"path_busy","time_remaining":"4.9s"}"#), "path_busy"),
        (Fault::Answer(500, "database is locked\n"), "database is locked"),
    ] {
        stand_in.state().faults.push_back(fault);
        let error = gateway.leases().unwrap_err();
        assert!(matches!(&error, GatewayError::Refused { reason, .. } if reason == words), "{error:?}");
    }
}

#[test]
fn refreshing_is_tried_once_where_it_is_not_offered() {
    let stand_in = StandIn::start();
    stand_in.add_lease("T1=", "r.org/a", LATER, "host1");
    let gateway = gateway(&stand_in);
    assert_eq!(gateway.refresh(&token("T1=")).unwrap(), Refreshed::NotOffered);
    assert_eq!(gateway.refresh(&token("T1=")).unwrap(), Refreshed::NotOffered);
    assert!(!gateway.offers_refresh().unwrap());
    assert_eq!(stand_in.state().seen.len(), 1);
}

#[test]
fn a_newer_gateway_refreshes_what_is_there() {
    let stand_in = StandIn::start();
    stand_in.add_lease("T1=", "r.org/a", LATER, "host1");
    stand_in.state().newer = true;
    let gateway = gateway(&stand_in);
    let end: Timestamp = "2099-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(gateway.refresh(&token("T1=")).unwrap(), Refreshed::Until(end));
    assert_eq!(gateway.refresh(&token("T9=")).unwrap(), Refreshed::Gone);
    // Said without the new end, it is asked for; a 404 about the lease is none about the call.
    stand_in.state().faults.push_back(Fault::Answer(200, r#"{"status":"ok"}"#));
    assert_eq!(gateway.refresh(&token("T1=")).unwrap(), Refreshed::Until(end));
    stand_in.state().faults.push_back(Fault::Answer(404, "invalid lease"));
    assert_eq!(gateway.refresh(&token("T1=")).unwrap(), Refreshed::Gone);
}

#[test]
fn a_fence_closes_with_the_answer_of_an_old_gateway_and_with_the_end_of_the_lease_of_a_newer_one() {
    let stand_in = StandIn::start();
    stand_in.add_lease("T1=", "r.org/a", LATER, "host1");
    assert_eq!(gateway(&stand_in).fence(&token("T1="), None).unwrap(), Fence::Closed);
    assert!(stand_in.state().leases.is_empty());

    stand_in.state().newer = true;
    stand_in.add_lease("T1=", "r.org/a", LATER, "host1");
    let gateway = gateway(&stand_in);
    let until = "2098-11-21T04:53:37.871Z".parse().unwrap();
    assert_eq!(gateway.fence(&token("T1="), None).unwrap(), Fence::Open { until });
    assert!(stand_in.state().leases.is_empty());
    let known: Timestamp = "2098-11-21T04:52:37.871Z".parse().unwrap();
    assert_eq!(gateway.fence(&token("T1="), Some(known)).unwrap(), Fence::Open { until });
    assert_eq!(gateway.fence(&token("T1="), None).unwrap(), Fence::Unknown);
    let past = "2020-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(gateway.fence(&token("T1="), Some(past)).unwrap(), Fence::Closed);
}

#[test]
fn a_repository_is_disabled_and_that_is_looked_at() {
    let stand_in = StandIn::start();
    stand_in.state().repositories.insert("r.org".into(), true);
    let gateway = gateway(&stand_in);
    gateway.set_enabled("r.org", false).unwrap();
    assert!(!gateway.repositories().unwrap()["r.org"].enabled);
    gateway.set_enabled("r.org", true).unwrap();
    stand_in.state().disables_nothing = true;
    assert!(matches!(gateway.set_enabled("r.org", false).unwrap_err(), GatewayError::Refused { .. }));
    let error = gateway.set_enabled("x.org", false).unwrap_err();
    assert!(matches!(&error, GatewayError::Refused { reason, .. } if reason == "invalid_repo"), "{error:?}");
}

#[test]
fn leases_are_dropped_by_path_as_far_as_the_gateway_compares() {
    let stand_in = StandIn::start();
    for (token, path) in [("T1", "r.org/rel-1"), ("T2", "r.org/rel-10/x"), ("T3", "r.org/b"), ("T4", "s.org/rel-1")] {
        stand_in.add_lease(token, path, LATER, "h");
    }
    let gateway = gateway(&stand_in);
    let found = gateway.leases_that_begin("r.org", "/rel-1").unwrap();
    assert_eq!(found.iter().map(|lease| &*lease.path).collect::<Vec<_>>(), ["r.org/rel-1", "r.org/rel-10/x"]);
    gateway.drop_by_path("r.org", "/rel-1").unwrap();
    assert_eq!(stand_in.state().leases.keys().cloned().collect::<Vec<_>>(), ["T3", "T4"]);
    stand_in.add_lease("T5", "r.org/a b", LATER, "h");
    gateway.drop_by_path("r.org", "/a b").unwrap();
    gateway.drop_by_path("r.org", "/").unwrap();
    assert_eq!(stand_in.state().leases.keys().cloned().collect::<Vec<_>>(), ["T4"]);
}

#[test]
fn a_collection_says_what_to_keep() {
    let stand_in = StandIn::start();
    let gateway = gateway(&stand_in);
    let keep = Collection { revisions: 3, dry_run: true, ..Collection::default() };
    let output = gateway.collect("r.org", &keep).unwrap();
    assert_eq!(output, r#"gc {"repo":"r.org","num_revisions":3,"dry_run":true,"verbose":false}"#);
    let keep = Collection { timestamp: Some("2026-11-21T00:00:00Z".parse().unwrap()), ..Collection::default() };
    assert!(gateway.collect("r.org", &keep).unwrap().contains(r#""timestamp":"2026-11-21T00:00:00Z""#));
}

#[test]
fn only_the_address_of_a_gateway_is_taken() {
    for bad in ["", "gateway", "gateway:4929", "ftp://h/api/v1", "http://"] {
        assert!(matches!(Gateway::new(bad, None, limits()), Err(GatewayError::Address { .. })), "{bad:?}");
    }
}
