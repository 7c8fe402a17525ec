//! `conveyor notify publish`: tells the service of notifications what a repository has published.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::cli::context::Context;
use crate::cvmfs::fetch::{Fetch, LocalDir, fetch_small};
use crate::cvmfs::http::HttpBase;
use crate::cvmfs::manifest;
use crate::domain::names::RepositoryName;
use crate::domain::notification::Message;
use crate::domain::signed::{MAX_PART, claims};

/// Arguments of `conveyor notify publish`.
#[derive(Debug, Args)]
pub(in crate::cli) struct PublishArgs {
    /// The repository: its URL, such as http://HOST/cvmfs/NAME, or its directory, such as /srv/cvmfs/NAME
    #[arg(value_name = "URL|DIR")]
    repository: String,
}

pub(super) async fn run(args: PublishArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let place = args.repository.clone();
    let reading = tokio::task::spawn_blocking(move || read(&place)).await?;
    let bytes = reading.with_context(|| format!("cannot read the manifest of {}", args.repository))?;
    let Some(claims) = claims(&bytes) else {
        bail!("{}/{} is no manifest: it has no revision", args.repository.trim_end_matches('/'), manifest::FILE);
    };
    let name = RepositoryName::new(claims.repository.clone())
        .with_context(|| format!("the manifest of {} names no repository", args.repository))?;
    let timestamp = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let message = Message::about(name.clone(), &bytes, &timestamp);
    let client = context.client()?;
    client.publish_notification(&message).await?;
    if context.output.is_json() {
        context.output.json(&super::view(&name, &claims))?;
    } else {
        let (revision, url) = (claims.revision, client.url());
        context.output.line(&format!("{url} was told of revision {revision} of {name}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read(place: &str) -> Result<Vec<u8>, crate::cvmfs::Error> {
    let base: Box<dyn Fetch> = match place.contains("://") {
        true => Box::new(HttpBase::new(place)?),
        false => Box::new(LocalDir::new(Path::new(place))),
    };
    fetch_small(&*base, manifest::FILE, MAX_PART as u64)
}
