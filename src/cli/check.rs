//! `conveyor check`.

use std::process::ExitCode;

use clap::Args;
use comfy_table::Cell;

use super::context::Context;
use super::failure::{FAILED, Usage, tell};
use super::output::printable;
use super::submit::ids;
use super::{ended, progress};
use crate::client::Client;
use crate::domain::ids::JobId;
use crate::domain::protocol::JobView;
use crate::domain::standing::JobStanding;

/// Arguments of `conveyor check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Jobs to look at
    #[arg(value_name = "ID")]
    more: Vec<String>,
    /// Jobs to look at, separated by commas
    #[arg(short, long, value_name = "ID,…", value_delimiter = ',', required_unless_present = "more")]
    ids: Vec<String>,
    /// Wait until they have ended
    #[arg(short, long)]
    wait: bool,
    /// Print all that is known of them, as JSON
    #[arg(short = 'e', long)]
    full_status: bool,
}

/// Shows how the jobs stand. That one failed is an answer, not an error; that one is unknown is.
pub(super) async fn run(args: CheckArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let mut ids = ids(&[args.ids, args.more].concat())?;
    if ids.is_empty() {
        return Err(Usage::new("no job is named: --ids ID,…").into());
    }
    let client = context.client()?;
    let mut unknown: Vec<JobId> = Vec::new();
    if args.wait {
        let waited = progress::wait(&client, &ids, None, context.config.wait_limit()).await?;
        unknown = waited.unknown;
        if !args.full_status {
            show(&waited.ended, context)?;
            return told(&unknown, &client);
        }
        ids = waited.ended.iter().map(|job| job.job_id).collect();
    }
    let mut jobs: Vec<JobView> = Vec::new();
    for id in ids {
        match client.find_job(id).await? {
            Some(job) => jobs.push(job),
            None => unknown.push(id),
        }
    }
    if args.full_status {
        show_all(&jobs, context)?;
    } else {
        show(&jobs.iter().map(JobStanding::from).collect::<Vec<_>>(), context)?;
    }
    for job in &jobs {
        for line in job.unclear.iter().flat_map(|unclear| unclear.advice(job.job_id)) {
            tell(&format!("job {}: {}", job.job_id, printable(&line)));
        }
    }
    told(&unknown, &client)
}

/// Names the jobs that the server does not know; gives the exit code.
fn told(unknown: &[JobId], client: &Client) -> anyhow::Result<ExitCode> {
    for id in unknown {
        tell(&format!("error: job {id} is not known to {}", client.url()));
    }
    if !unknown.is_empty() {
        tell("hint: compare the ids and the server's address; conveyor list shows the jobs that it knows");
        return Ok(ExitCode::from(FAILED));
    }
    Ok(ExitCode::SUCCESS)
}

fn show_all(jobs: &[JobView], context: &Context) -> anyhow::Result<()> {
    let output = context.output;
    if output.is_json() {
        return jobs.iter().try_for_each(|job| output.json(job));
    }
    jobs.iter().try_for_each(|job| output.line(&serde_json::to_string_pretty(job)?))
}

fn show(jobs: &[JobStanding], context: &Context) -> anyhow::Result<()> {
    let output = context.output;
    if output.is_json() {
        return jobs.iter().try_for_each(|job| output.json(&ended::line(job)));
    }
    let row = |job: &JobStanding| {
        vec![
            Cell::new(job.job_id),
            Cell::new(printable(&job.name)),
            output.state(job.state),
            Cell::new(job.attempt),
            Cell::new(printable(&ended::remark(job))),
        ]
    };
    if jobs.is_empty() {
        Ok(())
    } else {
        output.table(&["ID", "NAME", "STATE", "ATTEMPT", "REMARK"], jobs.iter().map(row).collect())
    }
}
