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
        ("conveyor-server.service", "RestartSec=500ms", "RestartSec=soon", "soon"),
        ("conveyor-server.service", "Requires=conveyor-server.socket", "Requires=other.socket", "other.socket"),
        ("conveyor-server-notify.socket", "ListenStream=4930", "ListenStream=493000", "493000"),
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

/// What needs no rights of its own.
const HARDENED: [&str; 2] = ["conveyor-server.service", "conveyor-notify.service"];
/// Tenths, as `--threshold` has them: 1.5.
const MOST_EXPOSED: &str = "--threshold=15";

fn exposure(root: &Root, unit: &str) -> crate::harness::Run {
    root.run("systemd-analyze", &["security", "--offline=yes", MOST_EXPOSED, "--no-pager", unit])
}

#[test]
fn server_and_notifications_are_hardened_and_stay_so_with_any_example() {
    if no_systemd() {
        return;
    }
    for example in examples() {
        let root = Root::new();
        root.apply(&example);
        for unit in HARDENED {
            let run = exposure(&root, unit);
            assert_eq!(run.code, 0, "{unit} with {}: {}", example.name, run.stdout);
        }
    }
    for unit in HARDENED {
        let root = Root::new();
        let weaker = super::text(unit).replace("CapabilityBoundingSet=\n", "");
        root.write(&format!("usr/lib/systemd/system/{unit}"), &weaker);
        assert_ne!(exposure(&root, unit).code, 0, "{unit} with all capabilities passes");
    }
}

#[test]
fn nothing_is_given_up_for_ever_and_wrong_settings_are_not_tried_again() {
    for unit in ["conveyor-server.service", "conveyor-worker.service", "conveyor-notify.service"] {
        let text = super::text(unit);
        assert_eq!(values(&text, "StartLimitIntervalSec"), ["0"], "{unit}");
        assert_eq!(values(&text, "Restart"), ["always"], "{unit}");
        assert_eq!(values(&text, "RestartPreventExitStatus"), ["78"], "{unit}");
    }
    assert_eq!(conveyor::cli::failure::CONFIG, 78);
}
