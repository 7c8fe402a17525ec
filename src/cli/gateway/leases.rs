//! `conveyor leases`: who holds what on the gateways of this node.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use comfy_table::{Cell, Color};
use jiff::Timestamp;
use serde_json::json;

use super::super::context::Context;
use super::super::failure::{FAILED, Usage, tell};
use super::super::output::{age, printable};
use super::places::{Local, Place, Places, Session, gateways};
use super::{Where, timeouts};
use crate::domain::names::RepositoryName;
use crate::publisher::gateway::{Gateway, GatewayKey, Lease};

/// Arguments of `conveyor leases`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(in crate::cli) struct LeasesArgs {
    /// Only those of this repository
    #[arg(value_name = "REPOSITORY")]
    repository: Option<RepositoryName>,
    #[command(flatten)]
    place: Where,
    /// Print one JSON object a line, also on a terminal
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

/// What to do instead of listing.
#[derive(Debug, Subcommand)]
enum Action {
    /// Take a lease away from whoever holds it, with all whose paths begin with the same text; needs an admin key
    Drop(DropArgs),
}

/// Arguments of `conveyor leases drop`.
#[derive(Debug, Args)]
struct DropArgs {
    /// Repository and path in one, as the list shows it: software.example.org/a/b
    #[arg(value_name = "PATH")]
    path: String,
    #[command(flatten)]
    place: Where,
    /// File with the key, which must be one with `admin: true` in the gateway's repo.json [default: KEYS/REPOSITORY.gw]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print one JSON object a line, also on a terminal
    #[arg(long)]
    json: bool,
}

/// Who holds a lease, as seen from this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// This node: its token is in the spool.
    Here,
    /// Taken by this machine, and nothing in the spool knows of it any more.
    Orphan,
    /// Another machine.
    Elsewhere,
    /// Perhaps this node: its spool cannot be read by who asks.
    Unknown,
}

impl Holder {
    fn as_str(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Orphan => "orphan",
            Self::Elsewhere => "elsewhere",
            Self::Unknown => "unknown",
        }
    }
}

/// A lease in the list.
#[derive(Debug)]
pub(super) struct Row {
    gateway: String,
    pub(super) lease: Lease,
    pub(super) holder: Holder,
}

/// Lists leases, or drops some.
pub(in crate::cli) async fn run(args: LeasesArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let output = context.output;
    match args.action {
        Some(Action::Drop(drop)) => {
            let (json, yes) = (drop.json || output.is_json(), drop.yes);
            let chosen = tokio::task::spawn_blocking(move || Chosen::of(drop)).await??;
            if chosen.leases.is_empty() {
                tell(&format!("note: no lease begins with {}", printable(&chosen.path)));
                return Ok(ExitCode::SUCCESS);
            }
            for lease in &chosen.leases {
                tell(&format!("drops {}", describe(lease, Timestamp::now())));
            }
            if !yes && !confirmed("Drop? Whoever holds it cannot publish any more. [y/N] ")? {
                return Ok(ExitCode::from(FAILED));
            }
            let dropped = tokio::task::spawn_blocking(move || chosen.drop()).await??;
            for lease in dropped {
                let line =
                    json!({ "path": lease.path, "key_id": lease.key_id, "host": lease.hostname, "dropped": true });
                if json { output.json(&line)? } else { output.line(&format!("dropped {}", printable(&lease.path)))? }
            }
        }
        None => {
            let list = move || list(&args.place, args.repository.as_ref().map(RepositoryName::as_str));
            let (rows, faults) = tokio::task::spawn_blocking(list).await??;
            show(&rows, args.json || output.is_json(), context)?;
            for fault in &faults {
                tell(&format!("warning: {}", printable(fault)));
            }
            if !faults.is_empty() {
                return Ok(ExitCode::from(FAILED));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// All leases that count, and what could not be asked. An error where nothing could be.
pub(super) fn list(place: &Where, repository: Option<&str>) -> anyhow::Result<(Vec<Row>, Vec<String>)> {
    let mut faults = Vec::new();
    let mut locals = Places::new(place.config_dir.clone()).locals(&mut faults)?;
    if let Some(repository) = repository.filter(|_| place.gateway.is_none()) {
        locals.retain(|local| local.repository == repository);
    }
    let places = gateways(locals, place.gateway.as_deref(), None, timeouts())?;
    if places.is_empty() {
        let what = match repository {
            Some(repository) => format!("{repository} is no repository of this node that has a gateway"),
            None => "no repository of this node has a gateway".to_owned(),
        };
        let hint = format!("looked in {}; name one with --gateway URL", place.config_dir.display());
        return Err(Usage::new(what).with_hint(hint).into());
    }
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let alone = places.len() == 1;
    let mut rows = Vec::new();
    for place in places {
        match rows_of(&place, &host) {
            Ok(found) => rows.extend(found),
            Err(error) if alone => return Err(error),
            Err(error) => faults.push(format!("{error:#}")),
        }
    }
    rows.retain(|row| repository.is_none_or(|repository| row.lease.repository() == repository));
    Ok((rows, faults))
}

/// The leases of one gateway, with who holds them. `host` is what this machine calls itself.
pub(super) fn rows_of(place: &Place, host: &str) -> anyhow::Result<Vec<Row>> {
    let leases = place.gateway.leases()?;
    let mut ours: BTreeMap<String, Holder> = BTreeMap::new();
    let mut hidden = Vec::new();
    for local in &place.locals {
        match local.session() {
            Session::None => {}
            Session::Hidden => hidden.push(local.repository.as_str()),
            // Expired, or dropped behind our back: then it is not in the list either.
            Session::Token(token) => ours.extend(place.gateway.lease(&token)?.map(|lease| (lease.path, Holder::Here))),
        }
    }
    let is_local = |name: &str| place.locals.iter().any(|local: &Local| local.repository == name);
    let row = |lease: Lease| {
        let holder = match ours.get(&lease.path) {
            Some(holder) => *holder,
            None if lease.hostname.as_deref() != Some(host) || !is_local(lease.repository()) => Holder::Elsewhere,
            None if hidden.contains(&lease.repository()) => Holder::Unknown,
            None => Holder::Orphan,
        };
        Row { gateway: place.gateway.url().to_owned(), lease, holder }
    };
    Ok(leases.into_values().map(row).collect())
}

fn show(rows: &[Row], json: bool, context: &Context) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let left = |lease: &Lease| lease.expires.as_second() - now.as_second();
    if json {
        return rows.iter().try_for_each(|Row { gateway, lease, holder }| {
            context.output.json(&json!({
                "gateway": gateway,
                "path": lease.path,
                "repository": lease.repository(),
                "key_id": lease.key_id,
                "host": lease.hostname,
                "held": holder.as_str(),
                "expires_at": lease.expires.to_string(),
                "expires_in_s": left(lease).max(0),
            }))
        });
    }
    if rows.is_empty() {
        tell("no leases");
        return Ok(());
    }
    let cells = |Row { lease, holder, .. }: &Row| {
        let color = match holder {
            Holder::Here => Color::Cyan,
            Holder::Orphan => Color::Red,
            Holder::Elsewhere | Holder::Unknown => Color::Reset,
        };
        vec![
            Cell::new(printable(&lease.path)),
            Cell::new(printable(&lease.key_id)),
            Cell::new(printable(lease.hostname.as_deref().unwrap_or("-"))),
            Cell::new(holder.as_str()).fg(color),
            Cell::new(age(left(lease))),
        ]
    };
    context.output.table(&["PATH", "KEY", "HOST", "HELD", "EXPIRES IN"], rows.iter().map(cells).collect())?;
    if rows.iter().any(|row| row.holder == Holder::Orphan) {
        tell(
            "note: an orphan was taken by this machine, and no transaction here has its token: it keeps others from its \
             path until it expires, or: conveyor leases drop PATH",
        );
    }
    Ok(())
}

/// The leases that a path stands for, and how to drop them.
pub(super) struct Chosen {
    pub(super) gateway: Gateway,
    pub(super) path: String,
    repository: String,
    within: String,
    pub(super) leases: Vec<Lease>,
}

impl Chosen {
    fn of(args: DropArgs) -> anyhow::Result<Self> {
        let (repository, within) = args.path.split_once('/').unwrap_or((&args.path, ""));
        let repository = RepositoryName::new(repository)
            .map_err(|error| Usage::new(error.to_string()).with_hint("write REPOSITORY/PATH, as the list shows it"))?;
        let places = Places::new(args.place.config_dir);
        let key = GatewayKey::read(&args.key.unwrap_or_else(|| places.key_file(repository.as_str())))?;
        let url = match args.place.gateway {
            Some(url) => url,
            None => {
                let mut faults = Vec::new();
                let locals = places.locals(&mut faults)?;
                let local = locals.into_iter().find(|local| local.repository == repository.as_str());
                local.map(|local| local.url).ok_or_else(|| {
                    Usage::new(format!("{repository} is no repository of this node that has a gateway"))
                        .with_hint("name the gateway with --gateway URL")
                })?
            }
        };
        Self::on(Gateway::new(&url, Some(key), timeouts())?, repository.as_str(), within)
    }

    /// The leases of a gateway that would be dropped.
    pub(super) fn on(gateway: Gateway, repository: &str, within: &str) -> anyhow::Result<Self> {
        let leases = gateway.leases_that_begin(repository, within)?;
        let path = format!("{repository}/{}", within.trim_start_matches('/'));
        Ok(Self { gateway, path, repository: repository.to_owned(), within: within.to_owned(), leases })
    }

    /// Drops them and sees that they are gone; those that are.
    pub(super) fn drop(self) -> anyhow::Result<Vec<Lease>> {
        self.gateway.drop_by_path(&self.repository, &self.within)?;
        let left = self.gateway.leases_that_begin(&self.repository, &self.within)?;
        // Taken anew by somebody else is not left.
        let still = self.leases.iter().find(|lease| left.contains(lease));
        match still {
            Some(lease) => anyhow::bail!("the gateway says ok, and {} is still there", lease.path),
            None => Ok(self.leases),
        }
    }
}

/// A lease in one line.
pub(super) fn describe(lease: &Lease, now: Timestamp) -> String {
    let host = lease.hostname.as_deref().unwrap_or("an unnamed host");
    let left = age(lease.expires.as_second() - now.as_second());
    printable(&format!("{} of {host} (key {}, expires in {left})", lease.path, lease.key_id))
}

/// Asks a person. Where there is none, a flag must have said it.
fn confirmed(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Usage::new("nobody is there to ask").with_hint("say --yes to drop without being asked").into());
    }
    let mut talk = std::io::stderr().lock();
    write!(talk, "{question}")?;
    talk.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
