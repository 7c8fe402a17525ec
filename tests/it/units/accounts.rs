//! Accounts and directories, made by systemd in a root of the test's own.

use std::os::unix::fs::MetadataExt;

use super::root::{Root, no_systemd};
use crate::harness::missing;

#[test]
fn accounts_and_directories_are_made_by_systemd() {
    let root_only = || (!nix::unistd::geteuid().is_root()).then(|| "only root can make accounts in a root".into());
    if no_systemd() || missing("units", root_only()) {
        return;
    }
    let root = Root::new();
    root.write("etc/hostname", "units\n");
    let run = root.run("systemd-sysusers", &[]);
    assert_eq!(run.code, 0, "{run:?}");
    let passwd = std::fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    for (account, home) in [
        ("conveyor", "/var/lib/conveyor"),
        ("conveyor-worker", "/var/lib/conveyor-worker"),
        ("conveyor-notify", "/var/lib/conveyor-notify"),
    ] {
        let line = passwd.lines().find(|line| line.starts_with(&format!("{account}:"))).unwrap();
        let parts: Vec<_> = line.split(':').collect();
        assert!(parts[5] == home && parts[6].ends_with("/nologin"), "{line}");
    }
    let run = root.run("systemd-tmpfiles", &["--create"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    let made = std::fs::metadata(root.path().join("run/conveyor")).unwrap();
    assert_eq!((made.mode() & 0o7777, made.uid()), (0o755, 0));
}
