//! Runs a payload's script as a child: a session and process group of its own, a clean environment, no input, a time limit,
//! and nothing that it started is left when it has ended.
//!
//! What is *not* isolated yet: the script sees the machine's file system as its account does, and other processes of that
//! account. The runner with namespaces of its own comes with the publisher nodes.

mod leftovers;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// Time between the polite and the other signal.
const GRACE: Duration = Duration::from_secs(5);
/// Time for the last output to arrive after everything has ended.
const DRAIN: Duration = Duration::from_secs(5);
/// Bytes of output that are passed on.
const OUTPUT_LIMIT: u64 = 256 * 1024 * 1024;
/// Name of the variable by which processes that left the group are found.
const MARKER: &str = "CONVEYOR_RUN_ID";

/// What to run, and how.
#[derive(Debug)]
pub struct Script {
    /// The program; made executable by whoever put it there.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where it starts.
    pub directory: PathBuf,
    /// A directory for its temporary files; also its `HOME`.
    pub temporary: PathBuf,
    /// Variables besides the fixed ones (`PATH`, `HOME`, `TMPDIR`, `LANG`, `LC_ALL`).
    pub environment: Vec<(String, String)>,
    /// User and group to run as. Without, those of this process, which must not be root then.
    pub run_as: Option<(u32, u32)>,
    /// How long it may run.
    pub time_limit: Duration,
}

/// How a script ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptEnd {
    /// By itself, with this exit code.
    Exited(i32),
    /// By a signal that was not ours.
    Signaled(i32),
    /// Its time was over.
    TimedOut,
    /// We were asked to stop it.
    Cancelled,
}

/// Why a script could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// Root without an account to run payloads as.
    #[error("refusing to run {program} as root; set run_as in the worker's configuration to an account without rights")]
    Root {
        /// The program.
        program: PathBuf,
    },
    /// It did not start.
    #[error("cannot start {program}: its first line must name an interpreter of this machine, as #!/bin/sh does")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The machine failed us.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ScriptError {
    /// Tells whether trying again later, unchanged, can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Io { .. } => true,
            Self::Root { .. } | Self::Start { .. } => false,
        }
    }
}

/// Runs a script to its end, passing its output (both streams, as they come) on. `cancelled` ends it early.
///
/// When this returns, nothing that the script started is left in its session or with its environment.
pub async fn run(
    script: Script,
    output: mpsc::Sender<Bytes>,
    cancelled: impl Future<Output = ()>,
) -> Result<ScriptEnd, ScriptError> {
    if script.run_as.is_none_or(|(uid, _)| uid == 0) && nix::unistd::geteuid().is_root() {
        return Err(ScriptError::Root { program: script.program });
    }
    let io = |what| move |source| ScriptError::Io { what, source };
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| io("make a pipe")(e.into()))?;
    let reader = pipe::Receiver::from_owned_fd(reader).map_err(io("read from a pipe"))?;
    let marker = uuid::Uuid::now_v7().to_string();
    let mut child = start(&script, &marker, writer).await?;
    let mut pump = tokio::spawn(pass_on(reader, output));
    // Its own id is that of its session and group, and stays reserved until the child is waited for.
    let session = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);

    let ended = tokio::select! {
        status = child.wait() => Some(end(status.map_err(io("wait for the script"))?)),
        () = tokio::time::sleep(script.time_limit) => None,
        () = cancelled => Some(ScriptEnd::Cancelled),
    };
    if !matches!(ended, Some(ScriptEnd::Exited(_) | ScriptEnd::Signaled(_)))
        && let Some(session) = session
    {
        let _ = nix::sys::signal::killpg(session, Signal::SIGTERM);
        let _ = tokio::time::timeout(GRACE, child.wait()).await;
    }
    leftovers::end(session, &marker, &mut child).await.map_err(io("end what the script left running"))?;
    if tokio::time::timeout(DRAIN, &mut pump).await.is_err() {
        pump.abort();
    }
    Ok(ended.unwrap_or(ScriptEnd::TimedOut))
}

async fn start(script: &Script, marker: &str, output: OwnedFd) -> Result<Child, ScriptError> {
    let io = |source| ScriptError::Io { what: "pass the output on", source };
    let mut command = Command::new(&script.program);
    command
        .args(&script.arguments)
        .current_dir(&script.directory)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", &script.temporary)
        .env("TMPDIR", &script.temporary)
        .env("LANG", "C.UTF-8")
        .env("LC_ALL", "C.UTF-8")
        .envs(script.environment.iter().map(|(name, value)| (name, value)))
        .env(MARKER, marker)
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(io)?)
        .stderr(output)
        .kill_on_drop(true);
    if let Some((uid, gid)) = script.run_as {
        command.uid(uid).gid(gid);
    }
    before_exec(&mut command);
    loop {
        match command.spawn() {
            // Another thread was between fork and exec while our file was still open for writing; it is over in a moment.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => tokio::task::yield_now().await,
            Err(source) => return Err(ScriptError::Start { program: script.program.clone(), source }),
            Ok(child) => return Ok(child),
        }
    }
}

/// What the child does between fork and exec.
#[allow(unsafe_code)]
fn before_exec(command: &mut Command) {
    let prepare = || {
        nix::unistd::setsid()?;
        // A worker that is killed takes its script along. The thread that forks is one of the runtime's, and lives as long.
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        nix::sys::prctl::set_no_new_privs()?;
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0)?;
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; these are plain system calls that allocate nothing.
    unsafe {
        command.pre_exec(prepare);
    }
}

fn end(status: ExitStatus) -> ScriptEnd {
    match (status.code(), status.signal()) {
        (Some(code), _) => ScriptEnd::Exited(code),
        (None, signal) => ScriptEnd::Signaled(signal.unwrap_or_default()),
    }
}

/// Passes output on until its end; a receiver that is slow slows the script down.
async fn pass_on(mut reader: pipe::Receiver, output: mpsc::Sender<Bytes>) {
    let mut passed = 0u64;
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    loop {
        buffer.reserve(64 * 1024);
        match reader.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(n) if passed >= OUTPUT_LIMIT => {
                // Still read, so that the script can go on.
                buffer.clear();
                passed += n as u64;
            }
            Ok(n) => {
                passed += n as u64;
                // Nobody listens any more: read on all the same.
                let _ = output.send(buffer.split().freeze()).await;
                if passed >= OUTPUT_LIMIT {
                    let _ = output
                        .send(Bytes::from_static(b"\n[conveyor] more output than is kept; the rest is dropped\n"))
                        .await;
                }
            }
        }
    }
}

/// Makes this process the parent of whatever its scripts leave behind, so that it can be found and ended.
pub fn adopt_leftovers() -> std::io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true).map_err(Into::into)
}

/// Makes a fetched file executable and gives it to the account that will run it.
pub fn make_executable(program: &Path, run_as: Option<(u32, u32)>) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if let Some((uid, gid)) = run_as {
        std::os::unix::fs::chown(program, Some(uid), Some(gid))?;
    }
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755))
}

/// Gives a directory and all in it to the account that will write there; links are not followed.
pub fn give_tree(root: &Path, run_as: Option<(u32, u32)>) -> std::io::Result<()> {
    let Some((uid, gid)) = run_as else { return Ok(()) };
    for entry in walkdir::WalkDir::new(root) {
        std::os::unix::fs::lchown(entry?.path(), Some(uid), Some(gid))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
