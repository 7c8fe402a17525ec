//! `conveyor dev`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use crate::domain::names::RepositoryName;

/// Arguments of `conveyor dev`.
#[derive(Debug, Args)]
pub(super) struct DevArgs {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where jobs, repositories and keys are kept
    #[arg(long, value_name = "DIR", default_value = "conveyor-dev")]
    pub state_dir: PathBuf,
    /// Repository to make, where it does not exist; may be repeated
    #[arg(
        short,
        long = "repo",
        visible_alias = "repository",
        value_name = "NAME",
        default_value = "software.example.org"
    )]
    pub repositories: Vec<RepositoryName>,
}

/// Runs server and worker in one process until it is told to stop.
pub(super) async fn run(_args: DevArgs, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the development server is not part of this build")
}
