//! `conveyor repository gc`.

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;

use super::super::context::Context;
use super::super::failure::tell;
use super::{NamedArgs, lock};
use crate::cvmfs::hash::ObjectKind;
use crate::cvmfs::stratum0::{GcOptions, GcReport, Keep};

/// What to keep.
#[derive(Debug, Args)]
pub(in crate::cli) struct GcArgs {
    #[command(flatten)]
    #[allow(missing_docs)] // a doc comment would become the command's help
    pub repository: NamedArgs,
    /// Keep so many revisions before the present one [default: those of CVMFS_AUTO_GC_TIMESPAN, or of three days]
    #[arg(long, value_name = "N", conflicts_with = "keep_since")]
    pub keep_revisions: Option<u64>,
    /// Keep the revisions since a time such as 2026-11-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub keep_since: Option<Timestamp>,
    /// Change nothing; name the objects that would go
    #[arg(long)]
    pub dry_run: bool,
    /// Collect where the settings do not allow it, too
    #[arg(long)]
    pub force: bool,
}

/// Carries it out.
pub(super) fn run(args: GcArgs, context: &Context) -> anyhow::Result<()> {
    let stratum0 = args.repository.stratum0(context);
    let keep = match (args.keep_revisions, args.keep_since) {
        (Some(count), _) => Keep::Revisions(count),
        (None, Some(time)) => Keep::Since(time.as_second()),
        (None, None) => Keep::Default,
    };
    let options = GcOptions { keep, dry_run: args.dry_run, force: args.force };
    let mut failed = None;
    let mut named = |path: &str, bytes: u64| {
        if args.dry_run && failed.is_none() {
            failed = name_object(path, bytes, context).err();
        }
    };
    let report = stratum0.collect_garbage(lock(&stratum0)?, options, super::now(), &mut named, &|_| {});
    let report = report.with_context(|| format!("cannot collect the garbage of {}", stratum0.name()))?;
    failed.map_or(Ok(()), Err)?;
    for what in &report.missing {
        tell(&format!("{what} is missing"));
    }
    tell_report(stratum0.name(), &report, args.dry_run, context)
}

fn name_object(path: &str, bytes: u64, context: &Context) -> anyhow::Result<()> {
    if context.output.is_json() {
        return context.output.json(&serde_json::json!({"object": path, "bytes": bytes}));
    }
    context.output.line(&format!("{bytes:>12}  {path}"))
}

fn tell_report(name: &str, report: &GcReport, dry_run: bool, context: &Context) -> anyhow::Result<()> {
    let count = |kind| report.removed.get(&kind).copied().unwrap_or(0);
    let kinds = [
        ("files", count(ObjectKind::File)),
        ("chunks", count(ObjectKind::Chunk)),
        ("catalogs", count(ObjectKind::Catalog)),
        ("histories", count(ObjectKind::History)),
        ("certificates", count(ObjectKind::Certificate)),
        ("metainfo", count(ObjectKind::Metainfo)),
    ];
    if context.output.is_json() {
        let removed: serde_json::Map<_, _> =
            kinds.iter().map(|(kind, count)| ((*kind).to_owned(), (*count).into())).collect();
        return context.output.json(&serde_json::json!({
            "repository": name,
            "dry_run": dry_run,
            "kept_revisions": report.kept_revisions,
            "kept_catalogs": report.kept_catalogs,
            "kept_objects": report.kept_objects,
            "removed": removed,
            "removed_objects": report.removed_objects(),
            "removed_bytes": report.removed_bytes,
            "left_alone": report.left_alone,
        }));
    }
    let verb = if dry_run { "would remove" } else { "removed" };
    let kept = (report.kept_revisions, report.kept_catalogs, report.kept_objects);
    context.output.line(&format!("kept          {} revisions, {} catalogs, {} objects", kept.0, kept.1, kept.2))?;
    let kinds: Vec<_> =
        kinds.iter().filter(|(_, count)| *count > 0).map(|(kind, count)| format!("{count} {kind}")).collect();
    let kinds = if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") };
    context.output.line(&format!("{verb:<13} {kinds}; {} bytes", report.removed_bytes))?;
    if report.left_alone > 0 {
        context.output.line(&format!("left alone    {} files that are no objects, or too new", report.left_alone))?;
    }
    Ok(())
}
