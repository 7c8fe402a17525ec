//! One life of a real `conveyor dev` process, from its start to its kill.

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use conveyor::client::Client;
use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::home::{Home, REPOSITORIES};
use crate::harness::PATIENCE;

/// A running process; it is killed when this is dropped.
pub(super) struct Life {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Life {
    /// Starts a process, to be killed at a named point where there is one.
    pub(super) fn start(home: &Home, crash_at: Option<&str>) -> Self {
        let log = OpenOptions::new().create(true).append(true).open(home.log()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_conveyor"));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_ascii_lowercase();
            if text.starts_with("conveyor_") || text.ends_with("_proxy") || text == "rust_log" {
                command.env_remove(&name);
            }
        }
        command
            .args(["--output", "json", "dev", "--listen", "127.0.0.1:0", "--slots", "3", "--state"])
            .arg(home.state());
        for repository in REPOSITORIES {
            command.args(["--repository", repository]);
        }
        if let Some(point) = crash_at {
            command.env("CONVEYOR_CRASH_AT", point);
        }
        command.env("TMPDIR", home.temporary());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdout }
    }

    /// A client of it once it is ready; nothing where it died before that.
    pub(super) async fn ready(&mut self, home: &Home) -> Option<Client> {
        let line = tokio::time::timeout(PATIENCE, self.stdout.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("not ready within {PATIENCE:?}\n{}", home.log_end())).unwrap()?;
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let url = ready["url"].as_str().unwrap();
        // One try each: what is behind it may die at any moment, and the next life has another port.
        Some(Client::new(url, Some(home.token())).unwrap().with_retry_for(Duration::ZERO))
    }

    /// Waits until it has died by itself; nothing where it lives on.
    pub(super) async fn died(&mut self) -> Option<ExitStatus> {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.ok().map(Result::unwrap)
    }

    /// As a power cut would.
    pub(super) async fn kill9(mut self) {
        self.child.start_kill().unwrap();
        self.child.wait().await.unwrap();
    }
}

/// Tells whether a process ended by a kill and not in any other way.
pub(super) fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::SIGKILL as i32)
}
