//! What goes wrong around a publish.

use std::process::Command;

use conveyor::domain::job::state::StateKind;

use super::node::Node;
use crate::harness::{Daemon, until};
use crate::site::Setup;

pub(super) fn a_persons_transaction_is_waited_for_and_never_touched(setup: Setup) {
    let Some(node) = Node::start(setup) else { return };
    node.site.good(&["transaction", &node.site.name]);
    node.site.write("by-hand", "a person's");
    let lock = std::fs::metadata(node.site.spool.join("in_transaction.lock")).unwrap();
    let _worker = node.worker();
    let id = node.submit(node.file("/jobs", "file", "a job's"));
    let by_the_person = ["of uid 0 (root), open since 20"];
    node.until_held_up(id, &by_the_person);
    // It is asked for again and again, and stays as it is.
    until("the job was tried more than once", || {
        let state = node.view(id).state;
        (state == StateKind::Offered || state == StateKind::Running).then_some(())
    });
    node.until_held_up(id, &by_the_person);
    let now = std::fs::metadata(node.site.spool.join("in_transaction.lock")).unwrap();
    assert_eq!(now.created().unwrap(), lock.created().unwrap());
    assert_eq!(std::fs::read(node.site.union.join("by-hand")).unwrap(), b"a person's");
    node.site.good(&["publish", "-a", "by-hand", &node.site.name]);
    node.all_succeed(&[id]);
    assert_eq!(node.site.published("by-hand").unwrap(), b"a person's");
    assert_eq!(node.site.published("jobs/file").unwrap(), b"a job's");
    assert_eq!(node.site.batch_tags().len(), 1);
    node.assert_clean();
}

/// A container, say, that was started while the repository was mounted: `cvmfs_server` would wait for it for ever, after the
/// revision is there.
pub(super) fn who_keeps_the_mounts_elsewhere_is_named_and_waited_for(setup: Setup) {
    let Some(node) = Node::start(setup) else { return };
    // The repositories of other tests are none of its business.
    let script = format!(
        "awk '$2 ~ /t[0-9]+-[0-9]+.example.org/ && index($2, \"{}\") == 0 {{ print $2 }}' /proc/mounts | \
         xargs -r umount -l; echo ready; exec sleep 100000",
        node.site.name
    );
    let mut holder = Command::new("unshare");
    holder.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    let mut holder = Daemon::start(&mut holder);
    holder.said("the name space is there", |stdout, _| stdout.contains("ready").then_some(()));
    let _worker = node.worker();
    let id = node.submit(node.file("/jobs", "file", "content"));
    node.until_held_up(id, &[&holder.id().to_string()]);
    assert!(node.site.batch_tags().is_empty());
    holder.kill9();
    node.all_succeed(&[id]);
    assert_eq!(node.site.batch_tags().len(), 1);
    node.assert_clean();
}

pub(super) fn a_web_server_that_is_down_is_waited_for(setup: Setup) {
    let Some(mut node) = Node::start(setup) else { return };
    node.site.web.down();
    let _worker = node.worker();
    let id = node.submit(node.file("/jobs", "file", "content"));
    node.until_held_up(id, &[]);
    node.site.web.up();
    node.all_succeed(&[id]);
    assert_eq!(node.site.batch_tags().len(), 1);
    node.assert_clean();
}

pub(super) fn an_expired_whitelist_is_waited_for_and_publishes_nothing(setup: Setup) {
    let Some(node) = Node::start(setup) else { return };
    let before = node.site.revision();
    node.site.expire_whitelist(true);
    let _worker = node.worker();
    let id = node.submit(node.file("/jobs", "file", "content"));
    node.until_held_up(id, &["whitelist", "resign"]);
    assert_eq!(node.site.revision(), before);
    node.site.expire_whitelist(false);
    node.all_succeed(&[id]);
    node.assert_clean();
}

pub(super) fn a_full_spool_is_waited_for(setup: Setup) {
    let Some(node) = Node::start(setup) else { return };
    node.site.fault("publish", "no-space");
    let _worker = node.worker();
    let id = node.submit(node.file("/jobs", "file", "content"));
    node.until_held_up(id, &["No space left on device"]);
    assert!(node.site.batch_tags().is_empty());
    node.site.fault("publish", "");
    node.all_succeed(&[id]);
    assert_eq!(node.site.batch_tags().len(), 1);
    node.assert_clean();
}

/// `cvmfs_server` says that it has published, and there is nothing: nobody but a person may say that it may be done again.
pub(super) fn a_success_without_a_revision(setup: Setup) {
    let Some(node) = Node::start(setup) else { return };
    node.site.fault("publish", "no-revision");
    let mut worker = node.worker();
    let id = node.submit(node.file("/jobs", "file", "content"));
    worker.said("it was looked for again and again", |_, log| {
        (log.matches("looked for the publish of a lost batch").count() > 1).then_some(())
    });
    assert!(worker.stderr().contains("reported that it had published"), "{}", worker.stderr());
    assert_eq!(node.view(id).state, StateKind::Recovering);
    assert!(node.site.batch_tags().is_empty());
}

/// The mount of the new revision never comes about, as when another mount namespace holds the old one.
pub(super) fn a_remount_that_hangs(setup: Setup) {
    let Some(node) = Node::start(setup) else { return };
    node.site.fault("publish", "hang-after-flip");
    let _worker = node.worker();
    let id = node.submit(node.file("/jobs", "file", "content"));
    node.all_succeed(&[id]);
    node.site.fault("publish", "");
    assert_eq!(node.site.batch_tags().len(), 1);
    node.publish(node.file("/jobs", "other", "content"));
    assert_eq!(node.site.batch_tags().len(), 2);
    node.assert_clean();
}
