//! `conveyor worker`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::context::Context;
use super::failure::{NOTHING_CAME, tell};
use super::{serving, working};
use crate::config::WorkerFlags;
use crate::worker::{Ended, Once};

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
    /// Take one batch and end after it: exit code 0 however its jobs ended
    #[arg(long)]
    once: bool,
    /// With --once, how long to wait for a batch; exit code 75 where none came [default: for ever]
    #[arg(long, value_name = "SECONDS", requires = "once")]
    wait: Option<u64>,
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
    let once = args.once.then(|| Once { wait: args.wait.map(Duration::from_secs) });
    let config = context.config.worker(&args.flags(context))?;
    Ok(match working::run(config, once, serving::until_halt()?).await? {
        Ended::Told | Ended::Once => ExitCode::SUCCESS,
        Ended::NothingCame => {
            tell("note: nothing came; exit code 75");
            ExitCode::from(NOTHING_CAME)
        }
    })
}
