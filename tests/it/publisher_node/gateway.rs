//! A gateway that is lost at each step.

use std::time::Duration;

use super::node::Node;
use crate::harness::until;
use crate::site::{Fault, Setup};

pub(super) fn a_gateway_that_is_down_is_waited_for(setup: Setup) {
    let Some(mut node) = Node::start(setup) else { return };
    node.site.gateway_down();
    let _worker = node.worker();
    let id = node.submit(node.file("/jobs", "file", "content"));
    node.until_held_up(id, &[]);
    node.site.gateway_up();
    node.all_succeed(&[id]);
    assert_eq!(node.site.batch_tags().len(), 1);
    node.assert_clean();
}

/// A job is published once, whatever becomes of one request.
fn once_despite(setup: Setup, request: &'static str, fault: Fault) {
    let Some(node) = Node::start(setup) else { return };
    let before = node.site.revision();
    let wire = node.wire.as_ref().unwrap();
    wire.fail_at(request, fault);
    let _worker = node.worker();
    let id = node.submit(node.file("/jobs", "file", "content"));
    wire.until_happened();
    node.all_succeed(&[id]);
    assert_eq!(node.site.batch_tags().len(), 1);
    assert_eq!(node.site.revision(), before + 1);
    node.assert_clean();
}

pub(super) fn a_payload_that_does_not_arrive_is_sent_again(setup: Setup) {
    once_despite(setup, "POST /api/v1/payloads", Fault::CutBefore);
}

pub(super) fn a_commit_that_does_not_arrive_is_made_once(setup: Setup) {
    once_despite(setup, "POST /api/v1/leases/", Fault::CutBefore);
}

pub(super) fn a_commit_whose_answer_is_lost_is_made_once(setup: Setup) {
    once_despite(setup, "POST /api/v1/leases/", Fault::LoseAnswer);
}

/// What it knows of leases stays; with a lease from before it commits nothing.
pub(super) fn a_gateway_started_anew_before_the_commit_is_asked_again(setup: Setup) {
    let Some(mut node) = Node::start(setup) else { return };
    let before = node.site.revision();
    let wire = node.wire.as_ref().unwrap();
    wire.fail_at("POST /api/v1/leases/", Fault::Hold);
    let _worker = node.worker();
    let id = node.submit(node.file("/jobs", "file", "content"));
    wire.until_happened();
    node.site.gateway_down();
    node.site.gateway_up();
    wire.let_go();
    node.all_succeed(&[id]);
    assert_eq!(node.site.batch_tags().len(), 1);
    assert_eq!(node.site.revision(), before + 1);
    node.assert_clean();
}

pub(super) fn a_lease_that_expired_before_the_payload_is_taken_again(setup: Setup) {
    let Some(mut node) = Node::start(setup) else { return };
    node.site.set_lease_time(Duration::from_secs(3));
    let wire = node.wire.as_ref().unwrap();
    wire.fail_at("POST /api/v1/payloads", Fault::Hold);
    let _worker = node.worker();
    let id = node.submit(node.file("/jobs", "file", "content"));
    wire.until_happened();
    until("the lease has expired", || {
        let leases = reqwest::blocking::get(node.site.leases()).ok()?.text().ok()?;
        (!leases.contains(&node.site.name)).then_some(())
    });
    // The next one is not to expire while a busy machine publishes.
    node.site.set_lease_time(Duration::from_secs(7200));
    wire.let_go();
    node.all_succeed(&[id]);
    assert_eq!(node.site.batch_tags().len(), 1);
    node.assert_clean();
}

pub(super) fn two_publishers_of_one_gateway(setup: Setup) {
    let Some(node) = Node::start(setup) else { return };
    let other = node.site.other_publisher();
    let workers = [node.worker(), node.worker_on(&other, "two")];
    publish_twenty(&node);
    drop(workers);
    node.assert_clean();
}

pub(super) fn two_workers_of_one_node_publish_everything_once(setup: Setup) {
    let Some(node) = Node::start(setup) else { return };
    let _workers = [node.worker_with("one", |_| {}), node.worker_with("two", |_| {})];
    publish_twenty(&node);
    node.assert_clean();
}

fn publish_twenty(node: &Node) {
    let specs: Vec<_> =
        (0..20).map(|number| node.file(&format!("/path-{number}"), "file", &number.to_string())).collect();
    let ids = node.try_submit(&specs).unwrap();
    node.all_succeed(&ids);
    for number in 0..20 {
        assert_eq!(node.site.published(&format!("path-{number}/file")).unwrap(), number.to_string().as_bytes());
    }
    assert!(node.site.batch_tags().len() <= 20);
}
