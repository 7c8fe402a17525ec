//! `conveyor repository rollback`.

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;

use super::super::context::Context;
use super::super::output::printable;
use super::{NamedArgs, lock};
use crate::cvmfs::history::TRUNK_PREVIOUS;
use crate::cvmfs::stratum0::{NewTag, RollbackOptions};

/// Where to go back to, and how.
#[derive(Debug, Args)]
pub(in crate::cli) struct RollbackArgs {
    #[command(flatten)]
    #[allow(missing_docs)] // a doc comment would become the command's help
    pub repository: NamedArgs,
    /// A tag, root hash or number of a revision
    #[arg(long, value_name = "REVISION", default_value = TRUNK_PREVIOUS)]
    pub to: String,
    /// The new revision's tag [default: rollback-TIME]
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// A text about it
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Leave the tags of the revisions in between
    #[arg(long)]
    pub keep_tags: bool,
}

/// Carries it out.
pub(super) fn run(args: RollbackArgs, context: &Context) -> anyhow::Result<()> {
    let stratum0 = args.repository.stratum0(context);
    let now = Timestamp::now();
    let name = args.tag.unwrap_or_else(|| now.strftime("rollback-%Y-%m-%dT%H:%M:%S%.3fZ").to_string());
    let description = printable(&args.message.unwrap_or_else(|| format!("rollback to {}", args.to)));
    let tag = NewTag { name: &name, description: &description };
    let options = RollbackOptions { to: &args.to, tag, keep_tags: args.keep_tags };
    let done = stratum0.rollback(lock(&stratum0)?, options, now.as_second(), &|_| {});
    let done = done.with_context(|| format!("cannot roll {} back to {}", stratum0.name(), args.to))?;
    if context.output.is_json() {
        return context.output.json(&serde_json::json!({
            "repository": stratum0.name(),
            "revision": done.manifest.revision,
            "root_hash": done.manifest.root_hash.to_string(),
            "tag": name,
            "content_of": done.target,
            "removed_tags": done.removed_tags,
        }));
    }
    context.output.line(&format!("revision      {} ({name})", done.manifest.revision))?;
    context.output.line(&format!("content of    revision {}", done.target))?;
    context.output.line(&format!("root hash     {}", done.manifest.root_hash))?;
    done.removed_tags.iter().try_for_each(|tag| context.output.line(&format!("removed tag   {tag}")))
}
