//! `conveyor workers`.

use std::process::ExitCode;

use clap::Args;
use comfy_table::{Cell, Color};
use jiff::Timestamp;

use super::context::Context;
use super::failure::tell;
use super::output::{age, printable};
use crate::domain::worker::{WorkerState, WorkerView};

/// Arguments of `conveyor workers`.
#[derive(Debug, Args)]
pub(super) struct WorkersArgs {
    /// Print one JSON object a line, also on a terminal
    #[arg(long)]
    json: bool,
}

/// Shows the workers by name, and says what is wrong with them.
pub(super) async fn run(args: WorkersArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let list = context.client()?.workers().await?;
    if args.json || context.output.is_json() {
        list.workers.iter().try_for_each(|worker| context.output.json(worker))?;
    } else if !list.workers.is_empty() {
        let now = Timestamp::now();
        let head = ["NODE", "FLEET", "STATE", "FREE", "SLOTS", "HOLDS", "OFFERS", "VERSION", "HEARD"];
        context.output.table(&head, list.workers.iter().map(|worker| row(worker, now)).collect())?;
    } else {
        tell("no worker was heard of; start one with: conveyor worker");
    }
    for worker in &list.workers {
        if let Some(drained) = &worker.about.drained {
            let why = if drained.why.is_empty() { String::new() } else { format!(": {}", drained.why) };
            tell(&printable(&format!("note: {} is drained since {}{why}", worker.node, drained.since)));
        }
    }
    for worker in &list.workers {
        for fault in &worker.about.faults {
            tell(&printable(&format!("warning: {}: {fault}", worker.node)));
        }
    }
    for gap in &list.gaps {
        tell(&format!("warning: {}", printable(&gap.describe())));
    }
    Ok(ExitCode::SUCCESS)
}

fn row(worker: &WorkerView, now: Timestamp) -> Vec<Cell> {
    let text = |text: Option<String>| Cell::new(printable(&text.unwrap_or_else(|| "-".into())));
    let held = worker.batches.iter().map(|batch| format!("{} ({})", batch.repository, batch.state));
    let color = match worker.state {
        WorkerState::Idle => Color::Green,
        WorkerState::Busy => Color::Cyan,
        WorkerState::Draining => Color::Yellow,
        WorkerState::Silent => Color::Red,
    };
    vec![
        text(Some(worker.node.clone())),
        text(worker.fleet.clone()),
        Cell::new(worker.state.as_str()).fg(color),
        text(worker.free_slots.map(|free| free.to_string())),
        text(worker.about.slots.map(|slots| slots.to_string())),
        text(Some(held.collect::<Vec<_>>().join("\n")).filter(|held| !held.is_empty())),
        text(worker.offers.map(|offers| offers.as_str().to_owned())),
        text(worker.about.version.clone()),
        text(worker.heard_at.map(|at| format!("{} ago", age(now.as_second() - at.as_second())))),
    ]
}
