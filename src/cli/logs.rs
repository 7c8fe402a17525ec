//! `conveyor logs`.

use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::failure::tell;
use crate::domain::ids::JobId;

/// Arguments of `conveyor logs`.
#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// The job
    #[arg(value_name = "ID")]
    id: JobId,
    /// Go on printing until the job has ended
    #[arg(short, long, conflicts_with = "tail")]
    follow: bool,
    /// Which attempt [default: the last]
    #[arg(long, value_name = "NUMBER")]
    attempt: Option<u32>,
    /// Only the last bytes
    #[arg(long, value_name = "BYTES")]
    tail: Option<u64>,
}

/// Prints a job's log as it is, byte for byte.
pub(super) async fn run(args: LogsArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let client = context.client()?;
    if !args.follow {
        context.output.raw(&client.log(args.id, args.attempt, args.tail).await?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut log = client.follow_log(args.id, args.attempt);
    let mut attempt = None;
    while let Some(piece) = log.next().await? {
        if attempt.is_some_and(|before| before != piece.attempt) {
            tell(&format!("--- attempt {} ---", piece.attempt));
        }
        attempt = Some(piece.attempt);
        context.output.raw(piece.text.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}
