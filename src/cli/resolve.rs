//! `conveyor resolve`.

use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::ended;
use super::spec_file::submitter;
use crate::domain::ids::{BatchId, JobId};
use crate::domain::job::event::Verdict;
use crate::domain::job::state::JobState;
use crate::domain::protocol::ResolveRequest;

/// Arguments of `conveyor resolve`.
#[derive(Debug, Args)]
#[group(id = "said", required = true, args = ["published", "not_published"])]
pub(super) struct ResolveArgs {
    /// The job
    #[arg(value_name = "ID")]
    id: JobId,
    /// It was published: the revision that the tag names, and its root hash
    #[arg(long, value_name = "REVISION[:ROOT_HASH]", value_parser = published)]
    published: Option<Verdict>,
    /// It was not, and nothing is left that could still publish it: it is tried again
    #[arg(long, conflicts_with = "published")]
    not_published: bool,
    /// It is not tried again, but has failed
    #[arg(long, requires = "not_published")]
    give_up: bool,
    /// Why, for the job's story
    #[arg(short = 'm', long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// The batch that was looked for [default: the one that needs an operator now]
    #[arg(long, value_name = "ID")]
    batch: Option<BatchId>,
}

fn published(text: &str) -> Result<Verdict, String> {
    let (revision, root_hash) = text.split_once(':').unwrap_or((text, ""));
    let revision = revision.parse().map_err(|_| "a revision is a number, such as 42 or 42:ROOT_HASH".to_owned())?;
    if !root_hash.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') || root_hash.len() > 128 {
        return Err("a root hash is of hexadecimal digits".into());
    }
    Ok(Verdict::Published { revision, root_hash: root_hash.to_owned() })
}

/// Settles a job that needs an operator.
pub(super) async fn run(args: ResolveArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let verdict = match args.published {
        Some(verdict) => verdict,
        None if args.give_up => Verdict::GivenUp,
        None => Verdict::NotPublished,
    };
    let client = context.client()?;
    let job = client.job(args.id).await?;
    let batch_id = match (&args.batch, &job.status) {
        (Some(batch), _) | (None, JobState::NeedsOperator { batch, .. }) => Some(*batch),
        // Settled before, perhaps in just this way: the server knows.
        (None, _) => None,
    };
    let request = ResolveRequest { batch_id, verdict, by: submitter(), reason: args.reason };
    let job = client.resolve(args.id, &request).await?;
    if context.output.is_json() {
        context.output.json(&ended::line(&(&job).into()))?;
    } else {
        context.output.line(&format!("job {} is {}", job.job_id, job.state))?;
    }
    Ok(ExitCode::SUCCESS)
}
