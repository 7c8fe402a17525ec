//! Workers that are killed.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::node::Node;
use crate::harness::until;
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
    let before = node.site.revision();
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
    assert_eq!(node.site.revision(), before + published as u64);
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
    let id = killed_in_commit(&node);
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

/// The mount that a remount leaves behind inherits the lock of its publish, which a publish that is killed then leaves held.
pub(super) fn a_lock_that_a_killed_publish_left_to_a_mount_holds_up_nobody(setup: Setup) {
    let Some(node) = Node::start(setup) else { return };
    let id = killed_in_commit(&node);
    node.site.stop_commits(false);
    let mount = Mount::with_lock_of(&node);
    let worker = node.worker();
    node.all_succeed(&[id]);
    assert_eq!(node.site.batch_tags().len(), 1);
    drop(worker);
    node.assert_clean();
    drop(mount);
}

/// A job whose worker and publish died while its commit stood still, which it still does.
fn killed_in_commit(node: &Node) -> conveyor::domain::ids::JobId {
    let mut worker = node.worker();
    node.site.stop_commits(true);
    let id = node.submit(node.file("/jobs", "file", "content"));
    node.site.until_commit_is_stopped();
    worker.kill9();
    node.site.kill_publishers();
    id
}

/// A process that passes for a repository's mount; ends when dropped.
struct Mount(std::process::Child);

impl Mount {
    fn with_lock_of(node: &Node) -> Self {
        let program = node.site.place().join("cvmfs2");
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let path = node.site.spool.join("is_publishing.lock");
        let file = std::fs::File::options().write(true).create(true).truncate(false).open(path).unwrap();
        // Not by a guard: it would unlock it for all who have it.
        until("the lock is free", || file.try_lock().ok());
        Self(std::process::Command::new(program).arg("600").stdout(file).spawn().unwrap())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Every moment of a batch lasts some hundredths of a second, so that each is met sooner or later.
pub(super) fn a_worker_or_publish_killed_at_any_moment_publishes_once(setup: Setup) {
    const ROUNDS: usize = 15;
    const LONGEST_MS: u64 = 1500;
    let Some(node) = Node::start(setup) else { return };
    let before = node.site.revision();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut ids = Vec::new();
    for round in 0..ROUNDS {
        let mut worker = node.worker();
        worker.said("the worker started", |_, log| log.contains("worker started").then_some(()));
        ids.push(node.submit(node.file(&format!("/path-{round}"), "file", &round.to_string())));
        let moment = Instant::now() + Duration::from_millis(random.random_range(0..LONGEST_MS));
        until("the moment has come", || (Instant::now() >= moment).then_some(()));
        match random.random_range(0..3) {
            // The machine.
            0 => {
                worker.kill9();
                node.site.kill_publishers();
            }
            // The worker alone: its publish goes on.
            1 => worker.kill9(),
            // The publish alone.
            _ => node.site.kill_publishers(),
        }
    }
    let _worker = node.worker();
    node.all_succeed(&ids);
    for round in 0..ROUNDS {
        let published = node.site.published(&format!("path-{round}/file"));
        assert_eq!(published.unwrap(), round.to_string().as_bytes());
    }
    let publishes = node.site.batch_tags().len();
    assert!(publishes <= ROUNDS, "{publishes} publishes of {ROUNDS} jobs");
    assert_eq!(node.site.revision(), before + publishes as u64);
    node.assert_clean();
}
