//! `conveyor server`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use crate::config::ServerFlags;

/// Arguments of `conveyor server`.
#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    /// Address and port to listen on, such as 127.0.0.1:8080; may be repeated
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<SocketAddr>,
    /// Where everything durable is kept
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// Runs the server until it is told to stop.
pub(super) async fn run(args: ServerArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let flags =
        ServerFlags { listen: args.listen, state_dir: args.state_dir, token_file: context.flags.token_file.clone() };
    let _config = context.config.server(&flags)?;
    anyhow::bail!("the server is not part of this build")
}
