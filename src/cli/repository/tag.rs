//! `conveyor repository tag`.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use comfy_table::Cell;

use super::super::context::Context;
use super::super::output::printable;
use super::{NamedArgs, lock, now, time};
use crate::cvmfs::history::Tag;
use crate::cvmfs::reader::Expiry;
use crate::cvmfs::stratum0::NewTag;

/// Whose tags, and what to do with them.
#[derive(Debug, Args)]
pub(in crate::cli) struct TagArgs {
    #[command(flatten)]
    #[allow(missing_docs)] // a doc comment would become the command's help
    pub repository: NamedArgs,
    /// Lists them if nothing else is said
    #[command(subcommand)]
    pub action: Option<Action>,
}

/// What to do with tags.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Action {
    /// Name a revision
    Add {
        /// The name: letters, digits and - _ . / :
        #[arg(value_name = "TAG")]
        tag: String,
        /// A tag, root hash or number of a revision [default: the present one]
        #[arg(long, value_name = "REVISION")]
        at: Option<String>,
        /// A text about it
        #[arg(short, long, value_name = "TEXT", default_value = "")]
        message: String,
        /// Move a tag that exists
        #[arg(long)]
        r#move: bool,
    },
    /// Remove tags, all of them or none
    Remove {
        /// Their names
        #[arg(value_name = "TAG", required = true)]
        tags: Vec<String>,
    },
    /// Remove the old tags of batches; where cvmfs_server alone publishes, through it
    Prune(super::prune::PruneArgs),
    /// List them, the newest revision first
    List,
}

/// Carries it out.
pub(super) fn run(args: TagArgs, context: &Context) -> anyhow::Result<()> {
    let stratum0 = args.repository.stratum0(context);
    let tags = match args.action.unwrap_or(Action::List) {
        Action::Add { tag, at, message, r#move } => {
            let new = NewTag { name: &tag, description: &printable(&message) };
            let added = stratum0.add_tag(lock(&stratum0)?, new, at.as_deref(), r#move, now());
            vec![added.with_context(|| format!("cannot set tag {tag:?} in {}", stratum0.name()))?]
        }
        Action::Remove { tags } => {
            let names: Vec<_> = tags.iter().map(String::as_str).collect();
            let removed = stratum0.remove_tags(lock(&stratum0)?, &names, now());
            removed.with_context(|| format!("cannot remove tags from {}", stratum0.name()))?
        }
        Action::Prune(prune) => {
            let pruned = super::prune::run(&prune, &stratum0);
            pruned.with_context(|| format!("cannot prune the tags of {}", stratum0.name()))?
        }
        Action::List => {
            let read = || stratum0.reader(Expiry::Ignore)?.tags();
            read().with_context(|| format!("cannot read the tags of {}", stratum0.name()))?
        }
    };
    tell(&tags, context)
}

fn tell(tags: &[Tag], context: &Context) -> anyhow::Result<()> {
    if context.output.is_json() {
        return tags.iter().try_for_each(|tag| {
            context.output.json(&serde_json::json!({
                "name": tag.name,
                "revision": tag.revision,
                "root_hash": tag.root_hash.to_string(),
                "published_at": time(tag.timestamp),
                "description": tag.description,
            }))
        });
    }
    let row = |tag: &Tag| {
        vec![
            Cell::new(tag.revision),
            Cell::new(&tag.name),
            Cell::new(tag.root_hash.to_string()),
            Cell::new(time(tag.timestamp)),
            Cell::new(printable(&tag.description)),
        ]
    };
    let head = ["REVISION", "TAG", "ROOT HASH", "PUBLISHED", "DESCRIPTION"];
    context.output.table(&head, tags.iter().map(row).collect())
}
