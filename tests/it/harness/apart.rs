//! Files that are written by a child. What this process has open for writing, a child that another test has just forked has
//! open too, until its exec: a program that is started meanwhile is busy, and so is a mount.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a file.
#[track_caller]
pub(crate) fn write_apart(path: &Path, content: impl AsRef<[u8]>) {
    let mut child = Command::new("sh").args(["-c", "cat >\"$0\""]).arg(path).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(content.as_ref()).unwrap();
    assert!(child.wait().unwrap().success(), "cannot write {}", path.display());
}

/// Writes a script that can be run.
#[track_caller]
pub(crate) fn script_apart(path: &Path, text: &str) {
    write_apart(path, text);
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(path, mode).unwrap();
}

/// Copies a program.
#[track_caller]
pub(crate) fn copy_apart(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("--").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "cannot copy {} to {}", from.display(), to.display());
}
