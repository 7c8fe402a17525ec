//! `conveyor repository diff`.

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::super::context::Context;
use super::super::output::printable;
use super::{NamedArgs, reader};
use crate::cvmfs::diff::{Change, ChangeKind, diff};

/// What to compare.
#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArgs {
    #[command(flatten)]
    #[allow(missing_docs)] // a doc comment would become the command's help
    pub named: NamedArgs,
    /// The older revision: a tag, a number, or the hash of a root catalog
    #[arg(value_name = "FROM")]
    from: String,
    /// The newer one
    #[arg(value_name = "TO", default_value = "trunk")]
    to: String,
}

/// Prints a line for each path that changed, as soon as it is known.
pub(super) fn run(args: DiffArgs, context: &Context) -> anyhow::Result<()> {
    let name = args.named.name.clone();
    let reader = reader(&args.named.stratum0(context))?;
    let cannot = || format!("cannot compare {} with {} of repository {name}", args.from, args.to);
    let from = reader.resolve_revision(&args.from).with_context(cannot)?;
    let to = reader.resolve_revision(&args.to).with_context(cannot)?;
    let mut printed = Ok(());
    let compared = diff(&reader, &from.root_hash, &to.root_hash, &mut |change| {
        printed = print(&change, context);
        // Ends the diff; what is told is why printing failed.
        if printed.is_ok() { Ok(()) } else { Err(crate::cvmfs::Error::Missing("the output".into())) }
    });
    printed?;
    compared.with_context(cannot)
}

fn print(change: &Change, context: &Context) -> anyhow::Result<()> {
    let path = format!("/{}", String::from_utf8_lossy(&change.path));
    let (sign, word, aspects) = match &change.kind {
        ChangeKind::Added(_) => ('+', "added", &[][..]),
        ChangeKind::Removed(_) => ('-', "removed", &[][..]),
        ChangeKind::Modified { aspects, .. } => ('*', "modified", aspects.as_slice()),
    };
    let aspects: Vec<_> = aspects.iter().map(|aspect| aspect.as_str()).collect();
    if context.output.is_json() {
        return context.output.json(&json!({"path": path, "change": word, "aspects": aspects}));
    }
    // A name may hold a line's end.
    let path = printable(&path).replace('\n', "\u{fffd}");
    let aspects = if aspects.is_empty() { String::new() } else { format!("  ({})", aspects.join(", ")) };
    context.output.line(&format!("{sign} {path}{aspects}"))
}
