//! systemd reads the units, and has nothing to say.

use super::root::{Root, no_systemd};
use super::{examples, values};

#[track_caller]
fn is_silent(root: &Root) {
    let run = root.verify();
    assert!(run.code == 0 && run.stdout.is_empty() && run.stderr.is_empty(), "{run:?}");
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    if no_systemd() {
        return;
    }
    is_silent(&Root::new());
}

#[test]
fn systemd_has_nothing_to_say_about_any_example_nor_all_together() {
    if no_systemd() {
        return;
    }
    let all = Root::new();
    for example in examples() {
        let alone = Root::new();
        alone.apply(&example);
        is_silent(&alone);
        all.apply(&example);
    }
    is_silent(&all);
}

#[test]
fn what_is_wrong_is_found() {
    if no_systemd() {
        return;
    }
    for (path, from, to, says) in [
        ("conveyor-worker.service", "WatchdogSec=", "WatchdgSec=", "WatchdgSec"),
        ("conveyor-server.service", "RestartSec=2s", "RestartSec=soon", "soon"),
        ("conveyor-server.service", "Requires=conveyor-server.socket", "Requires=other.socket", "other.socket"),
        ("conveyor-server.service", "ExecStart=/usr/bin/conveyor", "ExecStart=/usr/bin/absent", "/usr/bin/absent"),
    ] {
        let root = Root::new();
        let text = super::text(path);
        assert!(text.contains(from), "{path} has no {from}");
        root.write(&format!("usr/lib/systemd/system/{path}"), &text.replace(from, to));
        let run = root.verify();
        assert!(run.code != 0 && run.stderr.contains(says), "{path} {to}: {run:?}");
    }
}

/// Tenths, as `--threshold` has them: 1.5.
const MOST_EXPOSED: &str = "--threshold=15";

fn exposure(root: &Root) -> crate::harness::Run {
    root.run("systemd-analyze", &["security", "--offline=yes", MOST_EXPOSED, "--no-pager", "conveyor-server.service"])
}

#[test]
fn the_server_is_hardened_and_stays_so_with_any_example() {
    if no_systemd() {
        return;
    }
    for example in examples() {
        let root = Root::new();
        root.apply(&example);
        let run = exposure(&root);
        assert_eq!(run.code, 0, "with {}: {}", example.name, run.stdout);
    }
    let root = Root::new();
    let weaker = super::text("conveyor-server.service").replace("CapabilityBoundingSet=\n", "");
    root.write("usr/lib/systemd/system/conveyor-server.service", &weaker);
    assert_ne!(exposure(&root).code, 0, "a server with all capabilities passes");
}

#[test]
fn nothing_is_given_up_for_ever_and_wrong_settings_are_not_tried_again() {
    for unit in ["conveyor-server.service", "conveyor-worker.service"] {
        let text = super::text(unit);
        assert_eq!(values(&text, "StartLimitIntervalSec"), ["0"], "{unit}");
        assert_eq!(values(&text, "Restart"), ["always"], "{unit}");
        assert_eq!(values(&text, "RestartPreventExitStatus"), ["78"], "{unit}");
    }
    assert_eq!(conveyor::cli::failure::CONFIG, 78);
}
