//! `conveyor notify`: telling and being told of new revisions.

mod publish;
mod subscribe;

use std::process::ExitCode;

use clap::Subcommand;
use jiff::Timestamp;

use super::context::Context;
use crate::domain::names::RepositoryName;
use crate::domain::signed::Claims;

/// `conveyor notify …`.
#[derive(Debug, Subcommand)]
pub(super) enum NotifyCommand {
    /// Tell the service of notifications what a repository has published
    Publish(publish::PublishArgs),
    /// Be told of new revisions as they come, for ever
    Subscribe(subscribe::SubscribeArgs),
}

/// Runs one of them.
pub(super) async fn run(command: NotifyCommand, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        NotifyCommand::Publish(args) => publish::run(args, context).await,
        NotifyCommand::Subscribe(args) => subscribe::run(args, context).await,
    }
}

/// A revision, for programs.
fn view(repository: &RepositoryName, claims: &Claims) -> serde_json::Value {
    let published_at = claims.published_at.and_then(|seconds| Timestamp::from_second(seconds).ok());
    serde_json::json!({
        "repository": repository,
        "revision": claims.revision,
        "root_hash": claims.root_hash,
        "published_at": published_at,
    })
}
