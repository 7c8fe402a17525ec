//! `conveyor notify subscribe`: tells new revisions as they come, for ever.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::{ExitCode, Stdio};

use anyhow::Context as _;
use clap::Args;
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::cli::context::Context;
use crate::client::{ClientError, Notice, Notices, Told};
use crate::domain::names::RepositoryName;

/// Notices that may wait to be told.
const QUEUE: usize = 64;

/// Arguments of `conveyor notify subscribe`.
#[derive(Debug, Args)]
pub(in crate::cli) struct SubscribeArgs {
    /// Repository to be told of
    #[arg(value_name = "REPOSITORY", required = true)]
    repositories: Vec<RepositoryName>,
    /// Say nothing of revisions before this one
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    min_revision: u64,
    /// Program to run for each, without a shell and without arguments; it finds CONVEYOR_REPOSITORY, CONVEYOR_REVISION and
    /// CONVEYOR_ROOT_HASH in its environment. While it runs only the newest revision of each repository is kept for it
    #[arg(long, value_name = "PROGRAM")]
    exec: Option<OsString>,
    /// End after so many
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

pub(super) async fn run(args: SubscribeArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let client = context.client()?;
    let mut repositories = args.repositories.clone();
    repositories.sort_unstable();
    repositories.dedup();
    let (sender, mut told) = mpsc::channel(QUEUE);
    let mut following = tokio::task::JoinSet::new();
    for repository in &repositories {
        following.spawn(follow(client.notices(repository, args.min_revision), repository.clone(), sender.clone()));
    }
    drop(sender);
    let names = repositories.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let from = if args.min_revision > 0 { format!(" from {} on", args.min_revision) } else { String::new() };
    eprintln!("waiting for revisions of {names}{from}, told by {}", client.url());
    let mut left = args.count;
    let mut waiting: BTreeMap<RepositoryName, Notice> = BTreeMap::new();
    loop {
        let notice = match waiting.pop_first() {
            Some((_, notice)) => notice,
            None => match told.recv().await {
                Some(Ok(notice)) => notice,
                Some(Err(error)) => return Err(error.into()),
                None => anyhow::bail!("nobody waits any more"),
            },
        };
        show(&notice, context)?;
        if let Some(program) = &args.exec {
            execute(program, &notice).await?;
            // Of what came meanwhile the newest counts.
            while let Ok(next) = told.try_recv() {
                let next = next?;
                waiting.insert(next.repository.clone(), next);
            }
        }
        if let Some(left) = &mut left {
            *left -= 1;
            if *left == 0 {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

/// Passes on what is told of one repository; says once that the server is away, and when it is back.
async fn follow(mut notices: Notices, repository: RepositoryName, sender: mpsc::Sender<Result<Notice, ClientError>>) {
    let mut is_lost = false;
    loop {
        let next = match notices.next().await {
            Ok(Told::Connected) => {
                if std::mem::take(&mut is_lost) {
                    tracing::info!(%repository, "connected again");
                }
                continue;
            }
            Ok(Told::Lost(error)) => {
                if !std::mem::replace(&mut is_lost, true) {
                    tracing::warn!(%repository, error = &error as &dyn std::error::Error, "the connection is gone; connecting again for as long as it takes");
                }
                continue;
            }
            Ok(Told::Notice(notice)) => Ok(notice),
            Err(error) => Err(error),
        };
        let is_over = next.is_err();
        if sender.send(next).await.is_err() || is_over {
            return;
        }
    }
}

fn show(notice: &Notice, context: &Context) -> anyhow::Result<()> {
    let Notice { repository, claims } = notice;
    if context.output.is_json() {
        return context.output.json(&super::view(repository, claims));
    }
    context.output.line(&format!("{repository} is at revision {}, root hash {}", claims.revision, claims.root_hash))
}

/// Runs the program and waits for it. That it fails is told and stops nothing.
async fn execute(program: &OsString, Notice { repository, claims }: &Notice) -> anyhow::Result<()> {
    let status = Command::new(program)
        .env("CONVEYOR_REPOSITORY", repository.as_str())
        .env("CONVEYOR_REVISION", claims.revision.to_string())
        .env("CONVEYOR_ROOT_HASH", &claims.root_hash)
        .stdin(Stdio::null())
        .status()
        .await
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !status.success() {
        tracing::warn!(%repository, revision = claims.revision, "{} ended with {status}", program.display());
    }
    Ok(())
}
