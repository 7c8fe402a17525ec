//! `conveyor repository`: one file for each command that is more than a few lines.

mod check;
mod diff;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use comfy_table::Cell;
use jiff::Timestamp;

use super::context::Context;
use super::failure::tell;
use super::output::printable;
use crate::config::WorkerFlags;
use crate::cvmfs::reader::{Expiry, Info, Reader};
use crate::cvmfs::stratum0::{CreateOptions, Stratum0};
use crate::domain::names::RepositoryName;

/// Tags that `show` lists.
const SHOWN_TAGS: usize = 20;

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
    /// Find what is wrong in a repository
    Check(check::CheckArgs),
    /// Show what changed between two revisions
    Diff(diff::DiffArgs),
}

/// Where repositories and keys are.
#[derive(Debug, Args)]
pub(super) struct Places {
    /// Directory of the repositories [default: the worker's repositories_dir]
    #[arg(long, value_name = "DIR")]
    pub repositories_dir: Option<PathBuf>,
    /// Directory of the keys [default: the worker's keys_dir]
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

type Action = fn(&Folders, &RepositoryName, &Context) -> anyhow::Result<()>;

/// Carries out one of them.
pub(super) async fn run(command: RepositoryCommand, context: &Context) -> anyhow::Result<ExitCode> {
    let (NamedArgs { name, places }, action): (NamedArgs, Action) = match command {
        RepositoryCommand::List(places) => {
            list(&Folders::of(&places, context)?, context)?;
            return Ok(ExitCode::SUCCESS);
        }
        RepositoryCommand::Create(args) => (args, create),
        RepositoryCommand::Show(args) => (args, show),
        RepositoryCommand::Resign(args) => (args, resign),
        RepositoryCommand::Check(args) => return check::run(&args, context),
        RepositoryCommand::Diff(args) => return diff::run(&args, context),
    };
    let folders = Folders::of(&places, context)?;
    action(&folders, &name, context)?;
    Ok(ExitCode::SUCCESS)
}

/// The directories that count.
struct Folders {
    repositories: PathBuf,
    keys: PathBuf,
}

impl Folders {
    fn of(places: &Places, context: &Context) -> anyhow::Result<Self> {
        let config = context.config.worker(&WorkerFlags::default())?;
        Ok(Self {
            repositories: places.repositories_dir.clone().unwrap_or(config.repositories_dir),
            keys: places.keys_dir.clone().unwrap_or(config.keys_dir),
        })
    }

    /// Opens a repository to look at it, whether its whitelist is still valid or not.
    fn reader(&self, name: &RepositoryName) -> anyhow::Result<Reader> {
        reader(&self.stratum0(name))
    }

    fn stratum0(&self, name: &RepositoryName) -> Stratum0 {
        Stratum0::at(self.repositories.join(name.as_str()), name.as_str(), &self.keys)
    }
}

fn create(folders: &Folders, name: &RepositoryName, context: &Context) -> anyhow::Result<()> {
    let (directory, now) = (folders.repositories.join(name.as_str()), Timestamp::now().as_second());
    Stratum0::create(directory, name.as_str(), &folders.keys, &CreateOptions::default(), now)
        .with_context(|| format!("cannot make repository {name}"))?;
    show(folders, name, context)
}

fn resign(folders: &Folders, name: &RepositoryName, context: &Context) -> anyhow::Result<()> {
    let now = Timestamp::now().as_second();
    let resigned = folders.stratum0(name).resign(CreateOptions::default().whitelist_days, now);
    resigned.with_context(|| format!("cannot sign the whitelist of {name} anew"))?;
    show(folders, name, context)
}

fn show(folders: &Folders, name: &RepositoryName, context: &Context) -> anyhow::Result<()> {
    let info = info(&folders.stratum0(name))?;
    if context.output.is_json() {
        return context.output.json(&json(&info));
    }
    context.output.line(&format!("repository         {}", info.repository))?;
    context.output.line(&format!("revision           {}", info.revision))?;
    context.output.line(&format!("root hash          {}", info.root_hash))?;
    context.output.line(&format!("published          {}", time(info.published_at)))?;
    context.output.line(&format!("whitelist expires  {}", time(info.whitelist_expires_at)))?;
    context.output.line(&format!("tags               {}", info.tags.len()))?;
    for tag in info.tags.iter().take(SHOWN_TAGS) {
        context.output.line(&format!("  {:>8}  {}  {}", tag.revision, tag.name, printable(&tag.description)))?;
    }
    Ok(())
}

fn list(folders: &Folders, context: &Context) -> anyhow::Result<()> {
    let mut names = Vec::new();
    let directory = &folders.repositories;
    for entry in std::fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
        // What has no repository's name is none.
        if let Some(name) = entry?.file_name().to_str().and_then(|name| RepositoryName::new(name).ok()) {
            names.push(name);
        }
    }
    names.sort();
    let mut rows = Vec::new();
    for stratum0 in names.iter().map(|name| folders.stratum0(name)).filter(Stratum0::exists) {
        match info(&stratum0) {
            Ok(info) if context.output.is_json() => context.output.json(&json(&info))?,
            Ok(info) => rows.push(vec![
                Cell::new(&info.repository),
                Cell::new(info.revision),
                Cell::new(info.root_hash.to_string()),
                Cell::new(time(info.whitelist_expires_at)),
            ]),
            Err(error) => tell(&format!("{error:#}")),
        }
    }
    if context.output.is_json() {
        Ok(())
    } else {
        context.output.table(&["REPOSITORY", "REVISION", "ROOT HASH", "WHITELIST EXPIRES"], rows)
    }
}

fn reader(stratum0: &Stratum0) -> anyhow::Result<Reader> {
    let opened = stratum0.reader(Expiry::Ignore);
    opened.with_context(|| format!("cannot read repository {} in {}", stratum0.name(), stratum0.directory().display()))
}

fn info(stratum0: &Stratum0) -> anyhow::Result<Info> {
    let info = reader(stratum0)?.info();
    info.with_context(|| format!("cannot read the tags of repository {}", stratum0.name()))
}

fn json(info: &Info) -> serde_json::Value {
    let tags: Vec<_> =
        info.tags.iter().map(|tag| serde_json::json!({"name": tag.name, "revision": tag.revision})).collect();
    serde_json::json!({
        "repository": info.repository,
        "revision": info.revision,
        "root_hash": info.root_hash.to_string(),
        "published_at": time(info.published_at),
        "whitelist_expires_at": time(info.whitelist_expires_at),
        "tags": tags,
    })
}

fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}
