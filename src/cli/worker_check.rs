//! `conveyor worker check`.

use std::process::ExitCode;

use clap::Args;
use comfy_table::{Cell, Color};
use serde_json::json;

use super::context::Context;
use super::failure::FAILED;
use super::output::printable;
use super::working;
use crate::config::WorkerConfig;
use crate::publisher::{Finding, FindingState};
use crate::worker;

/// Arguments of `conveyor worker check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Print one JSON object a line, also on a terminal
    #[arg(long)]
    json: bool,
}

/// Tries what the worker needs and says what is missing.
pub(super) async fn run(args: &CheckArgs, config: WorkerConfig, context: &Context) -> anyhow::Result<ExitCode> {
    let findings = match working::parts(config, None) {
        Ok((client, publisher, settings)) => worker::check(&client, publisher, &settings).await,
        Err(error) => vec![Finding::missing("configuration", format!("{error:#}"), "docs/configuration.md, [worker]")],
    };
    if args.json || context.output.is_json() {
        for found in &findings {
            let state = word(found.state);
            context
                .output
                .json(&json!({"what": found.what, "state": state, "text": found.text, "hint": found.hint}))?;
        }
    } else {
        context.output.table(&["WHAT", "STATE", "FOUND"], findings.iter().map(row).collect())?;
    }
    let fails = findings.iter().any(|found| found.state == FindingState::Missing);
    Ok(if fails { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn word(state: FindingState) -> &'static str {
    match state {
        FindingState::Good => "good",
        FindingState::Warning => "warning",
        FindingState::Missing => "missing",
    }
}

fn row(found: &Finding) -> Vec<Cell> {
    let color = match found.state {
        FindingState::Good => Color::Green,
        FindingState::Warning => Color::Yellow,
        FindingState::Missing => Color::Red,
    };
    let hint = found.hint.as_ref().map(|hint| format!("\nnext: {}", printable(hint))).unwrap_or_default();
    vec![
        Cell::new(printable(&found.what)),
        Cell::new(word(found.state)).fg(color),
        Cell::new(printable(&found.text) + &hint),
    ]
}
