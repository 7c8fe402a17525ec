//! `conveyor repository`: one file for each command that is more than a few lines.

mod adopt;
mod check;
mod create;
mod diff;
mod gc;
mod hold;
mod prune;
mod rollback;
mod service;
mod show;
mod snapshot_status;
mod tag;

pub(super) use service::{RepositoriesArgs, list as list_all};

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::context::Context;
use crate::cvmfs::reader::{Expiry, Reader};
use crate::cvmfs::stratum0::{Held, RepositoryLock, Stratum0};
use crate::domain::names::RepositoryName;

/// What to do with repositories.
#[derive(Debug, Subcommand)]
pub(super) enum RepositoryCommand {
    /// Make an empty repository with new keys
    Create(create::CreateArgs),
    /// Take over a repository that cvmfs_server made; both can publish into it then
    Adopt(adopt::AdoptArgs),
    /// List the repositories on this machine
    List(Places),
    /// Show a repository: what is on this machine, and what the server says of it
    Show(show::ShowArgs),
    /// Let nothing more of a repository begin, until it is resumed
    Pause(service::PauseArgs),
    /// End a pause, or somebody's hold
    Resume(service::ResumeArgs),
    /// Have a repository to oneself: nothing is published meanwhile
    Hold(hold::HoldArgs),
    /// Sign a repository's whitelist anew, before it expires; with a new certificate the manifest, too
    Resign(create::ResignArgs),
    /// Find what is wrong in a repository
    Check(check::CheckArgs),
    /// Show what changed between two revisions
    Diff(diff::DiffArgs),
    /// List, add and remove tags
    Tag(tag::TagArgs),
    /// Make a new revision with the content of an older one
    Rollback(rollback::RollbackArgs),
    /// Remove the objects that no kept revision has
    Gc(gc::GcArgs),
    /// Compare the revisions of replicas with this repository's
    SnapshotStatus(snapshot_status::SnapshotStatusArgs),
}

/// Where repositories and keys are.
#[derive(Debug, Args)]
pub(super) struct Places {
    /// Directory of the repositories [default: the worker's repositories_dir]
    #[arg(long, value_name = "DIR", global = true)]
    pub repositories_dir: Option<PathBuf>,
    /// Directory of the keys [default: the worker's keys_dir]
    #[arg(long, value_name = "DIR", global = true)]
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
pub(super) async fn run(command: RepositoryCommand, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        RepositoryCommand::Create(args) => create::create(args, context)?,
        RepositoryCommand::Adopt(args) => adopt::run(args, context)?,
        RepositoryCommand::List(places) => show::list(places, context)?,
        RepositoryCommand::Show(args) => show::show(args, context).await?,
        RepositoryCommand::Pause(args) => service::pause(args, context).await?,
        RepositoryCommand::Resume(args) => service::resume(args, context).await?,
        RepositoryCommand::Hold(args) => return hold::run(args, context).await,
        RepositoryCommand::Resign(args) => create::resign(args, context)?,
        RepositoryCommand::Check(args) => return check::run(args, context),
        RepositoryCommand::Diff(args) => diff::run(args, context)?,
        RepositoryCommand::Tag(args) => tag::run(args, context)?,
        RepositoryCommand::Rollback(args) => rollback::run(args, context)?,
        RepositoryCommand::Gc(args) => gc::run(args, context)?,
        RepositoryCommand::SnapshotStatus(args) => snapshot_status::run(args, context).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The directories that count.
struct Folders {
    repositories: PathBuf,
    keys: PathBuf,
}

impl Folders {
    fn of(places: Places, context: &Context) -> Self {
        let (repositories, keys) = context.config.repository_dirs();
        Self { repositories: places.repositories_dir.unwrap_or(repositories), keys: places.keys_dir.unwrap_or(keys) }
    }

    fn stratum0(&self, name: &RepositoryName) -> Stratum0 {
        Stratum0::at(self.repositories.join(name.as_str()), name.as_str(), &self.keys)
    }
}

impl NamedArgs {
    /// The repository, whether it exists or not.
    fn stratum0(self, context: &Context) -> Stratum0 {
        Folders::of(self.places, context).stratum0(&self.name)
    }
}

/// Opens a repository to look at it, whether its whitelist is still valid or not.
fn reader(stratum0: &Stratum0) -> anyhow::Result<Reader> {
    let opened = stratum0.reader(Expiry::Ignore);
    opened.with_context(|| format!("cannot read repository {} in {}", stratum0.name(), stratum0.directory().display()))
}

/// Takes a repository's lock, for a change.
fn lock(stratum0: &Stratum0) -> anyhow::Result<RepositoryLock> {
    if !stratum0.exists() {
        anyhow::bail!("there is no repository in {}", stratum0.directory().display());
    }
    let lock = || stratum0.lock()?.map_err(Held::into_error);
    lock().with_context(|| format!("cannot change repository {}", stratum0.name()))
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

/// A time for people and programs.
fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}
