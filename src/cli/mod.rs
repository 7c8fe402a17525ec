//! The command line: one file for each command, with its arguments, its calls and its output. Standard output is data,
//! standard error is talk.

pub mod failure;

mod backup;
mod broker;
mod cancel;
mod changes;
mod check;
mod check_config;
mod check_db;
mod completions;
mod context;
mod dev;
mod distributing;
mod ended;
mod gateway;
mod list;
mod listeners;
mod logging;
mod logs;
mod man;
mod notify;
mod output;
mod payload;
mod progress;
mod repository;
mod resolve;
mod retry;
mod revert;
mod server;
mod serving;
mod spec_file;
mod submit;
mod supervision;
mod token;
mod token_lists;
mod upload;
mod wait_revision;
mod worker;
mod worker_check;
mod worker_control;
mod workers;
mod working;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use context::Context;
pub use listeners::Inherited;
pub use output::{Color, Format, Output};

use crate::config::{ClientFlags, Config, Environment};

/// Publishes into CernVM-FS repositories: once, exactly, anywhere, and proven.
#[derive(Debug, Parser)]
#[command(name = "conveyor", version, arg_required_else_help = true, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Environment: CONVEYOR_URL, CONVEYOR_TOKEN, CONVEYOR_TOKEN_FILE, CONVEYOR_CONFIG, NO_COLOR
Exit codes: 0 done, 1 the job or command failed, 2 wrong usage, 69 server unreachable, 75 nothing came (worker --once) or not in time (wait-revision), 78 bad configuration";

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Configuration file, TOML or JSON [default: /etc/cvmfs/conveyor/config.toml, where it exists]
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the server, such as http://localhost:8080
    #[arg(long, global = true, value_name = "URL")]
    url: Option<String>,
    /// File with the token that the server asks for
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Seconds to keep trying while the server cannot be reached
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 20)]
    retry_for: u64,
    /// Form of standard output; auto is a table on a terminal and JSON lines elsewhere
    #[arg(long, global = true, value_name = "FORM", default_value = "auto")]
    output: Format,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,
    /// Log in detail
    #[arg(long, global = true)]
    debug: bool,
    /// Begin log lines with the time, also under systemd
    #[arg(long, global = true)]
    log_timestamps: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Submit a job
    Submit(Box<submit::SubmitArgs>),
    /// Show how jobs stand
    Check(check::CheckArgs),
    /// List jobs, newest first
    List(list::ListArgs),
    /// Print what a job's payload said
    Logs(logs::LogsArgs),
    /// Print the paths that a job changed
    Changes(changes::ChangesArgs),
    /// Stop jobs that are not published yet
    Cancel(cancel::CancelArgs),
    /// Try jobs again that ended without success
    Retry(retry::RetryArgs),
    /// Undo what a job changed, by a new job
    Revert(revert::RevertArgs),
    /// Make, list and revoke the tokens that let people and programs in
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Say what became of a job that needs an operator
    Resolve(resolve::ResolveArgs),
    /// Show the workers, and which repositories nobody serves
    Workers(workers::WorkersArgs),
    /// Show who may publish where on the gateways of this node, and take leases away
    Leases(gateway::leases::LeasesArgs),
    /// Look at a CernVM-FS gateway, and empty it before its restart
    #[command(subcommand)]
    Gateway(gateway::GatewayCommand),
    /// Run the server, which keeps and distributes the jobs
    Server(server::ServerArgs),
    /// Tell clients of CernVM-FS of new revisions
    #[command(subcommand)]
    Notify(notify::NotifyCommand),
    /// Run a worker, which carries out jobs on a publisher; or speak to the one that runs here
    Worker(worker::WorkerArgs),
    /// Run server and worker in one, to try things out
    Dev(dev::DevArgs),
    /// List the repositories that the server accepts jobs for, and how they stand
    Repositories(repository::RepositoriesArgs),
    /// Make, look at, change and hold repositories
    #[command(subcommand)]
    Repository(repository::RepositoryCommand),
    /// Copy the server's state, also while it runs
    Backup(backup::BackupArgs),
    /// Put a backup back where there is no state
    Restore(backup::RestoreArgs),
    /// Wait until replicas serve a revision
    WaitRevision(wait_revision::WaitRevisionArgs),
    /// Say whether the server's state is sound
    CheckDb(check_db::CheckDbArgs),
    /// Look at RabbitMQ and make it ready
    #[command(subcommand)]
    Broker(broker::BrokerCommand),
    /// Say whether the configuration is good
    CheckConfig(check_config::CheckConfigArgs),
    /// Print the script by which a shell completes commands and flags
    Completions(completions::CompletionsArgs),
    /// Write the manual pages into a directory
    Man(man::ManArgs),
}

impl Command {
    fn is_daemon(&self) -> bool {
        match self {
            Self::Worker(args) => args.is_daemon(),
            Self::Notify(command) => command.is_daemon(),
            other => matches!(other, Self::Server(_) | Self::Dev(_)),
        }
    }

    fn is_notify_server(&self) -> bool {
        matches!(self, Self::Notify(command) if command.is_daemon())
    }
}

/// Runs one command; the error is to be given to [`failure::report`]. The server listens on what was inherited, where
/// anything was.
pub async fn run(cli: Cli, inherited: Inherited) -> anyhow::Result<ExitCode> {
    let Cli { globals, command } = cli;
    let environment = Environment::of_process();
    let config = match command {
        // What packages and shells ask for has nothing to do with this machine's configuration.
        Command::Completions(_) | Command::Man(_) => Config::default(),
        _ => Config::load(globals.config.as_deref(), environment.clone())?,
    };
    logging::start(&logging::Settings {
        daemon: command.is_daemon(),
        debug: globals.debug || config.debug() || (command.is_notify_server() && config.notify_debug()),
        timestamps: globals.log_timestamps || config.log_timestamps(),
        under_journal: environment.is_under_journal(),
        color: globals.color,
    });
    let loud = command.is_daemon() || matches!(command, Command::CheckConfig(_));
    for warning in config.warnings() {
        // Somebody who only submits can do nothing about an old file.
        if loud { tracing::warn!("{warning}") } else { tracing::debug!("{warning}") }
    }
    let context = Context::new(
        config,
        ClientFlags { url: globals.url, token_file: globals.token_file },
        std::time::Duration::from_secs(globals.retry_for),
        Output::new(globals.output, globals.color),
    );
    match command {
        Command::Submit(args) => submit::run(*args, &context).await,
        Command::Check(args) => check::run(args, &context).await,
        Command::List(args) => list::run(args, &context).await,
        Command::Logs(args) => logs::run(args, &context).await,
        Command::Changes(args) => changes::run(args, &context).await,
        Command::Cancel(args) => cancel::run(args, &context).await,
        Command::Retry(args) => retry::run(args, &context).await,
        Command::Revert(args) => revert::run(args, &context).await,
        Command::Token(command) => token::run(command, &context).await,
        Command::Resolve(args) => resolve::run(args, &context).await,
        Command::Workers(args) => workers::run(args, &context).await,
        Command::Leases(args) => gateway::leases::run(args, &context).await,
        Command::Gateway(command) => gateway::run(command, &context).await,
        Command::Server(args) => server::run(args, inherited, &context).await,
        Command::Notify(command) => notify::run(command, inherited, &context).await,
        Command::Worker(args) => worker::run(args, &context).await,
        Command::Dev(args) => dev::run(args, &context).await,
        Command::Repositories(args) => repository::list_all(args, &context).await.map(|()| ExitCode::SUCCESS),
        Command::Repository(command) => repository::run(command, &context).await,
        Command::Backup(args) => backup::run(args, &context).await,
        Command::Restore(args) => backup::run_restore(args, &context).await,
        Command::WaitRevision(args) => wait_revision::run(args, &context).await,
        Command::CheckDb(args) => check_db::run(args, &context).await,
        Command::Broker(command) => broker::run(command, &context).await,
        Command::CheckConfig(args) => check_config::run(args, &context),
        Command::Completions(args) => completions::run(&args, context.output),
        Command::Man(args) => man::run(&args),
    }
}
