//! `conveyor broker`: looks at RabbitMQ, and makes it what the configuration wants.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use comfy_table::Cell;
use serde_json::json;

use super::context::Context;
use super::failure;
use super::output::printable;
use crate::broker::rabbitmq::{Connection, Difference, Settings, Tls, Topology, dead_letters};
use crate::config::{BrokerConfig, ConfigError, ServerFlags};

/// Commands of `conveyor broker`.
#[derive(Debug, Subcommand)]
pub(super) enum BrokerCommand {
    /// Say what is missing, differs or is not permitted; changes nothing
    Check,
    /// Make what is missing
    Declare(DeclareArgs),
    /// Offers that nobody could take
    #[command(subcommand)]
    DeadLetters(DeadLetters),
}

/// Arguments of `conveyor broker declare`.
#[derive(Debug, Args)]
pub(super) struct DeclareArgs {
    /// Delete what differs and make it anew; offers in it are sent again after a while
    #[arg(long)]
    force: bool,
}

/// Commands of `conveyor broker dead-letters`.
#[derive(Debug, Subcommand)]
pub(super) enum DeadLetters {
    /// Print the oldest ones; they stay
    Show {
        /// How many at the most
        #[arg(long, value_name = "NUMBER", default_value_t = 50)]
        limit: usize,
    },
    /// Delete all of them
    Purge,
}

/// What the broker module works with.
pub(super) fn settings(config: &BrokerConfig) -> Settings {
    let tls = config.tls.as_ref();
    Settings {
        host: config.host.clone(),
        port: config.port,
        vhost: config.vhost.clone(),
        user: config.user.clone(),
        password: config.password.clone(),
        tls: tls.map(|tls| Tls { authorities: tls.authorities.clone(), identity: tls.identity.clone() }),
        heartbeat_s: config.heartbeat_s,
        prefix: config.prefix.clone(),
        events_exchange: config.events_exchange.clone(),
        single_node: config.single_node,
        delivery_limit: config.delivery_limit,
    }
}

/// Runs one of them.
pub(super) async fn run(command: BrokerCommand, context: &Context) -> anyhow::Result<ExitCode> {
    let server = context
        .config
        .server(&ServerFlags { token_file: context.flags.token_file.clone(), ..ServerFlags::default() })?;
    let Some(config) = server.broker else {
        let why = "is not set; docs/configuration.md says what belongs there".into();
        return Err(ConfigError::Value { key: "[broker] url".into(), why }.into());
    };
    let settings = settings(&config);
    let fleets: std::collections::BTreeSet<_> =
        server.repositories.values().map(|rules| rules.fleet.as_str()).collect();
    let topology = Topology::wanted(&settings, fleets);
    let connection = Connection::open(&settings, "command").await?;
    let code = match command {
        BrokerCommand::Check => {
            let differences = topology.check(&settings, &connection).await?;
            tell(&differences, &settings, context)?
        }
        BrokerCommand::Declare(args) => {
            let mut differences = topology.declare(&connection).await?;
            differences.extend(topology.leaderless(&settings).await?);
            if differences.iter().any(|difference| difference.must_be_deleted) && (args.force || config.single_node) {
                topology.delete(&connection, &differences).await?;
                differences = topology.declare(&connection).await?;
            }
            if differences.iter().any(|difference| difference.must_be_deleted) {
                failure::tell(
                    "hint: what differs or has no leader is left as it is, since the broker may be a cluster; with --force it is deleted and made anew",
                );
            }
            tell(&differences, &settings, context)?
        }
        BrokerCommand::DeadLetters(DeadLetters::Show { limit }) => {
            let letters = dead_letters::show(&connection, &settings, limit).await?;
            if context.output.is_json() {
                for letter in &letters {
                    let body: serde_json::Value =
                        serde_json::from_str(&letter.body).unwrap_or_else(|_| json!(letter.body));
                    context.output.json(&json!({"queue": letter.queue, "reason": letter.reason, "body": body}))?;
                }
            } else {
                let cells = |texts: [&str; 3]| texts.map(|text| Cell::new(printable(text))).to_vec();
                let rows = letters.iter().map(|letter| cells([&letter.queue, &letter.reason, &letter.body])).collect();
                context.output.table(&["QUEUE", "REASON", "MESSAGE"], rows)?;
            }
            ExitCode::SUCCESS
        }
        BrokerCommand::DeadLetters(DeadLetters::Purge) => {
            let deleted = dead_letters::purge(&connection, &settings).await?;
            if context.output.is_json() {
                context.output.json(&json!({"deleted": deleted}))?;
            } else {
                context.output.line(&format!("deleted: {deleted}"))?;
            }
            ExitCode::SUCCESS
        }
    };
    connection.close().await;
    Ok(code)
}

fn tell(differences: &[Difference], settings: &Settings, context: &Context) -> anyhow::Result<ExitCode> {
    let is_good = differences.is_empty();
    if context.output.is_json() {
        for difference in differences {
            context.output.json(&json!({"what": difference.what, "why": difference.why}))?;
        }
        context
            .output
            .json(&json!({"broker": settings.address(), "good": is_good, "differences": differences.len()}))?;
    } else {
        for difference in differences {
            context.output.line(&printable(&format!("{} {}", difference.what, difference.why)))?;
        }
        let word = if is_good { "is as it should be" } else { "is not as it should be" };
        context.output.line(&format!("{} {word}", settings.address()))?;
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::from(failure::FAILED) })
}
