//! A book outside of Conveyor that scripts sign.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::stat::Mode;

use super::until;

/// Ends the thread that reads.
const END: &str = "end";
/// Shows that all before it was read: a line of the reader's own, and nobody else's.
const MARK: &str = "read up to here";

/// A pipe that every script can write a line into, in a directory that every script can see.
///
/// An isolated script can write nowhere but in its lease path, and has a `/tmp` of its own; but it can write into a pipe.
pub(crate) struct Ledger {
    directory: tempfile::TempDir,
    lines: Arc<Mutex<Vec<String>>>,
    /// Marks that were written, and those that were read.
    marks: [Arc<AtomicUsize>; 2],
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
        let marks = <[Arc<AtomicUsize>; 2]>::default();
        let (coming, read) = (BufReader::new(File::open(&path).unwrap()).lines(), Arc::clone(&lines));
        let passed = Arc::clone(&marks[1]);
        std::thread::spawn(move || {
            for line in coming.map_while(Result::ok).take_while(|line| line != END) {
                match line == MARK {
                    true => drop(passed.fetch_add(1, Ordering::SeqCst)),
                    false => read.lock().unwrap().push(line),
                }
            }
        });
        Self { directory, lines, marks, pipe: Mutex::new(pipe) }
    }

    /// What scripts write into, a line at a time.
    pub(crate) fn path(&self) -> PathBuf {
        self.beside("ledger")
    }

    /// A file beside it, which scripts can see and not write.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// All that was written up to now, in its order.
    pub(crate) fn lines(&self) -> Vec<String> {
        let [written, passed] = &self.marks;
        // In one write, so that no script's line comes between.
        self.pipe.lock().unwrap().write_all(format!("{MARK}\n").as_bytes()).unwrap();
        let mark = written.fetch_add(1, Ordering::SeqCst) + 1;
        until("the ledger is read", || (passed.load(Ordering::SeqCst) >= mark).then_some(()));
        self.lines.lock().unwrap().clone()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let _ = writeln!(self.pipe.lock().unwrap(), "{END}");
    }
}
