//! A daemon under a service manager such as systemd: it says when it is ready, how it stands, that it lives and that it ends,
//! and reads its settings again on SIGHUP. `conveyor dev` does nothing of this.
//!
//! None of the variables that this takes from the environment reaches a child: scripts and `cvmfs_server` begin with an empty
//! environment.

mod notifier;
mod notify;
mod server;
mod watchdog;
mod worker;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::describe;

pub(super) use notify::{NotifyLoaded, NotifyServing, supervise as supervise_notify};
pub(super) use server::{Leading, Loaded, Phase, Plan, supervise as supervise_server};
pub(super) use worker::{adjustable, supervise as supervise_worker};

/// SIGHUP from now on, which would end the process otherwise.
pub(super) fn hangups() -> anyhow::Result<Signal> {
    signal(SignalKind::hangup()).context("cannot watch for SIGHUP")
}

/// Says that settings which were read again cannot be used; returns the note for the status.
fn refused(error: &anyhow::Error) -> String {
    let text = describe(error).replace('\n', "; ");
    let text = text.trim_start_matches("error: ");
    tracing::error!("the settings were read again and cannot be used; all stays as it is: {text}");
    format!("the settings cannot be used: {text}")
}

/// Says that settings which were read again are in force but for these; returns the note for the status, where there is something
/// to note.
fn followed(left: &[&str]) -> Option<String> {
    if left.is_empty() {
        tracing::info!("the settings were read again and are in force");
        return None;
    }
    let note = format!("restart to bring into force: {}", left.join(", "));
    tracing::warn!("the settings were read again; {note}");
    Some(note)
}

/// What is wrong with settings that were read again, after what is told otherwise.
fn with_note(status: String, note: Option<&str>) -> String {
    match note {
        Some(note) => format!("{status}; {note}"),
        None => status,
    }
}

/// "1 job", "2 jobs".
fn count(number: u64, of: &str) -> String {
    let plural = match of {
        "batch" => "batches".to_owned(),
        "repository" => "repositories".to_owned(),
        other => format!("{other}s"),
    };
    format!("{number} {}", if number == 1 { of } else { &plural })
}
