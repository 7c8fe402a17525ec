//! What has to be known of `cvmfs_server` beside its answers.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;

use crate::harness::{Daemon, until};
use crate::site::{Setup, Site};

const STANDIN: Setup = Setup { real: false, gateway: false };
const STANDIN_GATEWAY: Setup = Setup { real: false, gateway: true };

fn written(site: &Site) {
    site.good(&["transaction", &site.name]);
    site.write("file", "content");
}

/// A publish that goes on by itself, in a process group of its own.
fn publish(site: &Site) -> Daemon {
    Daemon::start(Command::new(&site.command).args(["publish", "-a", "cj-trap", &site.name]).current_dir("/"))
}

fn is_publishing(site: &Site) -> bool {
    let file = fs::File::open(site.spool.join("is_publishing.lock"));
    file.is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err())
}

/// Who is killed has let go of its locks a moment later.
fn until_nobody_publishes(site: &Site) {
    until("the publish has ended", || (!is_publishing(site)).then_some(()));
}

fn a_publish_killed_in_the_middle(setup: Setup) {
    let Some(site) = Site::new(setup) else { return };
    let before = site.revision();
    written(&site);
    site.stop_commits(true);
    let mut publish = publish(&site);
    site.until_commit_is_stopped();
    assert!(is_publishing(&site));
    publish.kill9();
    site.kill_publishers();
    site.stop_commits(false);
    // The flag and the changes stay, nobody publishes, and the mount is read-only.
    assert!(site.is_in_transaction());
    until_nobody_publishes(&site);
    assert_eq!(fs::read(site.spool.join("scratch/current/file")).unwrap(), b"content");
    assert!(fs::write(site.union.join("other"), "").is_err());
    assert_eq!(site.run(&["transaction", &site.name]).code, 1);
    assert_eq!(site.run(&["publish", &site.name]).code, 1);
    site.good(&["abort", "-f", &site.name]);
    assert!(!site.is_in_transaction());
    assert_eq!((site.revision(), site.batch_tags().len()), (before, 0));
    written(&site);
    site.good(&["publish", &site.name]);
}

#[test]
fn a_publish_killed_in_the_middle_leaves_flag_and_changes() {
    a_publish_killed_in_the_middle(STANDIN);
}

#[test]
fn a_real_publish_killed_in_the_middle_leaves_flag_and_changes() {
    a_publish_killed_in_the_middle(Setup { real: true, gateway: false });
}

#[test]
fn a_publish_killed_behind_the_flip_was_made_and_abort_does_not_undo_it() {
    let Some(site) = Site::new(STANDIN) else { return };
    let before = site.revision();
    written(&site);
    site.fault("publish", "kill-flipped");
    let mut publish = publish(&site);
    assert!(!publish.wait().success());
    site.fault("publish", "");
    assert_eq!(site.batch_tags().len(), 1);
    assert!(site.is_in_transaction());
    site.good(&["abort", "-f", &site.name]);
    assert_eq!((site.revision(), site.published("file").unwrap()), (before + 1, b"content".to_vec()));
}

#[test]
fn a_publish_outlives_its_shell_and_keeps_its_lock() {
    let Some(site) = Site::new(STANDIN) else { return };
    written(&site);
    site.stop_commits(true);
    let mut publish = publish(&site);
    site.until_commit_is_stopped();
    publish.send(Signal::SIGKILL);
    publish.wait();
    assert!(is_publishing(&site));
    let refused = site.run(&["publish", &site.name]);
    assert!(refused.stderr.contains("Another publish process is active"), "{refused:?}");
    assert_eq!(site.run(&["abort", "-f", &site.name]).code, 22);
    site.stop_commits(false);
    until_nobody_publishes(&site);
    assert_eq!(site.batch_tags().len(), 1);
}

fn sigterm_to_the_shell(setup: Setup) {
    let Some(site) = Site::new(setup) else { return };
    written(&site);
    site.stop_commits(true);
    let mut publish = publish(&site);
    site.until_commit_is_stopped();
    publish.signal();
    site.stop_commits(false);
    assert!(publish.wait().success(), "{}{}", publish.stdout(), publish.stderr());
    assert_eq!(site.batch_tags().len(), 1);
}

#[test]
fn sigterm_to_the_shell_alone_is_survived() {
    sigterm_to_the_shell(STANDIN);
}

#[test]
fn sigterm_to_the_real_shell_alone_is_survived() {
    sigterm_to_the_shell(Setup { real: true, gateway: false });
}

fn flags_of_transactions(setup: Setup) {
    let Some(site) = Site::new(setup) else { return };
    let mut born = Vec::new();
    for _ in 0..2 {
        site.good(&["transaction", &site.name]);
        let flag = fs::metadata(site.spool.join("in_transaction.lock")).unwrap();
        assert_eq!((flag.len(), flag.mode() & 0o777, flag.uid()), (0, 0o600, 0));
        born.push(flag.created().unwrap());
        site.good(&["abort", "-f", &site.name]);
    }
    assert!(born[0] < born[1]);
}

#[test]
fn the_flag_of_a_transaction_is_a_new_empty_file() {
    flags_of_transactions(STANDIN);
}

#[test]
fn the_real_flag_of_a_transaction_is_a_new_empty_file() {
    flags_of_transactions(Setup { real: true, gateway: false });
}

fn what_is_outside_a_lease(setup: Setup) {
    let Some(site) = Site::new(setup) else { return };
    site.good(&["transaction", &format!("{}/leased", site.name)]);
    fs::create_dir(site.union.join("leased")).unwrap();
    site.write("leased/file", "content");
    site.write("outside", "content");
    site.good(&["publish", &site.name]);
    assert_eq!(site.published("leased/file").unwrap(), b"content");
    assert_eq!(site.published("outside"), None);
}

#[test]
fn what_is_outside_a_lease_is_dropped_without_a_word() {
    what_is_outside_a_lease(STANDIN_GATEWAY);
}

#[test]
fn what_is_outside_a_real_lease_is_dropped_without_a_word() {
    what_is_outside_a_lease(Setup { real: true, gateway: true });
}

fn a_commit_outlives_its_publisher(setup: Setup) {
    let Some(site) = Site::new(setup) else { return };
    let before = site.revision();
    written(&site);
    let token = fs::read_to_string(site.spool.join("session_token")).unwrap();
    site.stop_commits(true);
    let mut publish = publish(&site);
    site.until_commit_is_stopped();
    publish.kill9();
    site.kill_publishers();
    assert_eq!(site.revision(), before);
    std::thread::scope(|scope| {
        let dropping = scope.spawn(|| site.drop_lease(&token));
        site.stop_commits(false);
        dropping.join().unwrap();
    });
    // It has answered behind the commit.
    assert_eq!((site.revision(), site.batch_tags().len()), (before + 1, 1));
    site.good(&["abort", "-f", &site.name]);
    assert_eq!(site.published("file").unwrap(), b"content");
}

#[test]
fn a_commit_outlives_its_publisher_and_holds_up_who_drops_the_lease() {
    a_commit_outlives_its_publisher(STANDIN_GATEWAY);
}

#[test]
fn a_real_commit_outlives_its_publisher_and_holds_up_who_drops_the_lease() {
    a_commit_outlives_its_publisher(Setup { real: true, gateway: true });
}

#[test]
fn of_two_publishers_with_one_tag_one_commits() {
    let Some(site) = Site::new(STANDIN_GATEWAY) else { return };
    let other = site.other_publisher();
    let run = |words: &[&str]| Command::new(&other.command).args(words).current_dir("/").output().unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|path| format!("{}/{path}", site.name));
    site.good(&["transaction", &ours]);
    assert!(run(&["transaction", &theirs]).status.success());
    site.stop_commits(true);
    let mut publish = publish(&site);
    site.until_commit_is_stopped();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| run(&["publish", "-a", "cj-trap", &site.name]));
        site.stop_commits(false);
        assert!(publish.wait().success());
        assert!(!second.join().unwrap().status.success());
    });
    assert_eq!(site.batch_tags().len(), 1);
    assert!(run(&["abort", "-f", &site.name]).status.success());
}
