//! What an operator is shown of a gateway, and what is done to it, against a stand-in.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::Duration;

use super::leases::{Chosen, Holder, list, rows_of};
use super::places::{Places, gateways};
use super::*;
use crate::publisher::gateway::stand_in::{Fault, StandIn, key};

const LATER: &str = "2098-11-21 04:52:37.871 +0000 UTC";

/// A configuration directory with one repository that has this gateway, one that has none, and one that is broken.
struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new(url: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = Self { dir };
        node.repository("r.org", &format!("gw,/srv/cvmfs/r.org/data/txn,{url}"));
        node.repository("local.org", "local,/srv/x/data/txn,/srv/x");
        node
    }

    fn repository(&self, name: &str, upstream: &str) {
        let (conf, spool) =
            (self.dir.path().join("repositories.d").join(name), self.dir.path().join("spool").join(name));
        fs::create_dir_all(&conf).unwrap();
        fs::create_dir_all(&spool).unwrap();
        let text = format!(
            "CVMFS_REPOSITORY_NAME={name}\nCVMFS_REPOSITORY_TYPE=stratum0\nCVMFS_SPOOL_DIR={}\n\
             CVMFS_UNION_DIR=/cvmfs/{name}\nCVMFS_STRATUM0=http://localhost/cvmfs/{name}\n\
             CVMFS_UPSTREAM_STORAGE={upstream}\n",
            spool.display()
        );
        fs::write(conf.join("server.conf"), text).unwrap();
    }

    fn token(&self, name: &str, token: &str) {
        fs::write(self.dir.path().join("spool").join(name).join("session_token"), token).unwrap();
    }

    fn place(&self) -> Where {
        Where { gateway: None, config_dir: self.dir.path().to_owned() }
    }
}

fn admin(stand_in: &StandIn) -> Gateway {
    Gateway::new(&stand_in.url(), Some(key()), Timeouts::default()).unwrap()
}

#[test]
fn a_lease_is_this_nodes_an_orphan_or_somebody_elses() {
    let stand_in = StandIn::start();
    let node = Node::new(&stand_in.url());
    node.token("r.org", "T1=");
    stand_in.add_lease("T1=", "r.org/mine", LATER, "thishost");
    stand_in.add_lease("T2=", "r.org/lost", LATER, "thishost");
    stand_in.add_lease("T3=", "r.org/other", LATER, "otherhost");
    stand_in.add_lease("T4=", "foreign.org/x", LATER, "thishost");
    let locals = Places::new(node.dir.path().to_owned()).locals(&mut Vec::new()).unwrap();
    assert_eq!(locals.len(), 1, "one has no gateway");
    let place = gateways(locals, None, None, timeouts()).unwrap().pop().unwrap();
    let found = |host| -> Vec<_> {
        let rows = rows_of(&place, host).unwrap();
        rows.into_iter().map(|row| (row.lease.path, row.holder)).collect()
    };
    let expected = [
        ("foreign.org/x", Holder::Elsewhere),
        ("r.org/lost", Holder::Orphan),
        ("r.org/mine", Holder::Here),
        ("r.org/other", Holder::Elsewhere),
    ];
    assert_eq!(found("thishost"), expected.map(|(path, holder)| (path.to_owned(), holder)));
    assert!(found("otherhost").iter().any(|(path, holder)| path == "r.org/other" && *holder == Holder::Orphan));
}

#[test]
fn leases_are_listed_for_one_repository_and_a_gateway_that_does_not_answer_is_named() {
    let stand_in = StandIn::start();
    let node = Node::new(&stand_in.url());
    stand_in.add_lease("T1=", "r.org/a", LATER, "h");
    stand_in.add_lease("T2=", "s.org/a", LATER, "h");
    let paths = |repository| -> Vec<_> {
        let (rows, faults) = list(&node.place(), repository).unwrap();
        assert!(faults.is_empty(), "{faults:?}");
        rows.into_iter().map(|row| row.lease.path).collect()
    };
    assert_eq!(paths(None), ["r.org/a", "s.org/a"]);
    assert_eq!(paths(Some("r.org")), ["r.org/a"]);
    let unknown = list(&node.place(), Some("local.org")).unwrap_err();
    assert!(unknown.to_string().contains("local.org"), "{unknown}");
    // The others are still shown.
    let bound = tokio::net::TcpSocket::new_v4().unwrap();
    bound.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = bound.local_addr().unwrap().port();
    node.repository("gone.org", &format!("gw,/x,http://127.0.0.1:{port}/api/v1"));
    node.repository("bad.org", "nonsense");
    let (rows, faults) = list(&node.place(), None).unwrap();
    assert_eq!(rows.len(), 2);
    assert!(faults.iter().any(|fault| fault.contains(&port.to_string())), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.contains("bad.org")), "{faults:?}");
}

#[test]
fn what_is_dropped_is_said_before_and_seen_to_be_gone() {
    let stand_in = StandIn::start();
    for (token, path) in [("T1=", "r.org/rel-1"), ("T2=", "r.org/rel-10"), ("T3=", "r.org/b")] {
        stand_in.add_lease(token, path, LATER, "h");
    }
    let chosen = Chosen::on(admin(&stand_in), "r.org", "rel-1").unwrap();
    assert_eq!(chosen.path, "r.org/rel-1");
    assert_eq!(chosen.leases.len(), 2, "the gateway compares texts");
    assert_eq!(chosen.drop().unwrap().len(), 2);
    assert_eq!(stand_in.state().leases.len(), 1);
    let chosen = Chosen::on(admin(&stand_in), "r.org", "b").unwrap();
    stand_in.state().faults.push_back(Fault::Answer(200, r#"{"status":"ok"}"#));
    let error = chosen.drop().unwrap_err();
    assert!(error.to_string().contains("r.org/b is still there"), "{error}");
}

#[test]
fn a_drain_disables_and_waits_until_the_last_lease_is_gone() {
    let stand_in = StandIn::start();
    stand_in.state().repositories.extend([("r.org".to_owned(), true), ("s.org".to_owned(), true)]);
    stand_in.add_lease("T1=", "r.org/a", LATER, "h");
    stand_in.add_lease("T2=", "s.org/a", LATER, "h");
    let switched = Switched::to(admin(&stand_in), vec!["r.org".into()], Some(false)).unwrap();
    let mut told = Vec::new();
    let drained = switched.wait_until_unused(Duration::from_secs(60), |left| {
        told.extend(left.iter().map(|lease| lease.path.clone()));
        stand_in.state().leases.remove("T1=");
        // It answers nothing for a while.
        stand_in.state().faults.push_back(Fault::CutBefore);
    });
    let drained = drained.unwrap();
    assert!(drained.left.is_empty());
    assert_eq!((drained.repositories, told), (vec!["r.org".to_owned()], vec!["r.org/a".to_owned()]));
    let enabled = |name: &str| stand_in.state().repositories[name];
    assert!(!enabled("r.org") && enabled("s.org"));

    Switched::to(admin(&stand_in), Vec::new(), Some(true)).unwrap();
    assert!(enabled("r.org"));
}

#[test]
fn a_drain_whose_time_is_over_names_what_is_left_and_one_without_a_key_only_waits() {
    let stand_in = StandIn::start();
    stand_in.state().repositories.insert("r.org".into(), true);
    stand_in.add_lease("T1=", "r.org/a", LATER, "h");
    let without_key = || Gateway::new(&stand_in.url(), None, Timeouts::default()).unwrap();
    let drained = Switched::to(without_key(), Vec::new(), None).unwrap();
    let drained = drained.wait_until_unused(Duration::ZERO, |_| ()).unwrap();
    assert_eq!(drained.left[0].path, "r.org/a");
    assert!(stand_in.state().repositories["r.org"], "nothing was disabled");
    assert!(Switched::to(without_key(), Vec::new(), Some(false)).is_err());
    assert!(Switched::to(without_key(), vec!["x.org".into()], None).is_err());
    let fault = Fault::Answer(200, r#"{"status":"error","reason":"no_admin_key"}"#);
    let gateway = admin(&stand_in);
    stand_in.state().faults.extend([
        Fault::Answer(200, r#"{"status":"ok","data":{"r.org":{"enabled":true}}}"#),
        Fault::Answer(200, r#"{"status":"ok","data":{"r.org":{"enabled":true}}}"#),
        fault,
    ]);
    let error = Switched::to(gateway, Vec::new(), Some(false)).err().unwrap();
    assert!(error.to_string().contains("--wait-only"), "{error:?}");
}
