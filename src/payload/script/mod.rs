//! Running scripts, so that they end when they should and nothing that they start outlives them.
//!
//! With a [`Confinement`] a script has a view of the machine of its own: it writes where it is to and nowhere else, sees no
//! process but its own and none of what is hidden from it. Without one it sees the whole file system and, unless it runs as
//! another user, may do to the worker whatever the worker's user may. The network is the machine's in any case.

#[cfg(test)]
mod confined_tests;
mod confinement;
mod error;
mod image;
mod keeper;
mod marker;
mod output;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, geteuid};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::confinement::Confinement;
pub use self::error::ScriptError;
pub use self::marker::{end_run, processes_of};
use crate::domain::names::{LeasePath, RepositoryName};

/// A script and all that it is given: called as `script REPOSITORY LEASE_PATH ARG…`, with standard input empty
/// and both outputs in one.
#[derive(Debug, Clone)]
pub struct ScriptRun {
    /// Names the processes of this run, in `CONVEYOR_RUN_ID`. Never used twice.
    pub run_id: Uuid,
    /// The script, already fetched. It is made executable (0755).
    pub program: PathBuf,
    /// First argument.
    pub repository: RepositoryName,
    /// Second argument, with its leading slash.
    pub lease_path: LeasePath,
    /// The user's own arguments.
    pub args: Vec<OsString>,
    /// Working directory: the repository's root, as checked out.
    pub directory: PathBuf,
    /// A private directory for `HOME` and `TMPDIR`, which the script's user can write in.
    pub temporary: PathBuf,
    /// What the environment holds besides `PATH`, `HOME`, `TMPDIR`, `LANG` and `CONVEYOR_RUN_ID`. Nothing is inherited.
    pub environment: BTreeMap<String, String>,
    /// After this the script is ended.
    pub time_limit: Duration,
    /// How long it may take to end by itself when asked to (SIGTERM) before it is killed.
    pub grace: Duration,
    /// Most bytes of output passed on.
    pub output_limit: u64,
    /// Whom to run as; the worker's own user if `None`. Giving that user its directories is the caller's business.
    pub run_as: Option<(Uid, Gid)>,
    /// Lets a script run as root, which is refused otherwise. For containers that hold nothing but the worker.
    pub allow_root: bool,
    /// What it sees of the machine and may write in; everything that its account may, where this is `None`.
    pub confinement: Option<Confinement>,
}

/// How a script ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself.
    Exited {
        /// 0 for success.
        code: i32,
    },
    /// By a signal that was not ours.
    Signaled {
        /// The signal's number.
        signal: i32,
    },
    /// It was ended, having run for too long.
    TimedOut {
        /// The limit that was set.
        limit: Duration,
    },
    /// It was ended because the caller asked for it.
    Cancelled,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exited with code {code}"),
            Self::Signaled { signal } => match Signal::try_from(*signal) {
                Ok(signal) => write!(f, "was killed by {signal}"),
                Err(_) => write!(f, "was killed by signal {signal}"),
            },
            Self::TimedOut { limit } => write!(f, "was ended after its time limit of {limit:?}"),
            Self::Cancelled => f.write_str("was cancelled"),
        }
    }
}

/// What became of a script that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptReport {
    /// How it ended.
    pub ending: Ending,
    /// The end of its output, some kilobytes.
    pub tail: Vec<u8>,
    /// All bytes of its output.
    pub output_bytes: u64,
    /// Those beyond the limit, which were not passed on.
    pub dropped_bytes: u64,
}

impl ScriptReport {
    /// Tells whether the script ended by itself, with code 0.
    pub fn succeeded(&self) -> bool {
        self.ending == Ending::Exited { code: 0 }
    }
}

/// Runs a script to its end, or to that of its time or of the caller's patience, and passes its output on.
///
/// When this returns a report, no process of the script is left. If the future is dropped, the script is ended as if
/// cancelled, in the background. If the worker is killed, the kernel ends it at once.
pub async fn run(
    mut script: ScriptRun,
    cancel: &CancellationToken,
    output: mpsc::Sender<Bytes>,
) -> Result<ScriptReport, ScriptError> {
    check_user(&script)?;
    let directory = &script.directory;
    // exec tells a missing directory and a missing script by the same error.
    std::fs::read_dir(directory).map_err(|source| ScriptError::Directory { directory: directory.clone(), source })?;
    if script.confinement.is_some() {
        // A link on the way may be hidden from the script.
        let program = script.program.clone();
        let failed = |source| ScriptError::Io { what: "find the directories of", program: program.clone(), source };
        for path in [&mut script.directory, &mut script.temporary, &mut script.program] {
            *path = path.canonicalize().map_err(failed)?;
        }
    }
    std::fs::set_permissions(&script.program, PermissionsExt::from_mode(0o755)).map_err(|source| ScriptError::Io {
        what: "make executable",
        program: script.program.clone(),
        source,
    })?;

    let (program, run_id) = (script.program.clone(), script.run_id);
    let cancel = cancel.child_token();
    let dropped = cancel.clone().drop_guard();
    let (sender, receiver) = oneshot::channel();
    // A thread of its own, since the keeper is killed when the thread that spawned it ends: those of a runtime come and
    // go. It also runs on when this future is dropped.
    std::thread::Builder::new()
        .name("script".into())
        .spawn(move || sender.send(watch::watch(&script, &cancel, output)))
        .map_err(|source| ScriptError::Io { what: "start a thread for", program: program.clone(), source })?;
    let result = receiver.await;
    dropped.disarm();
    result.unwrap_or(Err(ScriptError::WatchLost { program, run_id }))
}

/// Payloads never run as root, unless someone insists.
fn check_user(script: &ScriptRun) -> Result<(), ScriptError> {
    let own = geteuid();
    let program = || script.program.clone();
    let wanted = script.run_as.map_or(own, |(uid, _)| uid);
    if wanted.is_root() && !script.allow_root {
        return Err(ScriptError::Root { program: program() });
    }
    if wanted != own && !own.is_root() {
        return Err(ScriptError::CannotBecome { program: program(), wanted: wanted.as_raw(), own: own.as_raw() });
    }
    Ok(())
}
