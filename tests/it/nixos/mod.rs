//! The Nix files and the program must not say different things: what `nix/` knows of settings is read by the program's own types.

mod defaults;
mod documents;
mod machines;
mod package;
mod rabbitmq;
mod refusals;
mod units;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::missing;

/// Whether there is a Nix; the test must return early where there is none.
fn no_nix() -> bool {
    let found = Command::new("nix-instantiate").arg("--version").output().is_ok();
    missing("nix", (!found).then(|| "there is no nix-instantiate (apt-get install nix-bin)".into()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Evaluates an expression, in which `nix/…` is the folder of this repository.
fn evaluation(expression: &str) -> Output {
    Command::new("nix-instantiate")
        // No store is needed for it, nor any account for builds.
        .args(["--store", "dummy://", "--eval", "--strict", "--json", "--expr", expression])
        .env("NIX_PATH", "")
        .current_dir(root())
        .output()
        .unwrap()
}

/// The value of an expression that must be good.
fn evaluate(expression: &str) -> Value {
    let output = evaluation(expression);
    assert!(output.status.success(), "{expression}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Writes a machine's settings where the program finds them.
fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}
