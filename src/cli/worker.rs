//! `conveyor worker` and what can be done about one.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::context::Context;
use super::failure::{NOTHING_CAME, Usage, tell};
use super::{serving, supervision, worker_check, worker_control, working};
use crate::config::{Config, WorkerFlags};
use crate::worker::{Ended, Handle, Once};

/// Arguments of `conveyor worker`.
#[derive(Debug, Args)]
pub(super) struct WorkerArgs {
    /// Speak to the worker that runs here, instead of running one
    #[command(subcommand)]
    action: Option<WorkerAction>,
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

/// What to do with the worker of this machine.
#[derive(Debug, Subcommand)]
enum WorkerAction {
    /// Try everything that the worker needs on this machine, and say what is missing: exit code 1 if something is
    Check(worker_check::CheckArgs),
    /// Show what it does, since when, and what is wrong with this machine
    Status(worker_control::StatusArgs),
    /// Take no more, finish what is there, and stay alive; also after a restart
    Drain(worker_control::DrainArgs),
    /// Take again, after drain
    Resume(worker_control::ResumeArgs),
}

impl WorkerArgs {
    /// Whether any flag was given.
    fn is_said(&self) -> bool {
        let texts = self.worker_name.is_some() || self.fleet.is_some();
        let paths = self.temp_dir.is_some() || self.state_dir.is_some();
        let numbers = self.job_retries.is_some() || self.slots.is_some() || self.wait.is_some();
        texts || paths || numbers || self.once
    }

    /// Whether this runs a worker.
    pub(super) fn is_daemon(&self) -> bool {
        self.action.is_none()
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

/// Runs the worker until it is told to stop, or speaks to the one that runs.
pub(super) async fn run(mut args: WorkerArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let action = args.action.take();
    if !matches!(action, None | Some(WorkerAction::Check(_))) && args.is_said() {
        let what = "these flags are those of a worker that is started, and this command speaks to one that runs";
        let hint = "put --state-dir behind the command: conveyor worker status --state-dir DIR";
        return Err(Usage::new(what).with_hint(hint).into());
    }
    match action {
        Some(WorkerAction::Status(args)) => return worker_control::status(args, context).await,
        Some(WorkerAction::Drain(args)) => return worker_control::drain(args, context).await,
        Some(WorkerAction::Resume(args)) => return worker_control::resume(args, context).await,
        Some(WorkerAction::Check(check)) => {
            let config = context.config.worker(&args.flags(context))?;
            return worker_check::run(&check, config, context).await;
        }
        None => {}
    }
    let once = args.once.then(|| Once { wait: args.wait.map(Duration::from_secs) });
    let hangups = supervision::hangups()?;
    let flags = args.flags(context);
    let read = move |file: &Config| {
        let mut config = file.worker(&flags)?;
        if once.is_some() {
            // One batch takes one slot.
            config.slots = 1;
        }
        Ok::<_, anyhow::Error>((file.clone(), config))
    };
    let (handle, halt) = (Handle::default(), serving::until_halt()?);
    let (in_force, file) = (read(&context.config)?, context.config.clone());
    let config = in_force.1.clone();
    let again = Box::new(move || read(&file.again()?));
    let supervising = supervision::supervise_worker(in_force, again, handle.clone(), hangups, halt.clone());
    let ended = tokio::select! {
        // First, so that the service manager hears of an end before it comes.
        biased;
        never = supervising => match never {},
        ended = working::run(config, once, halt, &handle) => ended?,
    };
    Ok(match ended {
        Ended::Told | Ended::Once => ExitCode::SUCCESS,
        Ended::NothingCame => {
            tell("note: nothing came; exit code 75");
            ExitCode::from(NOTHING_CAME)
        }
    })
}
