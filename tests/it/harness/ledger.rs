//! A book outside of Conveyor that scripts sign.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use nix::sys::stat::Mode;

/// Ends the thread that reads.
const END: &str = "end";

/// A pipe that every script can write a line into, in a directory that every script can see.
///
/// An isolated script can write nowhere but in its lease path, and has a `/tmp` of its own; but it can write into a pipe.
pub(crate) struct Ledger {
    directory: tempfile::TempDir,
    lines: Arc<Mutex<Vec<String>>>,
    /// Keeps the pipe open, so that signing never waits for a reader.
    pipe: Mutex<File>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        // Scripts of a root's worker belong to somebody who may not enter where this is built.
        let place = if nix::unistd::geteuid().is_root() { "/run" } else { env!("CARGO_TARGET_TMPDIR") };
        let directory = tempfile::Builder::new().prefix("conveyor-ledger-").tempdir_in(place).unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let path = directory.path().join("ledger");
        nix::unistd::mkfifo(&path, Mode::empty()).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let pipe = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (coming, read) = (BufReader::new(File::open(&path).unwrap()).lines(), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in coming.map_while(Result::ok).take_while(|line| line != END) {
                read.lock().unwrap().push(line);
            }
        });
        Self { directory, lines, pipe: Mutex::new(pipe) }
    }

    /// What scripts write into, a line at a time.
    pub(crate) fn path(&self) -> PathBuf {
        self.beside("ledger")
    }

    /// A file beside it, which scripts can see and not write.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What was written, in its order.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let _ = writeln!(self.pipe.lock().unwrap(), "{END}");
    }
}
