//! `conveyor retry`.

use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::ended;
use super::failure::{FAILED, describe, tell};
use crate::domain::ids::JobId;

/// Arguments of `conveyor retry`.
#[derive(Debug, Args)]
pub(super) struct RetryArgs {
    /// Jobs to try again
    #[arg(value_name = "ID", required = true)]
    ids: Vec<JobId>,
    /// And the jobs that were skipped because of them
    #[arg(long)]
    with_dependents: bool,
}

/// Tries jobs again. One that cannot be does not keep the others from it.
pub(super) async fn run(args: RetryArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let client = context.client()?;
    let mut code = ExitCode::SUCCESS;
    for id in args.ids {
        match client.retry(id, args.with_dependents).await {
            Ok(job) if context.output.is_json() => context.output.json(&ended::line(&(&job).into()))?,
            Ok(job) => context.output.line(&format!("job {id} is {}", job.state))?,
            Err(error) if error.is_unreachable() => return Err(error.into()),
            Err(error) => {
                tell(&describe(&anyhow::Error::from(error).context(format!("job {id}"))));
                code = ExitCode::from(FAILED);
            }
        }
    }
    Ok(code)
}
