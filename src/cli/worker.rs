//! `conveyor worker` and what can be done about one.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::context::Context;
use super::failure::{NOTHING_CAME, tell};
use super::{serving, worker_check, working};
use crate::config::WorkerFlags;
use crate::worker::{Ended, Once};

/// What is done instead of running a worker.
#[derive(Debug, Subcommand)]
pub(super) enum WorkerCommand {
    /// Try everything that the worker needs on this machine, and say what is missing: exit code 1 if something is
    Check(worker_check::CheckArgs),
}

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
    #[command(subcommand)]
    command: Option<WorkerCommand>,
}

impl WorkerArgs {
    /// Whether a worker runs.
    pub(super) fn is_daemon(&self) -> bool {
        self.command.is_none()
    }

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

/// Runs the worker until it is told to stop, or one of its commands.
pub(super) async fn run(mut args: WorkerArgs, context: &Context) -> anyhow::Result<ExitCode> {
    if let Some(command) = args.command.take() {
        let config = context.config.worker(&args.flags(context))?;
        return match command {
            WorkerCommand::Check(check) => worker_check::run(&check, config, context).await,
        };
    }
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
