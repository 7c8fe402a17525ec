//! Running `cvmfs_server`: in a session of its own, without a terminal, a working directory in the way or an inherited
//! environment, and with an end.
//!
//! What it says goes to files: a remount leaves a `cvmfs2` behind that inherits them, and a pipe would never end. Its exit
//! code goes to a file, too, for the life of the worker after this one.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, setsid};

use super::publishing::CLIENT;
use super::refusal::{Said, Subcommand};
use super::words::Word;
use crate::processes;

/// Marks the processes of a batch.
const BATCH: &str = "CONVEYOR_BATCH";
/// Clients of CernVM-FS that a mount started. They serve everybody and are nobody's to end.
const SPARED: &[&str] = &[CLIENT];
/// How long killed processes may take to be gone: one that waits for a disk dies when the disk answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a running command is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes of each output that are kept in memory, the last ones.
const TAIL: u64 = 64 * 1024;
/// Runs the rest of the words and notes the exit code. The words are arguments, which no shell reads.
const NOTE_CODE: &str =
    r#"result=$1; shift; "$@"; code=$?; echo "$code" >"$result.new" && mv "$result.new" "$result"; exit "$code""#;

/// One call of `cvmfs_server`.
pub(super) struct Call<'a> {
    pub(super) program: &'a Path,
    pub(super) command: Subcommand,
    /// What follows the command's name.
    pub(super) words: &'a [Word],
    /// The batch's key, by which its processes are found.
    pub(super) key: &'a str,
    /// Where outputs and the exit code go.
    pub(super) directory: &'a Path,
    /// When it is ended.
    pub(super) limit: Duration,
}

/// How a call ended.
pub(super) struct Ran {
    pub(super) said: Said,
    /// Whether we ended it, and not itself.
    pub(super) ended: bool,
    /// The lines of standard output that looked like the beginning of something, with the time since the start.
    pub(super) lines: Vec<(String, Duration)>,
    pub(super) took: Duration,
}

impl Call<'_> {
    /// Runs it to its end, to that of its time, or until `is_enough` says so, which is asked again and again. Nothing of it
    /// is left then.
    pub(super) fn run(&self, is_enough: &mut dyn FnMut() -> bool) -> io::Result<Ran> {
        let [out, err, result] = ["out", "err", "code"].map(|what| self.file(what));
        let _ = std::fs::remove_file(&result);
        let began = Instant::now();
        let mut child = self.build(File::create(&out)?, File::create(&err)?, &result).spawn()?;
        let leader = Pid::from_raw(child.id().cast_signed());
        let (sender, ended) = channel();
        let waiting = std::thread::spawn(move || sender.send(child.wait()));
        let mut stages = Stages::new(&out);
        let mut killed = false;
        let status = loop {
            match ended.recv_timeout(LOOK) {
                Ok(status) => break status?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("the thread that waits for it died"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            stages.look(began);
            if !killed && (began.elapsed() > self.limit || is_enough()) {
                killed = true;
                let _ = killpg(leader, Signal::SIGKILL);
            }
        };
        let _ = waiting.join();
        stages.look(began);
        if killed {
            end(self.key)?;
        }
        use std::os::unix::process::ExitStatusExt;
        let code = match (status.code(), status.signal()) {
            // A shell's way to say that what it ran was killed.
            (Some(code @ 129..=192), _) => 128 - code,
            (Some(code), _) => code,
            (None, signal) => -signal.unwrap_or(9),
        };
        let said = Said { code, stdout: tail(&out)?, stderr: tail(&err)? };
        Ok(Ran { said, ended: killed, lines: stages.lines, took: began.elapsed() })
    }

    #[allow(unsafe_code)]
    fn build(&self, out: File, err: File, result: &Path) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", NOTE_CODE, "cvmfs_server"]).arg(result).arg(self.program);
        command.arg(self.command.as_str()).args(self.words.iter().map(Word::as_str));
        command.env_clear().env("LC_ALL", "C").env(BATCH, self.key);
        // What a person at this machine would have, and none of our own settings.
        for name in ["PATH", "HOME", "USER", "LOGNAME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.current_dir("/").stdin(Stdio::null()).stdout(out).stderr(err);
        let lead = || {
            setsid()?;
            umask(Mode::from_bits_truncate(0o022));
            Ok(())
        };
        // SAFETY: two system calls, which neither allocate nor take a lock.
        unsafe { command.pre_exec(lead) };
        command
    }

    fn file(&self, what: &str) -> PathBuf {
        self.directory.join(format!("{}.{what}", self.command.as_str()))
    }
}

/// The exit code of a command that an earlier life of this worker ran, where it ended by itself.
pub(super) fn noted_code(directory: &Path, command: Subcommand) -> Option<i32> {
    let text = std::fs::read_to_string(directory.join(format!("{}.code", command.as_str()))).ok()?;
    text.trim().parse().ok()
}

/// Forgets it.
pub(super) fn forget_code(directory: &Path, command: Subcommand) {
    let _ = std::fs::remove_file(directory.join(format!("{}.code", command.as_str())));
}

/// Ends all processes of a batch, whoever started them and whenever. An error if some do not end.
pub(super) fn end(key: &str) -> io::Result<()> {
    let left = processes::end(BATCH, key, SPARED, PATIENCE);
    if left.is_empty() {
        return Ok(());
    }
    Err(io::Error::other(format!("processes {left:?} of {key} do not end; see what they wait for")))
}

/// The end of a file, as text.
fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads a file of lines while it grows.
struct Stages {
    file: Option<File>,
    rest: Vec<u8>,
    lines: Vec<(String, Duration)>,
}

impl Stages {
    /// Lines that are kept: a publish says some dozens.
    const MOST: usize = 200;

    fn new(path: &Path) -> Self {
        Self { file: File::open(path).ok(), rest: Vec::new(), lines: Vec::new() }
    }

    fn look(&mut self, began: Instant) {
        let Some(file) = &mut self.file else { return };
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = file.read(&mut buffer) {
            self.rest.extend_from_slice(&buffer[..read]);
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                if self.lines.len() < Self::MOST {
                    self.lines.push((String::from_utf8_lossy(&line).trim().to_owned(), began.elapsed()));
                }
            }
            // A progress bar has no lines.
            if self.rest.len() > 1 << 16 {
                self.rest.clear();
            }
        }
    }
}
