//! `conveyor worker status|drain|resume`: speaks to the worker of this machine.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use comfy_table::Cell;
use jiff::Timestamp;
use tokio::time::Instant;

use super::context::Context;
use super::failure::{FAILED, tell};
use super::output::{age, printable};
use crate::worker::control::{BatchStatus, DrainedBy, Request, SOCKET, Status, ask};

/// How often it is looked whether a worker has nothing left.
const LOOK: Duration = Duration::from_millis(500);

/// Where the worker listens.
#[derive(Debug, Args)]
struct Where {
    /// The worker's socket [default: control.sock in its state directory]
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// The worker's state directory [default: as configured]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// Arguments of `conveyor worker status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    place: Where,
    /// Print one JSON object, also on a terminal
    #[arg(long)]
    json: bool,
}

/// Arguments of `conveyor worker drain`.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    place: Where,
    /// Why, for whoever looks
    #[arg(long, value_name = "TEXT", default_value = "")]
    why: String,
    /// Wait until the worker has nothing left
    #[arg(long)]
    wait: bool,
    /// With --wait, seconds until it is given up; exit code 1 then, and the worker stays drained [default: for ever]
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    timeout: Option<u64>,
}

/// Arguments of `conveyor worker resume`.
#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    place: Where,
}

impl Where {
    fn socket(self, context: &Context) -> PathBuf {
        self.socket.unwrap_or_else(|| context.config.worker_state_dir(self.state_dir.as_ref()).join(SOCKET))
    }
}

/// Shows how it stands.
pub(super) async fn status(args: StatusArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let status = ask(&args.place.socket(context), Request::Status).await?;
    show(&status, args.json || context.output.is_json(), context)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes it take no more.
pub(super) async fn drain(args: DrainArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let socket = args.place.socket(context);
    let deadline = args.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut status = ask(&socket, Request::Drain { why: args.why }).await?;
    if args.wait && !status.is_drained() {
        tell(&format!("waits for {} batches", status.used));
    }
    while args.wait && !status.is_drained() {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            show(&status, context.output.is_json(), context)?;
            tell(&format!("{} batches are left; the worker stays drained", status.used));
            return Ok(ExitCode::from(FAILED));
        }
        tokio::time::sleep(LOOK).await;
        status = ask(&socket, Request::Status).await?;
        if status.draining.is_none() {
            anyhow::bail!("somebody has resumed the worker meanwhile");
        }
    }
    show(&status, context.output.is_json(), context)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes it take again.
pub(super) async fn resume(args: ResumeArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let status = ask(&args.place.socket(context), Request::Resume).await?;
    show(&status, context.output.is_json(), context)?;
    Ok(ExitCode::SUCCESS)
}

fn show(status: &Status, json: bool, context: &Context) -> anyhow::Result<()> {
    if json {
        return context.output.json(status);
    }
    let now = Timestamp::now();
    let since = |at: Timestamp| format!("{} ago", age(now.as_second() - at.as_second()));
    for line in lines(status, since) {
        context.output.line(&printable(&line))?;
    }
    if !status.batches.is_empty() {
        let head = ["BATCH", "REPOSITORY", "LEASE PATH", "JOBS", "STEP", "FILES", "BYTES", "SINCE"];
        context.output.table(&head, status.batches.iter().map(|batch| row(batch, since(batch.since))).collect())?;
    }
    for fault in &status.faults {
        tell(&format!("warning: {}", printable(fault)));
    }
    Ok(())
}

/// What is told in words.
fn lines(status: &Status, since: impl Fn(Timestamp) -> String) -> Vec<String> {
    let Status { node, fleet, publisher, version, pid, slots, used, .. } = status;
    let mut lines = vec![
        format!("worker {node} of fleet {fleet}, publisher {publisher}, version {version}, process {pid}"),
        format!("started {}; {used} of {slots} slots in use", since(status.started_at)),
    ];
    if let Some(repositories) = &status.repositories {
        let names: Vec<_> = repositories.iter().map(|name| name.as_str()).collect();
        lines.push(format!("serves {}", if names.is_empty() { "nothing".into() } else { names.join(", ") }));
    }
    let server = &status.server;
    lines.push(match (server.heard_s_ago, server.is_heard) {
        (None, _) => format!("the server at {} has not answered yet", server.url),
        (Some(ago), true) => format!("the server at {} answered {ago} s ago", server.url),
        (Some(ago), false) => format!("the server at {} has not answered for {ago} s: no publish begins", server.url),
    });
    lines.extend(server.error.as_ref().map(|error| format!("its last heartbeat failed: {error}")));
    match status.broker_connected {
        Some(true) => lines.push("offers come by the broker".into()),
        Some(false) if status.draining.is_none() => lines.push("no offers come by the broker: no connection".into()),
        Some(false) | None => {}
    }
    if let Some(draining) = &status.draining {
        let by = match draining.by {
            DrainedBy::Operator => "drained by an operator",
            DrainedBy::Signal => "ending",
        };
        let why = if draining.why.is_empty() { String::new() } else { format!(": {}", draining.why) };
        lines.push(format!("{by} since {}{why}", since(draining.since)));
    }
    lines
}

fn row(batch: &BatchStatus, since: String) -> Vec<Cell> {
    let jobs: Vec<_> = batch.jobs.iter().map(ToString::to_string).collect();
    vec![
        Cell::new(batch.id),
        Cell::new(batch.repository.as_str()),
        Cell::new(printable(batch.lease_path.as_str())),
        Cell::new(jobs.join("\n")),
        Cell::new(&batch.step),
        Cell::new(batch.files),
        Cell::new(batch.bytes),
        Cell::new(since),
    ]
}
