//! The settings of every machine of the VM tests are good ones, and wrong ones are refused as the build of a NixOS machine refuses them.

use std::path::Path;
use std::process::{Command, Output};

use super::{evaluate, no_nix, root, write};

/// The very command that NixOS runs when it builds the settings file (`nixos-modules/shared.nix`).
fn check(file: &Path, role: &str) -> Output {
    let module = std::fs::read_to_string(root().join("nixos-modules/shared.nix")).unwrap();
    assert!(module.contains("conveyor --config ${file} check-config --role ${check.role} --without-secrets"));
    Command::new(env!("CARGO_BIN_EXE_conveyor"))
        .env_clear()
        .arg("--config")
        .arg(file)
        .args(["check-config", "--role", role, "--without-secrets"])
        .output()
        .unwrap()
}

/// The role whose file it is.
fn role(path: &str) -> Option<&'static str> {
    match path {
        "/etc/cvmfs/conveyor/server.toml" => Some("server"),
        "/etc/cvmfs/conveyor/worker.toml" => Some("worker"),
        "/etc/cvmfs/conveyor/notify.toml" => Some("notify"),
        "/etc/cvmfs/conveyor/config.toml" => Some("client"),
        _ => None,
    }
}

#[test]
fn settings_of_all_machines_of_the_vm_tests_are_accepted() {
    if no_nix() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for (scenario, machines) in evaluate("import ./nix/scenarios.nix").as_object().unwrap() {
        for (name, machine) in machines.as_object().unwrap() {
            for (path, file) in machine["files"].as_object().unwrap() {
                let Some(role) = role(path) else { continue };
                let written = write(directory.path(), "settings.toml", file["text"].as_str().unwrap());
                let answer = check(&written, role);
                assert!(
                    answer.status.success(),
                    "{scenario}, {name}, {path}: {}",
                    String::from_utf8_lossy(&answer.stderr)
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 0, "no scenario has a machine with settings");
}

/// Settings that Nix lets through, and what the program says of them.
const WRONG: [(&str, &str, &str); 6] = [
    ("server", "server.claim_expiry = 5", "unknown field `claim_expiry`"),
    ("server", "server.claim_expiry_s = 4", "[server] claim_expiry_s is 4; it must be between 5 and 3600"),
    ("server", "broker.url = \"amqp://localhost/cvmfs\"", "[broker] user is not set"),
    ("worker", "worker.isolation = \"maybe\"", "[worker] isolation is \"maybe\""),
    ("notify", "notify.verify = \"no\"", "[notify] verify must be \"required\" or \"off\""),
    ("worker", "worker.slots = \"many\"", "expected a number"),
];

#[test]
fn wrong_settings_are_refused_when_they_are_built() {
    if no_nix() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (role, setting, message) in WRONG {
        let expression = format!(
            "(import ./nix/machine.nix {{ services.conveyor.{role} = {{ enable = true; settings.{setting}; }}; }}).files.\"/etc/cvmfs/conveyor/{role}.toml\".text"
        );
        let written = write(directory.path(), "settings.toml", evaluate(&expression).as_str().unwrap());
        let answer = check(&written, role);
        let said = String::from_utf8_lossy(&answer.stderr);
        assert_eq!(answer.status.code(), Some(78), "{setting}: {said}");
        assert!(said.contains(message), "{setting}: {said}");
    }
}
