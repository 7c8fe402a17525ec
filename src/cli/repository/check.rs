//! `conveyor repository check`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::json;

use super::super::context::Context;
use super::super::failure::FAILED;
use super::super::output::printable;
use super::{NamedArgs, reader};
use crate::cvmfs::check::{self, Options, Severity};

/// How far to look at objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Data {
    /// Not at all
    None,
    /// See that they are there
    Exists,
    /// Read and hash them
    Verify,
}

/// What to check.
#[derive(Debug, Args)]
pub(in crate::cli) struct CheckArgs {
    #[command(flatten)]
    #[allow(missing_docs)] // a doc comment would become the command's help
    pub named: NamedArgs,
    /// How far to look at the objects of files
    #[arg(long, value_name = "HOW", default_value = "exists")]
    data: Data,
    /// Another revision than the latest: a tag, a number, or the hash of a root catalog
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Only what is below this path, at which a nested catalog begins
    #[arg(long, value_name = "PATH", default_value = "")]
    subtree: String,
}

/// Prints the problems, one in a line, and what was looked at. The exit code tells whether there are any.
pub(super) fn run(args: CheckArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let name = args.named.name.clone();
    let stratum0 = args.named.stratum0(context);
    let reader = reader(&stratum0)?;
    let cannot = || format!("cannot check repository {name}");
    let revision = args.revision.as_deref().map(|text| reader.resolve_revision(text)).transpose();
    let options = Options {
        data: match args.data {
            Data::None => check::Data::None,
            Data::Exists => check::Data::Exists,
            Data::Verify => check::Data::Verify,
        },
        root: revision.with_context(cannot)?.map(|revision| revision.root_hash),
        subtree: args.subtree.trim_matches('/').as_bytes().to_vec(),
        tags: true,
        noted_reflog: stratum0.noted_reflog().with_context(cannot)?,
        now: Some(Timestamp::now().as_second()),
        ..Options::default()
    };
    let report = check::check(&reader, &options).with_context(cannot)?;
    for problem in &report.problems {
        let severity = match problem.severity() {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        if context.output.is_json() {
            let place = problem.place.to_string();
            let code = problem.code.as_str();
            let line = json!({"severity": severity, "code": code, "place": place, "message": problem.message});
            context.output.json(&line)?;
        } else {
            context.output.line(&printable(&format!("{severity}: {problem}")))?;
        }
    }
    let (summary, clean) = (report.summary, report.is_clean());
    if context.output.is_json() {
        context.output.json(&json!({
            "repository": name.as_str(),
            "clean": clean,
            "problems": report.problems.len() as u64 + report.omitted,
            "catalogs": summary.catalogs,
            "entries": summary.entries,
            "objects": summary.objects,
            "bytes": summary.bytes,
        }))?;
    } else {
        if report.omitted > 0 {
            context.output.line(&format!("and {} more problems", report.omitted))?;
        }
        context.output.line(&format!(
            "{}: {} catalogs, {} entries, {} objects, {} bytes",
            if clean { "no errors" } else { "errors found" },
            summary.catalogs,
            summary.entries,
            summary.objects,
            summary.bytes
        ))?;
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}
