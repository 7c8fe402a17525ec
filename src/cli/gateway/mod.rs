//! `conveyor gateway` and `conveyor leases`: what an operator asks of a CernVM-FS gateway.

pub(super) mod leases;
mod places;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use comfy_table::{Cell, Color};
use jiff::Timestamp;
use serde_json::json;

use super::context::Context;
use super::failure::{FAILED, Usage, tell};
use super::output::printable;
use crate::domain::names::RepositoryName;
use crate::publisher::gateway::{Gateway, GatewayError, GatewayKey, Lease, Timeouts};
use places::{Places, gateways};

/// How often it is looked whether leases are gone.
const LOOK: Duration = Duration::from_secs(1);

/// What to do with a gateway.
#[derive(Debug, Subcommand)]
pub(super) enum GatewayCommand {
    /// Show a gateway's repositories, whether they are enabled, and how many leases they have
    Status(StatusArgs),
    /// Before its restart: give no more leases, and wait until none is left
    Drain(DrainArgs),
    /// Give leases again
    Resume(ResumeArgs),
}

/// Which gateways.
#[derive(Debug, Args)]
pub(super) struct Where {
    /// The gateway, such as `http://gateway.example.org:4929/api/v1` [default: those of this node's repositories]
    #[arg(long, value_name = "URL")]
    gateway: Option<String>,
    /// Where cvmfs_server keeps its configuration and keys
    #[arg(long, value_name = "DIR", default_value = "/etc/cvmfs")]
    config_dir: PathBuf,
}

/// Which repositories of which gateway, and the key that may enable them.
#[derive(Debug, Args)]
struct Whose {
    /// The repositories [default: all that the gateway has]
    #[arg(value_name = "REPOSITORY")]
    repositories: Vec<RepositoryName>,
    #[command(flatten)]
    place: Where,
    /// File with the key, which must be one with `admin: true` in the gateway's repo.json [default: the KEYS/REPOSITORY.gw of the
    /// first repository]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// Arguments of `conveyor gateway status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    place: Where,
}

/// Arguments of `conveyor gateway drain`.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    whose: Whose,
    /// Seconds to wait until no lease is left; exit code 1 when some are then
    #[arg(long, value_name = "SECONDS", default_value_t = 7500)]
    timeout: u64,
    /// Only wait: without an admin key, when jobs are held back in another way
    #[arg(long)]
    wait_only: bool,
}

/// Arguments of `conveyor gateway resume`.
#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    whose: Whose,
}

fn timeouts() -> Timeouts {
    Timeouts::default()
}

/// Carries out one of them.
pub(super) async fn run(command: GatewayCommand, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        GatewayCommand::Status(args) => status(args, context).await?,
        GatewayCommand::Drain(DrainArgs { whose, timeout, wait_only }) => {
            let limit = Duration::from_secs(timeout);
            let drained = tokio::task::spawn_blocking(move || {
                let (gateway, repositories) = whose.resolve(!wait_only)?;
                let disable = (!wait_only).then_some(false);
                Switched::to(gateway, repositories, disable)?.wait_until_unused(limit, |left| {
                    for lease in left {
                        tell(&format!("waits for {}", leases::describe(lease, Timestamp::now())));
                    }
                })
            });
            let Drained { gateway, repositories, left } = drained.await??;
            let line = json!({
                "gateway": gateway,
                "repositories": repositories,
                "disabled": !wait_only,
                "leases": left.iter().map(|lease| &lease.path).collect::<Vec<_>>(),
            });
            if context.output.is_json() {
                context.output.json(&line)?;
            } else if left.is_empty() {
                context.output.line("no lease is left: restart the gateway now, then: conveyor gateway resume")?;
            }
            if !left.is_empty() {
                let goes_on = if wait_only { "" } else { "; the repositories stay disabled: conveyor gateway resume" };
                tell(&format!("{} leases are left after {timeout} s{goes_on}", left.len()));
                return Ok(ExitCode::from(FAILED));
            }
        }
        GatewayCommand::Resume(ResumeArgs { whose }) => {
            let resumed = tokio::task::spawn_blocking(move || {
                let (gateway, repositories) = whose.resolve(true)?;
                Switched::to(gateway, repositories, Some(true))
            });
            for repository in resumed.await??.repositories {
                let line = json!({ "repository": repository, "enabled": true });
                let text = format!("{repository} is enabled");
                if context.output.is_json() { context.output.json(&line)? } else { context.output.line(&text)? }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Whose {
    /// The gateway, and the repositories that count there.
    fn resolve(self, with_key: bool) -> anyhow::Result<(Gateway, Vec<String>)> {
        let places = Places::new(self.place.config_dir);
        let named: Vec<String> = self.repositories.iter().map(|name| name.as_str().to_owned()).collect();
        let mut locals = places.locals(&mut Vec::new())?;
        locals.retain(|local| named.is_empty() || named.contains(&local.repository));
        let first = named.first().or(locals.first().map(|local| &local.repository)).cloned();
        let key = match (self.key, first) {
            _ if !with_key => None,
            (Some(path), _) => Some(GatewayKey::read(&path)?),
            (None, Some(repository)) => Some(GatewayKey::read(&places.key_file(&repository))?),
            (None, None) => None,
        };
        let mut found = gateways(locals, self.place.gateway.as_deref(), key.as_ref(), timeouts())?;
        match (found.pop(), found.is_empty()) {
            (Some(place), true) => Ok((place.gateway, named)),
            (Some(_), false) => {
                Err(Usage::new("this node has repositories on several gateways").with_hint("say --gateway URL").into())
            }
            (None, _) => {
                Err(Usage::new("no repository of this node has a gateway").with_hint("say --gateway URL").into())
            }
        }
    }
}

/// A gateway with repositories that were enabled or disabled.
struct Switched {
    gateway: Gateway,
    repositories: Vec<String>,
}

/// How a drain ended.
struct Drained {
    gateway: String,
    repositories: Vec<String>,
    /// The leases that are still there when the time is over.
    left: Vec<Lease>,
}

impl Switched {
    /// Enables or disables repositories, or neither; all of the gateway's where none is named.
    fn to(gateway: Gateway, named: Vec<String>, enable: Option<bool>) -> anyhow::Result<Self> {
        let known = gateway.repositories()?;
        if let Some(unknown) = named.iter().find(|name| !known.contains_key(*name)) {
            anyhow::bail!("the gateway at {} has no repository {unknown}", gateway.url());
        }
        let repositories = if named.is_empty() { known.into_keys().collect() } else { named };
        if let Some(enabled) = enable {
            for repository in &repositories {
                gateway.set_enabled(repository, enabled).map_err(|error| advised(error, enabled))?;
            }
        }
        Ok(Self { gateway, repositories })
    }

    /// Waits until these repositories have no lease. `tell` is called whenever what is waited for changes.
    fn wait_until_unused(self, limit: Duration, mut tell: impl FnMut(&[Lease])) -> anyhow::Result<Drained> {
        let Self { gateway, repositories } = self;
        let deadline = Instant::now() + limit;
        let mut told: Vec<Lease> = Vec::new();
        loop {
            let pause = || std::thread::sleep(LOOK.min(deadline.saturating_duration_since(Instant::now())));
            let all = match gateway.leases() {
                Ok(all) => all,
                // It answers nothing while a commit runs, and we have time.
                Err(GatewayError::Unanswered { .. }) if Instant::now() < deadline => {
                    pause();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let ours = |lease: &Lease| repositories.iter().any(|name| name == lease.repository());
            let left: Vec<Lease> = all.into_values().filter(ours).collect();
            if left.is_empty() || Instant::now() >= deadline {
                return Ok(Drained { gateway: gateway.url().to_owned(), repositories, left });
            }
            if left != told {
                tell(&left);
                told.clone_from(&left);
            }
            pause();
        }
    }
}

/// Adds what to do without an admin key.
fn advised(error: GatewayError, enable: bool) -> anyhow::Error {
    let needs_admin = matches!(&error, GatewayError::Refused { reason, .. } if reason == "no_admin_key");
    let error = anyhow::Error::new(error);
    match needs_admin && !enable {
        true => error.context(
            "not drained; without an admin key: hold the jobs back on the server of Conveyor, then drain --wait-only",
        ),
        false => error,
    }
}

async fn status(args: StatusArgs, context: &Context) -> anyhow::Result<()> {
    let found = tokio::task::spawn_blocking(move || {
        let locals = Places::new(args.place.config_dir).locals(&mut Vec::new())?;
        let places = gateways(locals, args.place.gateway.as_deref(), None, timeouts())?;
        let look = |place: places::Place| {
            let (repositories, leases) = (place.gateway.repositories()?, place.gateway.leases()?);
            Ok::<_, anyhow::Error>((place.gateway.url().to_owned(), repositories, leases))
        };
        places.into_iter().map(look).collect::<Result<Vec<_>, _>>()
    });
    let mut rows = Vec::new();
    for (gateway, repositories, leases) in found.await?? {
        for (name, state) in repositories {
            let count = leases.values().filter(|lease| lease.repository() == name).count();
            if context.output.is_json() {
                let line = json!({ "gateway": gateway, "repository": name, "enabled": state.enabled, "leases": count });
                context.output.json(&line)?;
                continue;
            }
            let (word, color) = if state.enabled { ("enabled", Color::Green) } else { ("disabled", Color::Yellow) };
            let cells = [Cell::new(printable(&name)), Cell::new(word).fg(color), Cell::new(count), Cell::new(&gateway)];
            rows.push(cells.to_vec());
        }
    }
    if context.output.is_json() {
        return Ok(());
    }
    if rows.is_empty() {
        tell("no repository of this node has a gateway, or the gateway has none; say --gateway URL");
        return Ok(());
    }
    context.output.table(&["REPOSITORY", "STATE", "LEASES", "GATEWAY"], rows)
}
