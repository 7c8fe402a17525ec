//! How errors are told, once, and what the program's exit code says.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use crate::client::ClientError;
use crate::config::ConfigError;
use crate::publisher::gateway::GatewayError;
use crate::store::StoreError;
use crate::worker::WorkerError;
use crate::worker::control::ControlError;

/// The job or command failed.
pub const FAILED: u8 = 1;
/// The command line makes no sense (`EX_USAGE` is 64, but clap and most tools say 2).
pub const USAGE: u8 = 2;
/// No server, gateway or worker answers (`EX_UNAVAILABLE` of sysexits.h).
pub const UNREACHABLE: u8 = 69;
/// There was nothing to do, and there may be later (`EX_TEMPFAIL`).
pub const NOTHING_CAME: u8 = 75;
/// The configuration or the state is wrong (`EX_CONFIG`): systemd's `RestartPreventExitStatus`.
pub const CONFIG: u8 = 78;

/// A command line that clap accepts and that still makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Usage {
    what: String,
    hint: Option<String>,
}

impl Usage {
    /// Says what is wrong.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    /// Adds the next step.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The exit code for an error.
pub fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<Usage>() {
            return USAGE;
        }
        if cause.is::<ConfigError>() {
            return CONFIG;
        }
        if let Some(GatewayError::Unreachable { .. } | GatewayError::Unanswered { .. }) = cause.downcast_ref() {
            return UNREACHABLE;
        }
        if let Some(ControlError::Nobody { .. } | ControlError::Silent { .. }) = cause.downcast_ref() {
            return UNREACHABLE;
        }
        // A restart would find the same.
        if let Some(StoreError::Damaged { .. } | StoreError::TooNew { .. } | StoreError::HalfRestored { .. }) =
            cause.downcast_ref()
        {
            return CONFIG;
        }
        // What is lacking is for an operator to set up. A node's name that somebody else has is not: its clock may have been set
        // back, and then it is ours again before long.
        if let Some(WorkerError::Isolation(_)) = cause.downcast_ref() {
            return CONFIG;
        }
        match cause.downcast_ref::<ClientError>() {
            Some(ClientError::Address { .. } | ClientError::Setup(_)) => return CONFIG,
            Some(error) if error.is_unreachable() => return UNREACHABLE,
            _ => {}
        }
    }
    FAILED
}

/// What the user reads: the chain of causes in one line, then the next step.
pub fn describe(error: &anyhow::Error) -> String {
    let links: Vec<String> = error.chain().map(|cause| super::output::printable(&cause.to_string())).collect();
    let last = links.len() - 1;
    // These links of reqwest and hyper only say that there is more to come.
    let says_nothing = |link: &str| link.starts_with("error sending request") || link.starts_with("client error (");
    let mut told: Vec<&str> = Vec::new();
    for (position, link) in links.iter().enumerate() {
        let repeated = told.last().is_some_and(|before| before.contains(link.as_str()));
        if !(repeated || position < last && says_nothing(link)) {
            told.push(link);
        }
    }
    let mut text = format!("error: {}", told.join(": "));
    if let Some(hint) = error.chain().find_map(hint) {
        text.push_str("\nhint: ");
        text.push_str(&super::output::printable(&hint));
    }
    text
}

fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    let client = || cause.downcast_ref::<ClientError>()?.hint();
    let config = || cause.downcast_ref::<ConfigError>()?.hint();
    let usage = || cause.downcast_ref::<Usage>()?.hint.clone();
    client().or_else(config).or_else(usage)
}

/// Tells an error on standard error and gives the exit code. A reader that went away is no error.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    if error.chain().count() == 1 && io.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    tell(&describe(error));
    ExitCode::from(code(error))
}

/// Says something on standard error, where anybody listens.
pub(super) fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
