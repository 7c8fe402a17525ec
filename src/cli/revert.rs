//! `conveyor revert`.

use std::collections::HashSet;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::context::Context;
use super::spec_file::submitter;
use super::submit::wait;
use crate::domain::ids::JobId;
use crate::domain::repository::RevertRequest;

/// Arguments of `conveyor revert`.
#[derive(Debug, Args)]
pub(super) struct RevertArgs {
    /// The job to undo
    #[arg(value_name = "ID")]
    job: JobId,
    /// Undo also what later revisions changed again, and what others of its batch changed below its path
    #[arg(long)]
    force: bool,
    /// Publish nothing; with --wait the paths that would change are printed, each behind A (added), M (modified) or D (removed)
    #[arg(long)]
    dry_run: bool,
    /// Id of the new job, a UUID of version 7: asking again is no second job
    #[arg(long, value_name = "UUID")]
    id: Option<JobId>,
    /// Wait for the end; exit with 1 unless it succeeds
    #[arg(short, long)]
    wait: bool,
}

/// Submits a job that puts back what another one changed.
pub(super) async fn run(args: RevertArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let client = context.client()?;
    let id = args.id.unwrap_or_else(|| JobId(Uuid::now_v7()));
    let request = RevertRequest { id, force: args.force, dry_run: args.dry_run, submitter: submitter() };
    let reply = client.revert(args.job, &request).await?;
    for job in &reply.jobs {
        if context.output.is_json() {
            context.output.json(&json!({
                "level": "info",
                "message": "job submitted successfully",
                "job_id": job.job_id,
                "reverts": args.job,
                "state": job.state,
                "created": job.created,
                "submission_id": reply.submission_id,
            }))?;
        } else {
            context.output.line(&format!("submitted {}, which reverts {}: {}", job.job_id, args.job, job.state))?;
        }
    }
    if !args.wait {
        return Ok(ExitCode::SUCCESS);
    }
    let dry_runs: HashSet<JobId> = args.dry_run.then_some(id).into_iter().collect();
    wait(&reply, &dry_runs, &client, context).await
}
