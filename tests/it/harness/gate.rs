//! Something outside of Conveyor that scripts wait for and write to.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::stat::Mode;

use super::until;

/// Ends the thread that counts.
const END: &str = "end";

/// A directory that every account can look into: a gate to hold scripts at, and a ledger that they sign.
///
/// An isolated script can write nowhere but in its lease path, and has a `/tmp` of its own; but it can write into a pipe that
/// it can see. So the ledger is one, and stands elsewhere.
pub(crate) struct Gate {
    directory: tempfile::TempDir,
    signatures: Arc<AtomicUsize>,
    /// Keeps the pipe open, so that signing it never waits.
    ledger: Mutex<File>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        // Scripts of a root's worker belong to somebody who may not enter where this is built.
        let place = if nix::unistd::geteuid().is_root() { "/run" } else { env!("CARGO_TARGET_TMPDIR") };
        let directory = tempfile::Builder::new().prefix("conveyor-gate-").tempdir_in(place).unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let path = directory.path().join("ledger");
        nix::unistd::mkfifo(&path, Mode::empty()).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let ledger = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let signatures = Arc::new(AtomicUsize::new(0));
        let (lines, counted) = (BufReader::new(File::open(&path).unwrap()).lines(), Arc::clone(&signatures));
        std::thread::spawn(move || {
            for _ in lines.map_while(Result::ok).take_while(|line| line != END) {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { directory, signatures, ledger: Mutex::new(ledger) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Lines for a script: signs the ledger, then waits until the gate is open.
    pub(crate) fn script(&self) -> String {
        let (ledger, open) = (self.path("ledger"), self.path("open"));
        let (ledger, open) = (ledger.display(), open.display());
        format!("echo $CONVEYOR_ATTEMPT >>{ledger}\nwhile [ ! -e {open} ]; do sleep 0.02; done")
    }

    pub(crate) fn open(&self) {
        std::fs::write(self.path("open"), "").unwrap();
    }

    /// How often scripts have begun.
    pub(crate) fn runs(&self) -> usize {
        self.signatures.load(Ordering::SeqCst)
    }

    pub(crate) fn until_runs(&self, number: usize) {
        until("scripts at the gate", || (self.runs() >= number).then_some(()));
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = writeln!(self.ledger.lock().unwrap(), "{END}");
    }
}
