//! `conveyor server`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio::sync::watch;

use super::context::Context;
use super::listeners::Inherited;
use super::serving::{self, Second};
use super::supervision::{self, Loaded, Phase};
use super::token_lists::TokenLists;
use crate::config::{Config, ConfigError, ListenAddress, ServerFlags};

/// Arguments of `conveyor server`.
#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    /// Address and port to listen on, such as 127.0.0.1:8080, or a Unix socket, such as unix:/run/conveyor/server.sock; may
    /// be repeated
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<ListenAddress>,
    /// Where everything durable is kept
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// Runs the server until it is told to stop.
pub(super) async fn run(args: ServerArgs, inherited: Inherited, context: &Context) -> anyhow::Result<ExitCode> {
    let flags =
        ServerFlags { listen: args.listen, state_dir: args.state_dir, token_file: context.flags.token_file.clone() };
    let hangups = supervision::hangups()?;
    let config = checked(&context.config, &flags)?.config;
    let (phase, shutdown) = (watch::Sender::new(Phase::Starting), serving::until_signal()?);
    let (file, following) = (context.config.clone(), phase.subscribe());
    // Where sockets were handed over, nobody looks at addresses.
    let listen = inherited.is_any().then(|| config.listen.clone());
    let again = Box::new(move || {
        let mut loaded = checked(&file.again()?, &flags)?;
        if let Some(listen) = &listen {
            loaded.config.listen.clone_from(listen);
        }
        Ok(loaded)
    });
    let in_force = (context.config.clone(), config.clone());
    let supervising = supervision::supervise_server(in_force, again, following, hangups, shutdown.clone());
    let supervising = tokio::spawn(supervising);
    let serving = serving::start(config, inherited, None, Second::StandsBy, phase, shutdown).await?;
    for address in &serving.addresses {
        tracing::info!("listening on {}", address.url());
    }
    serving.ended().await?;
    // It holds a part of what must be closed.
    let _ = supervising.await;
    Ok(ExitCode::SUCCESS)
}

/// What the server would run with, with every file read that it needs.
pub(super) fn checked(file: &Config, flags: &ServerFlags) -> anyhow::Result<Loaded> {
    let config = file.server(flags)?;
    if config.token.is_none() && config.tokens.is_empty() {
        let why =
            "is not set, and no token list ([server] tokens) is; put a secret into a file that only this account can \
                   read and name it, or make a token list: conveyor token create --role admin --file FILE"
                .into();
        return Err(ConfigError::Value { key: "[server] token_file".into(), why }.into());
    }
    let lists = TokenLists::read(config.tokens.clone())?;
    Ok(Loaded { file: file.clone(), config, lists })
}
