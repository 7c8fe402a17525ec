//! `conveyor changes`, and what a dry run would change.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::failure::tell;
use super::output::Output;
use crate::client::Client;
use crate::domain::ids::JobId;
use crate::domain::tree::ChangedPath;

/// Arguments of `conveyor changes`.
#[derive(Debug, Args)]
pub(super) struct ChangesArgs {
    /// The job
    #[arg(value_name = "ID")]
    id: JobId,
    /// Which attempt [default: the last]
    #[arg(long, value_name = "NUMBER")]
    attempt: Option<u32>,
}

/// Prints the list as it is kept, a line for each path.
pub(super) async fn run(args: ChangesArgs, context: &Context) -> anyhow::Result<ExitCode> {
    context.output.raw(&context.client()?.changes(args.id, args.attempt).await?)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what a dry run would have changed: lines as they are kept, or an object for each path.
pub(super) async fn print_dry_run(job: JobId, client: &Client, output: Output) -> anyhow::Result<()> {
    let list = client.changes(job, None).await?;
    if !output.is_json() {
        return output.raw(&list);
    }
    for line in String::from_utf8_lossy(&list).lines() {
        let Ok(change) = line.parse::<ChangedPath>() else {
            tell(&format!("note: {}", line.trim_start_matches(['#', ' '])));
            continue;
        };
        let word = match change {
            ChangedPath::Added(_) => "added",
            ChangedPath::Modified(_) => "modified",
            ChangedPath::Removed(_) => "removed",
        };
        // The path as it is listed: JSON has no words for bytes that are no UTF-8.
        output.json(&json!({"change": word, "path": line.get(2..).unwrap_or_default()}))?;
    }
    Ok(())
}
