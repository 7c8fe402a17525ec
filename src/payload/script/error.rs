//! Why a script could not be run.

use std::io::Read;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// Why a script could not be run. A script that ran and failed is no error but a report.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// Payloads never run as root.
    #[error("refusing to run {} as root: configure the user that payloads run as, or allow root", program.display())]
    Root {
        /// The script.
        program: PathBuf,
    },
    /// Only root can become someone else.
    #[error(
        "cannot run {} as user {wanted}: this worker runs as user {own}, and only root can change",
        program.display()
    )]
    CannotBecome {
        /// The script.
        program: PathBuf,
        /// The user it should run as.
        wanted: u32,
        /// The worker's own.
        own: u32,
    },
    /// The working directory is missing or not one.
    #[error("cannot run a script in {}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The first line names a program that is not there.
    #[error("cannot run {}: its interpreter {interpreter:?} is not on this host{hint}", program.display())]
    Interpreter {
        /// The script.
        program: PathBuf,
        /// What its first line names.
        interpreter: String,
        /// What may be wrong with it.
        hint: &'static str,
    },
    /// Neither a script nor a program.
    #[error(
        "cannot run {}: it is no program for this host; begin a script with a line such as #!/bin/sh",
        program.display()
    )]
    NotAProgram {
        /// The file.
        program: PathBuf,
    },
    /// It may not be executed.
    #[error(
        "cannot run {}: permission denied; its interpreter may not be executable, the user may lack access, \
         or its file system is mounted noexec",
        program.display()
    )]
    Permission {
        /// The file.
        program: PathBuf,
    },
    /// Arguments and environment that no program can be given.
    #[error("cannot run {}: {why}", program.display())]
    Arguments {
        /// The script.
        program: PathBuf,
        /// What is wrong with them.
        why: &'static str,
    },
    /// The host or its security settings do not let us make the script's view of the machine.
    #[error("cannot isolate {}: cannot {step}{}", program.display(), then(hint))]
    Isolation {
        /// The script.
        program: PathBuf,
        /// What was tried.
        step: String,
        /// What to do; may be empty.
        hint: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The machine failed us.
    #[error("cannot {what} {}", program.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The script.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The thread that watches over a script is gone.
    #[error("the watch over {} broke down; what it started may still run as run {run_id}", program.display())]
    WatchLost {
        /// The script.
        program: PathBuf,
        /// What names its processes.
        run_id: uuid::Uuid,
    },
    /// Processes that not even SIGKILL ends, as those that hang in a file system.
    #[error("processes {pids:?} of {} cannot be ended: do not publish what they may still write to", program.display())]
    Survivors {
        /// The script.
        program: PathBuf,
        /// What is left; the keeper itself where nothing else is known.
        pids: Vec<i32>,
    },
}

impl ScriptError {
    /// Tells whether trying again later, unchanged, can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Io { .. } | Self::WatchLost { .. } | Self::Survivors { .. } => true,
            Self::Isolation { hint, .. } => hint.is_empty(),
            Self::Root { .. }
            | Self::CannotBecome { .. }
            | Self::Directory { .. }
            | Self::Interpreter { .. }
            | Self::NotAProgram { .. }
            | Self::Permission { .. }
            | Self::Arguments { .. } => false,
        }
    }

    /// A step of the isolation that failed.
    pub(super) fn on_isolation(program: &Path, step: String, source: std::io::Error) -> Self {
        let errno = Errno::from_raw(source.raw_os_error().unwrap_or(0));
        let hint = super::confinement::explain(&step, errno);
        Self::Isolation { program: program.to_owned(), step, hint, source }
    }

    /// Makes sense of what exec says, which names neither interpreter nor reason.
    pub(super) fn on_start(program: &Path, source: std::io::Error) -> Self {
        let interpreter = interpreter(program);
        let program = program.to_owned();
        match (source.raw_os_error().map(Errno::from_raw), interpreter) {
            (Some(Errno::ENOENT), Some(interpreter)) => {
                let hint = match interpreter.ends_with('\r') {
                    true => "; its lines end as on Windows, convert them",
                    false => "",
                };
                Self::Interpreter { program, interpreter, hint }
            }
            (Some(Errno::ENOEXEC), _) => Self::NotAProgram { program },
            (Some(Errno::EACCES | Errno::EPERM), _) => Self::Permission { program },
            (Some(Errno::E2BIG), _) => Self::Arguments { program, why: "its arguments are too long" },
            _ => Self::Io { what: "start", program, source },
        }
    }
}

/// Advice behind what went wrong.
fn then(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!(" ({hint})") }
}

/// What the first line of a script names.
fn interpreter(program: &Path) -> Option<String> {
    let mut head = Vec::new();
    std::fs::File::open(program).ok()?.take(256).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    line.trim_start_matches([' ', '\t']).split([' ', '\t']).next().map(str::to_owned)
}
