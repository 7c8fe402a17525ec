//! `conveyor check-db`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::context::Context;
use super::failure::FAILED;
use super::output::printable;
use crate::store::{Depth, check_state};

/// Arguments of `conveyor check-db`.
#[derive(Debug, Args)]
pub(super) struct CheckDbArgs {
    /// The server's state directory, or a backup
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Also read all blobs and logs
    #[arg(long)]
    verify: bool,
}

/// Prints what is wrong, one in a line, and what was looked at. The exit code tells whether anything is.
pub(super) async fn run(args: CheckDbArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let state = context.config.server_state_dir(args.state_dir.as_ref());
    let depth = if args.verify { Depth::Verify } else { Depth::Exists };
    let path = state.clone();
    let checked = tokio::task::spawn_blocking(move || check_state(&path, depth))
        .await?
        .with_context(|| format!("cannot check {}", state.display()))?;
    let sound = checked.problems.is_empty();
    for problem in &checked.problems {
        if context.output.is_json() {
            context.output.json(&json!({"problem": problem}))?;
        } else {
            context.output.line(&printable(&format!("problem: {problem}")))?;
        }
    }
    if context.output.is_json() {
        context.output.json(&json!({
            "sound": sound,
            "problems": checked.problems.len(),
            "jobs": checked.jobs,
            "blobs": checked.blobs,
            "log_pieces": checked.log_pieces,
        }))?;
    } else {
        let word = if sound { "sound" } else { "damaged" };
        context.output.line(&format!("{word}: {} jobs, {} blobs", checked.jobs, checked.blobs))?;
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}
