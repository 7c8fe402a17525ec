//! `conveyor worker`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::failure::tell;
use super::{serving, working};
use crate::config::WorkerFlags;

/// Arguments of `conveyor worker`.
#[derive(Debug, Args)]
pub(super) struct WorkerArgs {
    /// Name of this machine among the workers [default: the host's name]
    #[arg(short = 'n', long, visible_alias = "node", value_name = "NAME")]
    worker_name: Option<String>,
    /// Accepted for the old conveyor's sake: each job says how often it is tried
    #[arg(short = 'R', long, value_name = "NUMBER")]
    job_retries: Option<u32>,
    /// Where payloads are fetched and unpacked; nothing else may be kept there
    #[arg(short = 'T', long, value_name = "DIR")]
    temp_dir: Option<PathBuf>,
    /// Fleet to serve
    #[arg(long, value_name = "NAME")]
    fleet: Option<String>,
    /// Batches at a time
    #[arg(long, value_name = "NUMBER")]
    slots: Option<u32>,
    /// Where its lock is kept
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl WorkerArgs {
    fn flags(self, context: &Context) -> WorkerFlags {
        if self.job_retries.is_some() {
            tell("note: --job-retries does nothing: each job says how often it is tried (submit --attempts)");
        }
        WorkerFlags {
            client: context.flags.clone(),
            name: self.worker_name,
            temp_dir: self.temp_dir,
            fleet: self.fleet,
            slots: self.slots,
            state_dir: self.state_dir,
        }
    }
}

/// Runs the worker until it is told to stop.
pub(super) async fn run(args: WorkerArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let config = context.config.worker(&args.flags(context))?;
    working::run(config, serving::until_signal()?).await?;
    Ok(ExitCode::SUCCESS)
}
