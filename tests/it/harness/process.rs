//! A long-running child, its output, and its end.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::wait::until;

/// A child in a process group of its own; the group is killed when this is dropped.
pub(crate) struct Daemon {
    child: Child,
    stdout: Text,
    stderr: Text,
    ended: Option<ExitStatus>,
}

type Text = Arc<Mutex<String>>;

impl Daemon {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = gather(child.stdout.take().unwrap());
        let stderr = gather(child.stderr.take().unwrap());
        Self { child, stdout, stderr, ended: None }
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until its output has something; panics with all of it where the process ended before.
    pub(crate) fn said<T>(&mut self, what: &str, look: impl Fn(&str, &str) -> Option<T>) -> T {
        until(what, || {
            // What it said last may be on its way when its end is known already.
            let ended = self.poll().filter(|_| self.is_quiet());
            let (stdout, stderr) = (self.stdout(), self.stderr());
            let found = look(&stdout, &stderr);
            assert!(found.is_some() || ended.is_none(), "{what}: it ended with {ended:?}\n{stdout}\n{stderr}");
            found
        })
    }

    /// The end, if it has come.
    pub(crate) fn poll(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        until("the end of a process", || self.poll())
    }

    /// Asks it to end.
    pub(crate) fn signal(&mut self) {
        self.send(Signal::SIGTERM);
    }

    /// Asks it to end and waits until it has.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal();
        self.wait()
    }

    /// Sends a signal to the process itself, not to its children, where it has not ended.
    pub(crate) fn send(&mut self, signal: Signal) {
        if self.poll().is_none() {
            kill(self.pid(), signal).unwrap();
        }
    }

    /// As a power cut would.
    pub(crate) fn kill9(&mut self) {
        if self.poll().is_none() {
            killpg(self.pid(), Signal::SIGKILL).unwrap();
            self.wait();
        }
    }

    /// After its end: waits until all of its output is here.
    pub(crate) fn until_quiet(&self) {
        until("the end of the output", || self.is_quiet().then_some(()));
    }

    /// Whether all that can come of its output is here: the readers' ends are dropped with their threads.
    fn is_quiet(&self) -> bool {
        Arc::strong_count(&self.stdout) + Arc::strong_count(&self.stderr) == 2
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = killpg(self.pid(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let log = self.stderr.lock().map(|text| text.clone()).unwrap_or_default();
            let from = log.len().saturating_sub(8000);
            eprintln!("--- what the process said last ---\n{}", log.get(from..).unwrap_or(&log));
        }
    }
}

/// Numbers of the processes whose arguments have a word.
pub(crate) fn processes_with(word: &str) -> Vec<String> {
    let has = |pid: &String| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(word))
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).filter(has).collect()
}

fn gather(pipe: impl Read + Send + 'static) -> Text {
    let text = Text::default();
    let to = Arc::clone(&text);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            to.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    text
}
