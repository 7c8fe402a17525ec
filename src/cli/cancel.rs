//! `conveyor cancel`.

use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::ended;
use super::failure::{FAILED, describe, tell};
use crate::client::{Client, ClientError};
use crate::domain::ids::JobId;
use crate::domain::job::state::StateKind;
use crate::domain::protocol::JobView;

/// Arguments of `conveyor cancel`.
#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    /// Jobs to stop
    #[arg(value_name = "ID", required = true)]
    ids: Vec<JobId>,
}

/// Stops jobs. One that cannot be stopped does not keep the others from it.
pub(super) async fn run(args: CancelArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let client = context.client()?;
    let mut code = ExitCode::SUCCESS;
    for id in args.ids {
        match cancel(&client, id).await {
            Ok(job) if context.output.is_json() => context.output.json(&ended::line(&(&job).into()))?,
            Ok(job) if job.state == StateKind::Cancelled => context.output.line(&format!("job {id} is cancelled"))?,
            Ok(_) => context.output.line(&format!("job {id} will be cancelled, unless it is published first"))?,
            Err(error) if error.is_unreachable() => return Err(error.into()),
            Err(error) => {
                tell(&describe(&anyhow::Error::from(error).context(format!("job {id}"))));
                code = ExitCode::from(FAILED);
            }
        }
    }
    Ok(code)
}

/// Cancelling what is cancelled is done already: the answer to the first request may have been lost.
async fn cancel(client: &Client, id: JobId) -> Result<JobView, ClientError> {
    match client.cancel(id).await {
        Err(error) if error.code() == Some("already_ended") => {
            let job = client.job(id).await?;
            if job.state == StateKind::Cancelled { Ok(job) } else { Err(error) }
        }
        result => result,
    }
}
