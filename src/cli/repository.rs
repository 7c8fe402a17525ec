//! `conveyor repository`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::context::Context;
use crate::domain::names::RepositoryName;

/// What to do with repositories.
#[derive(Debug, Subcommand)]
pub(super) enum RepositoryCommand {
    /// Make an empty repository with new keys
    Create(NamedArgs),
    /// List the repositories on this machine
    List(Places),
    /// Show a repository's revision, root hash and whitelist
    Show(NamedArgs),
    /// Sign a repository's whitelist anew, before it expires
    Resign(NamedArgs),
}

/// Where repositories and keys are.
#[derive(Debug, Args)]
pub(super) struct Places {
    /// Directory of the repositories [default: repositories_dir in [worker]]
    #[arg(long, value_name = "DIR")]
    pub repositories_dir: Option<PathBuf>,
    /// Directory of the keys [default: keys_dir in [worker]]
    #[arg(long, value_name = "DIR")]
    pub keys_dir: Option<PathBuf>,
}

/// One repository.
#[derive(Debug, Args)]
pub(super) struct NamedArgs {
    /// The repository, such as software.example.org
    #[arg(value_name = "NAME")]
    pub name: RepositoryName,
    #[command(flatten)]
    #[allow(missing_docs)] // a doc comment would become the command's help
    pub places: Places,
}

/// Carries out one of them.
pub(super) async fn run(_command: RepositoryCommand, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the repository commands are not part of this build")
}
