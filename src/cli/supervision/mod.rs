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

pub(super) use notify::{NotifyLoaded, NotifyServing, supervise as supervise_notify};
pub(super) use server::{Leading, Loaded, Phase, Plan, supervise as supervise_server};
pub(super) use worker::{adjustable, supervise as supervise_worker};

/// SIGHUP from now on, which would end the process otherwise.
pub(super) fn hangups() -> anyhow::Result<Signal> {
    signal(SignalKind::hangup()).context("cannot watch for SIGHUP")
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
