//! Workers that are killed.

use super::node::Node;
use crate::site::Setup;

/// Where a worker dies while all goes well, and where while it clears up after that.
const POINTS: &[&str] = &[
    "worker.claimed",
    "cvmfs-server.opening",
    "cvmfs-server.opened",
    "cvmfs-server.open",
    "worker.staged",
    "worker.permitted",
    "cvmfs-server.publishing",
    "cvmfs-server.published",
    "worker.published",
    "worker.reported",
];
const RECOVERY_POINTS: &[&str] = &[
    "worker.recovering",
    "cvmfs-server.processes-ended",
    "cvmfs-server.lease-dropped",
    "cvmfs-server.aborted",
    "worker.found",
];

pub(super) fn a_worker_killed_at_any_point_publishes_once(setup: Setup) {
    let Some(node) = Node::start(setup) else { return };
    let mut published = 0;
    for point in POINTS {
        let mut worker = node.worker_dying_at(point);
        let id = node.submit(node.file("/jobs", point, point));
        worker.wait();
        published += 1;
        check(&node, id, point, published);
    }
    for point in RECOVERY_POINTS {
        if *point == "cvmfs-server.lease-dropped" && !setup.gateway {
            continue;
        }
        // Dies with a publish under way, and its next life while it finds out what became of it.
        let mut worker = node.worker_dying_at("cvmfs-server.publishing");
        let id = node.submit(node.file("/jobs", point, point));
        worker.wait();
        node.worker_dying_at(point).wait();
        published += 1;
        check(&node, id, point, published);
    }
    node.assert_clean();
}

/// With a worker that lives, the job is published, and has been so once.
fn check(node: &Node, id: conveyor::domain::ids::JobId, point: &str, published: usize) {
    let mut worker = node.worker();
    let revision = node.all_succeed(&[id])[0];
    worker.terminate();
    let tags = node.site.batch_tags();
    assert_eq!(tags.len(), published, "after a death at {point}: {tags:?}");
    assert!(tags.iter().any(|tag| tag.revision == revision), "{point}: revision {revision} is not in {tags:?}");
    assert_eq!(node.site.published(&format!("jobs/{point}")).unwrap(), point.as_bytes());
}

pub(super) fn a_publish_that_stands_still_while_its_worker_dies_is_made_once(setup: Setup) {
    let Some(node) = Node::start(setup) else { return };
    let before = node.site.revision();
    let mut worker = node.worker();
    node.site.stop_commits(true);
    let id = node.submit(node.file("/jobs", "file", "content"));
    node.site.until_commit_is_stopped();
    worker.kill9();
    node.site.kill_publishers();
    assert!(node.site.batch_tags().is_empty());
    let mut worker = node.worker();
    // Behind a gateway the fence waits for the commit. It goes on now: what comes of it is this batch's.
    worker.said("the worker started", |_, log| log.contains("worker started").then_some(()));
    node.site.stop_commits(false);
    node.all_succeed(&[id]);
    assert_eq!(node.site.batch_tags().len(), 1);
    assert_eq!(node.site.revision(), before + 1);
    drop(worker);
    node.assert_clean();
}
