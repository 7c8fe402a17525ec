//! `conveyor check-config`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::context::Context;
use super::notify;
use super::server::checked;
use super::supervision::NotifyLoaded;
use super::working;
use crate::client::Client;
use crate::config::{ServerFlags, WorkerFlags};

/// Arguments of `conveyor check-config`.
#[derive(Debug, Args)]
pub(super) struct CheckConfigArgs {
    /// Only what this role needs, as it would find it at its start on this machine; may be repeated [default: all roles]
    #[arg(long, value_name = "ROLE")]
    role: Vec<Role>,
    /// Do not open the files with tokens, passwords and certificates, and take them for good: for settings of another machine
    #[arg(long)]
    without_secrets: bool,
}

/// What a machine is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Role {
    /// `submit`, `check` and the like.
    Client,
    /// `server`.
    Server,
    /// `worker`.
    Worker,
    /// `notify server`.
    Notify,
}

/// Reads the configuration as the roles would; nothing is contacted. A role that is named is checked as at its start.
pub(super) fn run(args: CheckConfigArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let config = match args.without_secrets {
        true => context.config.clone().without_secrets(),
        false => context.config.clone(),
    };
    // A file may be for several machines: what this one could not be is an error only where it is asked for.
    let is_named = !args.role.is_empty();
    let mut refusals = Vec::new();
    let mut judge = |role: &str, checked: anyhow::Result<()>| match checked {
        Err(error) if is_named => Err(error),
        Err(error) => {
            refusals.push(format!("the {role} would not start here: {error:#}"));
            Ok(())
        }
        Ok(()) => Ok(()),
    };
    // They say nothing of this machine.
    let is_of_here = !args.without_secrets;
    let roles =
        if args.role.is_empty() { vec![Role::Client, Role::Server, Role::Worker, Role::Notify] } else { args.role };
    let (mut found, mut old_settings) = (Vec::new(), Vec::new());
    for role in roles {
        match role {
            Role::Client => {
                let client = config.client(&context.flags)?;
                Client::new(&client.url, None)?;
                found.push(("client", format!("asks {} {}", client.url, with_token(client.token.is_some()))));
            }
            Role::Server => {
                let flags = ServerFlags { token_file: context.flags.token_file.clone(), ..ServerFlags::default() };
                let server = config.server(&flags)?;
                if is_of_here {
                    judge("server", checked(&config, &flags).map(drop))?;
                }
                let listen = server.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let (state, token) = (server.state_dir.display(), with_token(server.token.is_some()));
                found.push((
                    "server",
                    format!(
                        "listens on {listen} {token}, keeps state in {state}, repositories: {}",
                        server.repositories.len()
                    ),
                ));
            }
            Role::Worker => {
                let worker = config.worker(&WorkerFlags { client: context.flags.clone(), ..WorkerFlags::default() })?;
                Client::new(&worker.client.url, None)?;
                if is_of_here {
                    judge("worker", working::check(&worker))?;
                }
                let (url, token) = (&worker.client.url, with_token(worker.client.token.is_some()));
                found.push((
                    "worker",
                    format!(
                        "is {} of fleet {}, asks {url} {token}, slots: {}",
                        worker.node, worker.fleet, worker.slots
                    ),
                ));
            }
            Role::Notify => {
                let flags = ServerFlags { token_file: context.flags.token_file.clone(), ..ServerFlags::default() };
                let loaded = notify::checked(&config, &[], None, &flags, is_of_here);
                let (listen, state, watched) = match loaded {
                    Ok(NotifyLoaded { config, warnings, .. }) => {
                        old_settings.extend(warnings);
                        (config.listen, config.state_dir, config.watched.len())
                    }
                    Err(error) => {
                        judge("service of notifications", Err(error))?;
                        continue;
                    }
                };
                let listen = listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                found.push((
                    "notify",
                    format!("listens on {listen}, keeps state in {}, watches {watched}", state.display()),
                ));
            }
        }
    }
    let path = context.config.path().map(|path| path.display().to_string());
    let told = [refusals, old_settings].concat();
    told.iter().for_each(|warning| tracing::warn!("{warning}"));
    let warnings: Vec<_> = context.config.warnings().iter().chain(&told).collect();
    if context.output.is_json() {
        let roles: serde_json::Map<_, _> =
            found.into_iter().map(|(role, text)| (role.to_owned(), json!(text))).collect();
        context.output.json(&json!({"file": path, "roles": roles, "warnings": warnings}))?;
    } else {
        context.output.line(&format!("file: {}", path.as_deref().unwrap_or("none, defaults only")))?;
        found.iter().try_for_each(|(role, text)| context.output.line(&format!("{role}: {text}")))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn with_token(token: bool) -> &'static str {
    if token { "with a token" } else { "without a token" }
}
