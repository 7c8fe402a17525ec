//! `conveyor repository hold`: the repository for oneself, for a time or for as long as a command runs.

use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use jiff::SignedDuration;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use uuid::Uuid;

use super::super::context::Context;
use super::super::failure::{FAILED, Usage, describe, tell};
use super::super::output::printable;
use crate::client::{Client, ClientError};
use crate::domain::hold::{LONGEST_HOLD_S, SHORTEST_HOLD_S};
use crate::domain::ids::HoldId;
use crate::domain::names::RepositoryName;
use crate::domain::repository::{HoldReply, HoldRequest};

/// How long a hold lasts that a command's holder does not renew.
const LEASE_S: u32 = 60;
/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(10);
/// How often it is asked whether what ran has ended.
const LOOK: Duration = Duration::from_secs(1);

/// What to hold, for how long, for what.
#[derive(Debug, Args)]
pub(in crate::cli) struct HoldArgs {
    /// The repository
    #[arg(value_name = "NAME")]
    name: RepositoryName,
    /// How long, such as 30m or 4h; counted from the moment at which nothing of it runs, with --wait
    #[arg(long = "for", value_name = "SPAN", value_parser = lease, required_unless_present = "command", conflicts_with = "command")]
    lasts: Option<u32>,
    /// Why, for whoever waits
    #[arg(short = 'm', long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Wait until nothing of the repository runs
    #[arg(short, long)]
    wait: bool,
    /// Give up, and let go, where something still runs after this time [default: never]
    #[arg(long, value_name = "SPAN", value_parser = span)]
    give_up_after: Option<Duration>,
    /// Run this once nothing of the repository runs, and let go when it has ended
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn span(text: &str) -> Result<Duration, String> {
    let span: SignedDuration = text.parse().map_err(|_| "write a span such as 90s, 30m or 4h")?;
    Duration::try_from(span).map_err(|_| "a span cannot be negative".into())
}

fn lease(text: &str) -> Result<u32, String> {
    let seconds = span(text)?.as_secs();
    let lease = u32::try_from(seconds).ok().filter(|lease| (SHORTEST_HOLD_S..=LONGEST_HOLD_S).contains(lease));
    lease.ok_or_else(|| format!("a hold lasts {SHORTEST_HOLD_S} s to {} days", LONGEST_HOLD_S / 86_400))
}

/// A hold that this process has.
struct Held {
    client: Client,
    name: RepositoryName,
    request: HoldRequest,
}

impl Held {
    async fn ask(&mut self) -> Result<HoldReply, ClientError> {
        let reply = self.client.hold(&self.name, &self.request).await?;
        self.request.renew = true;
        Ok(reply)
    }

    /// Renews the hold until nothing runs.
    async fn until_exclusive(&mut self, give_up_after: Option<Duration>) -> anyhow::Result<HoldReply> {
        let began = Instant::now();
        let mut told = Vec::new();
        loop {
            let reply = self.ask().await?;
            if reply.exclusive {
                return Ok(reply);
            }
            let running: Vec<String> = reply.running.iter().map(ToString::to_string).collect();
            if running != told {
                running.iter().for_each(|batch| tell(&format!("waits for {}", printable(batch))));
                told = running;
            }
            if give_up_after.is_some_and(|limit| began.elapsed() >= limit) {
                self.release().await;
                bail!("something of repository {} still runs; it is served again", self.name);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn release(&self) {
        if let Err(error) = self.client.release(&self.name, self.request.id).await {
            let lease = self.request.lease_s;
            tell(&format!(
                "warning: the hold could not be ended, and ends by itself within {lease} s: {}",
                describe(&error.into())
            ));
        }
    }
}

/// Holds the repository.
pub(super) async fn run(args: HoldArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let HoldArgs { name, lasts, reason, wait, give_up_after, command } = args;
    if give_up_after.is_some() && !wait && command.is_empty() {
        return Err(Usage::new("--give-up-after is about --wait").into());
    }
    let reason = if reason.is_empty() { command.join(" ") } else { reason };
    let lease_s = lasts.unwrap_or(LEASE_S);
    let request = HoldRequest { id: HoldId(Uuid::now_v7()), reason, lease_s, renew: false };
    let mut held = Held { client: context.client()?, name, request };
    // From here on a signal must not leave the hold behind.
    let mut end = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let granted = tokio::select! {
        granted = async { if wait || lasts.is_none() { held.until_exclusive(give_up_after).await } else { Ok(held.ask().await?) } } => granted,
        _ = end.recv() => Err(anyhow::anyhow!("told to end")),
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
    };
    let reply = match granted {
        Ok(reply) => reply,
        Err(error) => {
            if held.request.renew {
                held.release().await;
            }
            return Err(error);
        }
    };
    if lasts.is_some() {
        say(&held.name, &reply, context)?;
        return Ok(ExitCode::SUCCESS);
    }
    let status = within(&mut held, &command, &mut end).await;
    held.release().await;
    let (status, is_kept) = status?;
    if !is_kept {
        return Ok(ExitCode::from(FAILED));
    }
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::from(FAILED), ExitCode::from))
}

fn say(name: &RepositoryName, reply: &HoldReply, context: &Context) -> anyhow::Result<()> {
    if context.output.is_json() {
        return context.output.json(
            &json!({"repository": name, "exclusive": reply.exclusive, "hold": reply.hold, "running": reply.running}),
        );
    }
    let hold = printable(&reply.hold.to_string());
    context.output.line(&format!("repository {name} is {hold}"))?;
    for batch in &reply.running {
        context.output.line(&format!("still runs: {}", printable(&batch.to_string())))?;
    }
    Ok(())
}

/// Runs a command and renews the hold meanwhile. Tells how it ended, and whether the hold was there all the time.
async fn within(
    held: &mut Held,
    command: &[String],
    end: &mut tokio::signal::unix::Signal,
) -> anyhow::Result<(ExitStatus, bool)> {
    let [program, arguments @ ..] = command else { bail!("there is no command") };
    tell(&format!("repository {} is held; runs {}", held.name, printable(&command.join(" "))));
    let mut child = Command::new(program).args(arguments).spawn().with_context(|| format!("cannot run {program}"))?;
    // Nobody waits longer for an answer than a renewal is good for.
    held.client = held.client.with_retry_for(Duration::ZERO);
    let mut renewed = Instant::now();
    let mut renewal = tokio::time::interval(RENEWAL);
    let mut is_kept = true;
    loop {
        tokio::select! {
            status = child.wait() => return Ok((status?, is_kept)),
            // An interrupt comes to the command by itself, from the terminal.
            _ = end.recv() => terminate(&child),
            _ = renewal.tick(), if is_kept => {
                let lost = match held.ask().await {
                    Ok(_) => {
                        renewed = Instant::now();
                        None
                    }
                    Err(error @ ClientError::Refused { status: 409, .. }) => Some(describe(&error.into())),
                    Err(error) if renewed.elapsed() > Duration::from_secs(u64::from(LEASE_S) * 2 / 3) => Some(describe(&error.into())),
                    Err(error) => {
                        tell(&format!("warning: the hold could not be renewed: {}", describe(&error.into())));
                        None
                    }
                };
                if let Some(why) = lost {
                    tell(&format!("error: repository {} is no longer held, and the command is told to end: {why}", held.name));
                    is_kept = false;
                    terminate(&child);
                }
            }
        }
    }
}

fn terminate(child: &Child) {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    // Without an id it has ended.
    if let Some(id) = id {
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
    }
}
