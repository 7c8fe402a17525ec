//! `conveyor backup` and `conveyor restore`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;

use super::context::Context;
use crate::store::backup::{back_up, restore};

/// Arguments of `conveyor backup`.
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// Directory to make; it must not exist
    #[arg(value_name = "DIR")]
    target: PathBuf,
    /// The server's state directory
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// Arguments of `conveyor restore`.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// A backup
    #[arg(value_name = "DIR")]
    source: PathBuf,
    /// The server's state directory, empty or not there yet
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Let unfinished jobs go on: only right where nothing ran after the backup was made
    #[arg(long)]
    go_on: bool,
}

/// Copies the state, also of a server that runs.
pub(super) async fn run(args: BackupArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let state = context.config.server_state_dir(args.state_dir.as_ref());
    let target = args.target.clone();
    let backup = tokio::task::spawn_blocking(move || back_up(&state, &target, Timestamp::now()))
        .await?
        .with_context(|| format!("cannot back up into {}", args.target.display()))?;
    if context.output.is_json() {
        context.output.json(&backup)?;
    } else {
        context.output.line(&format!(
            "{}: {} jobs ({} unfinished) and {} blobs, as of {}",
            args.target.display(),
            backup.jobs,
            backup.unfinished,
            backup.blobs,
            backup.at
        ))?;
    }
    for name in &backup.missing_blobs {
        super::failure::tell(&format!("warning: blob {name} is named by a job and no longer there"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts a backup back.
pub(super) async fn run_restore(args: RestoreArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let state = context.config.server_state_dir(args.state_dir.as_ref());
    let (source, to) = (args.source.clone(), state.clone());
    let restored = tokio::task::spawn_blocking(move || restore(&source, &to, Timestamp::now(), args.go_on))
        .await?
        .with_context(|| format!("cannot restore {}", args.source.display()))?;
    if context.output.is_json() {
        context.output.json(&restored)?;
    } else {
        let backup = &restored.backup;
        context.output.line(&format!(
            "{}: {} jobs and {} blobs, as of {}; {} jobs are held back (conveyor list --state failed), the nodes of {} are asked",
            state.display(),
            backup.jobs,
            backup.blobs,
            backup.at,
            restored.held_back,
            restored.recovering
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
