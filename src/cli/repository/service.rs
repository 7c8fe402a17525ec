//! `conveyor repository pause`, `resume` and `show`, and `conveyor repositories`: what the server says of repositories.

use clap::Args;
use comfy_table::{Cell, Color};
use jiff::Timestamp;

use super::super::context::Context;
use super::super::failure::tell;
use super::super::output::printable;
use super::super::submit::moment;
use crate::domain::names::RepositoryName;
use crate::domain::repository::{PauseRequest, RepositoryView};

/// What to pause, and why.
#[derive(Debug, Args)]
pub(in crate::cli) struct PauseArgs {
    /// The repository
    #[arg(value_name = "NAME")]
    name: RepositoryName,
    /// Why, for whoever waits
    #[arg(short = 'm', long, value_name = "TEXT")]
    reason: String,
    /// When it ends by itself: a time such as 2026-12-24T18:00:00Z, or a span such as 90m [default: when it is resumed]
    #[arg(long, value_name = "TIME|SPAN", value_parser = moment)]
    until: Option<Timestamp>,
}

/// What to resume.
#[derive(Debug, Args)]
pub(in crate::cli) struct ResumeArgs {
    /// The repository
    #[arg(value_name = "NAME")]
    name: RepositoryName,
}

/// Arguments of `conveyor repositories`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RepositoriesArgs {
    /// Print one JSON object a line, also on a terminal
    #[arg(long)]
    json: bool,
}

/// Pauses a repository.
pub(super) async fn pause(args: PauseArgs, context: &Context) -> anyhow::Result<()> {
    let request = PauseRequest { reason: args.reason, until: args.until };
    said(&context.client()?.pause(&args.name, &request).await?, context)
}

/// Ends whatever somebody put in a repository's way.
pub(super) async fn resume(args: ResumeArgs, context: &Context) -> anyhow::Result<()> {
    said(&context.client()?.resume(&args.name).await?, context)
}

/// Says how a repository stands after a change.
fn said(view: &RepositoryView, context: &Context) -> anyhow::Result<()> {
    if context.output.is_json() {
        return context.output.json(view);
    }
    if view.holds.is_empty() {
        return context.output.line(&format!("repository {} is served", view.repository));
    }
    for hold in &view.holds {
        context.output.line(&format!("repository {} is {}", view.repository, printable(&hold.to_string())))?;
    }
    for batch in view.batches.iter().filter(|batch| batch.node.is_some()) {
        context.output.line(&format!("still runs: {}", printable(&batch.to_string())))?;
    }
    Ok(())
}

/// Lists the repositories that the server accepts jobs for.
pub(in crate::cli) async fn list(args: RepositoriesArgs, context: &Context) -> anyhow::Result<()> {
    let list = context.client()?.repositories().await?.repositories;
    if args.json || context.output.is_json() {
        return list.iter().try_for_each(|view| context.output.json(view));
    }
    if list.is_empty() {
        tell("the server accepts jobs for no repository; they are named in its configuration");
        return Ok(());
    }
    let row = |view: &RepositoryView| {
        let holds = view.holds.iter().map(|hold| printable(&hold.to_string())).collect::<Vec<_>>();
        let running = view.batches.iter().filter(|batch| batch.node.is_some()).count();
        let state = match (view.holds.is_empty(), view.workers.is_empty()) {
            (false, _) => Cell::new(holds.join("\n")).fg(Color::Yellow),
            (true, true) => Cell::new("no worker").fg(Color::Red),
            (true, false) => Cell::new("served").fg(Color::Green),
        };
        vec![
            Cell::new(&view.repository),
            Cell::new(&view.fleet),
            Cell::new(if view.gateway { "yes" } else { "no" }),
            Cell::new(view.workers.len()),
            Cell::new(running),
            Cell::new(view.queued()),
            state,
        ]
    };
    let head = ["REPOSITORY", "FLEET", "GATEWAY", "WORKERS", "RUNNING", "QUEUED", "STATE"];
    context.output.table(&head, list.iter().map(row).collect())
}

/// Prints what the server says of one repository, for people.
pub(super) fn print(view: &RepositoryView, context: &Context) -> anyhow::Result<()> {
    let line = |name: &str, value: &str| context.output.line(&format!("{name:<18} {}", printable(value)));
    line("fleet", &view.fleet)?;
    let gateway = match &view.batch_root {
        Some(root) => format!("yes, batches up to {root}"),
        None if view.gateway => "yes".into(),
        None => "no".into(),
    };
    line("gateway", &gateway)?;
    if view.holds.is_empty() {
        line("state", "served")?;
    }
    for hold in &view.holds {
        line("state", &hold.to_string())?;
    }
    line("workers", &if view.workers.is_empty() { "none".into() } else { view.workers.join(", ") })?;
    for batch in &view.batches {
        line("runs", &batch.to_string())?;
    }
    let jobs: Vec<_> = view.jobs.iter().map(|(state, count)| format!("{count} {state}")).collect();
    line("jobs", &if jobs.is_empty() { "none".into() } else { jobs.join(", ") })?;
    if let Some(last) = &view.last_success {
        let said = format!("revision {} ({}) at {:.0}, job {}", last.revision, last.root_hash, last.at, last.job_id);
        line("last success", &said)?;
    }
    if let Some(last) = &view.last_failure {
        line("last failure", &format!("{} at {:.0}, job {}: {}", last.code, last.at, last.job_id, last.message))?;
    }
    Ok(())
}
