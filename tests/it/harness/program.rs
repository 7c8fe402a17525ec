//! The program as a command line tool.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use conveyor::domain::ids::JobId;
use serde_json::Value;

/// `conveyor -c FILE`, ready for arguments.
#[derive(Clone)]
pub(crate) struct Program {
    config: PathBuf,
    temporary: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Program {
    pub(crate) fn new(config: &Path, temporary: &Path) -> Self {
        Self { config: config.to_owned(), temporary: temporary.to_owned() }
    }

    /// The command with an environment in which nothing leads elsewhere.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = bare(&self.temporary);
        command.arg("-c").arg(&self.config).args(arguments).stdin(Stdio::null());
        command
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Run {
        Run::of(&self.command(arguments).output().unwrap())
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub(crate) fn good<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "{run:?}");
        run
    }
}

/// The program without a configuration.
pub(crate) fn bare(temporary: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conveyor"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_ascii_lowercase();
        let managed = ["notify_socket", "watchdog_usec", "watchdog_pid", "credentials_directory", "rust_log"];
        if ["conveyor_", "cvmfs_notify_"].iter().any(|start| text.starts_with(start))
            || text.ends_with("_proxy")
            || managed.contains(&&*text)
        {
            command.env_remove(&name);
        }
    }
    command.env("TMPDIR", temporary);
    command
}

impl Run {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Standard output as objects, one in each line.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The last line's object.
    #[track_caller]
    pub(crate) fn last(&self) -> Value {
        self.lines().pop().unwrap_or_else(|| panic!("no output: {self:?}"))
    }

    /// The id in the last line.
    #[track_caller]
    pub(crate) fn job_id(&self) -> JobId {
        self.last()["job_id"].as_str().unwrap_or_else(|| panic!("no job_id: {self:?}")).parse().unwrap()
    }
}
