//! `conveyor list`.

use std::process::ExitCode;

use clap::Args;
use comfy_table::Cell;
use jiff::Timestamp;

use super::context::Context;
use super::failure::tell;
use super::output::{age, printable};
use super::submit::label;
use crate::client::ListQuery;
use crate::domain::ids::SubmissionId;
use crate::domain::job::state::StateKind;
use crate::domain::names::RepositoryName;
use crate::domain::protocol::JobView;

/// Most jobs that are asked for at once.
const PAGE: u32 = 500;

/// Arguments of `conveyor list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only jobs in these states, separated by commas
    #[arg(long, value_name = "STATE,…", value_delimiter = ',', value_parser = state)]
    state: Vec<StateKind>,
    /// Only jobs of this repository
    #[arg(short, long, visible_alias = "repository", value_name = "NAME")]
    repo: Option<RepositoryName>,
    /// Only jobs with this label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Only jobs of this submission
    #[arg(long, value_name = "UUID")]
    submission: Option<SubmissionId>,
    /// Only jobs of this name
    #[arg(short = 'j', long, visible_alias = "job-name")]
    name: Option<String>,
    /// Only jobs that this user submitted
    #[arg(long, value_name = "USER@HOST")]
    submitter: Option<String>,
    /// At most this many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

fn state(word: &str) -> Result<StateKind, String> {
    StateKind::parse(word).ok_or_else(|| format!("use {}", StateKind::ALL.map(StateKind::as_str).join(", ")))
}

/// Lists jobs, newest first.
pub(super) async fn run(args: ListArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let client = context.client()?;
    let mut query = ListQuery {
        states: args.state,
        repository: args.repo.map(String::from),
        name: args.name,
        submission: args.submission,
        submitter: args.submitter,
        labels: args.labels,
        ..ListQuery::default()
    };
    let (mut left, mut shown) = (args.limit, Vec::new());
    let more = loop {
        query.limit = Some(left.min(PAGE));
        let page = client.list(&query).await?;
        left = left.saturating_sub(u32::try_from(page.jobs.len()).unwrap_or(u32::MAX));
        if context.output.is_json() {
            page.jobs.iter().try_for_each(|job| context.output.json(job))?;
        } else {
            shown.extend(page.jobs);
        }
        query.cursor = page.next_cursor;
        if left == 0 || query.cursor.is_none() {
            break query.cursor.is_some();
        }
    };
    if !shown.is_empty() {
        let now = Timestamp::now();
        let head = ["ID", "NAME", "STATE", "ATTEMPT", "REPOSITORY", "LEASE PATH", "AGE"];
        context.output.table(&head, shown.iter().map(|job| row(job, now, context)).collect())?;
    }
    if more && !context.output.is_json() {
        tell(&format!("there are more than {}; --limit shows them", args.limit));
    }
    Ok(ExitCode::SUCCESS)
}

fn row(job: &JobView, now: Timestamp, context: &Context) -> Vec<Cell> {
    let publish = job.spec.publish();
    vec![
        Cell::new(job.job_id),
        Cell::new(printable(&job.name)),
        context.output.state(job.state),
        Cell::new(job.attempt),
        Cell::new(&publish.repository),
        Cell::new(&publish.lease_path),
        Cell::new(age(now.as_second() - job.created_at.as_second())),
    ]
}
