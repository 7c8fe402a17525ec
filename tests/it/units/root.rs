//! A directory that systemd's tools take for a machine: our units, and stubs of what they name.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{Example, folder};
use crate::harness::{Run, missing};

pub(crate) const UNITS: [&str; 6] = [
    "conveyor-server.socket",
    "conveyor-server-notify.socket",
    "conveyor-server.service",
    "conveyor-worker.service",
    "conveyor-notify.socket",
    "conveyor-notify.service",
];
const TARGETS: [&str; 6] = ["sysinit", "basic", "shutdown", "sockets", "multi-user", "network"];

/// Whether a test must return early, since systemd's tools are not there.
pub(crate) fn no_systemd() -> bool {
    let there = Command::new("systemd-analyze").arg("--version").output().is_ok_and(|output| output.status.success());
    missing("units", (!there).then(|| "systemd-analyze is not installed (package systemd)".into()))
}

pub(crate) struct Root(TempDir);

impl Root {
    pub(crate) fn new() -> Self {
        let root = Self(TempDir::new().unwrap());
        for target in TARGETS {
            root.write(&format!("usr/lib/systemd/system/{target}.target"), "[Unit]\nDescription=a stub\n");
        }
        root.write("usr/lib/systemd/system/rabbitmq-server.service", "[Service]\nExecStart=/bin/kill\n");
        for program in ["usr/bin/conveyor", "bin/kill"] {
            root.program(program);
        }
        for unit in UNITS {
            root.write(&format!("usr/lib/systemd/system/{unit}"), &super::text(unit));
        }
        for kind in ["sysusers.d", "tmpfiles.d"] {
            root.write(&format!("usr/lib/{kind}/conveyor.conf"), &super::text(&format!("{kind}/conveyor.conf")));
        }
        root
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A stub of a program.
    pub(crate) fn program(&self, path: &str) {
        self.write(path, "#!/bin/sh\n");
        std::fs::set_permissions(self.path().join(path), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(super) fn apply(&self, example: &Example) {
        for unit in &example.units {
            assert!(folder().join(unit).exists(), "{} is for {unit}, which is not there", example.name);
            self.write(&format!("etc/systemd/system/{unit}.d/{}", example.name), &example.text);
        }
    }

    /// Runs one of systemd's tools on this root.
    pub(super) fn run(&self, tool: &str, arguments: &[&str]) -> Run {
        let mut command = Command::new(tool);
        command.arg("--root").arg(self.path()).args(arguments);
        Run::of(&command.output().unwrap_or_else(|error| panic!("{tool}: {error}")))
    }

    /// What systemd has to say about the units.
    pub(super) fn verify(&self) -> Run {
        self.verify_with(&[])
    }

    /// And about others beside them.
    pub(crate) fn verify_with(&self, others: &[&str]) -> Run {
        self.run("systemd-analyze", &[&["--man=no", "--recursive-errors=yes", "verify"][..], &UNITS, others].concat())
    }
}
