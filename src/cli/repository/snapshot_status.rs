//! `conveyor repository snapshot-status`.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use comfy_table::Cell;
use reqwest::StatusCode;

use super::super::context::Context;
use super::super::failure::tell;
use super::{NamedArgs, now, time};
use crate::cvmfs::fetch::{Fetch, Fetched, LocalDir};
use crate::cvmfs::reader::Expiry;
use crate::cvmfs::replica::{self, Moment, Replica};

/// How long a replica may take for one of its small files.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which replicas.
#[derive(Debug, Args)]
pub(in crate::cli) struct SnapshotStatusArgs {
    #[command(flatten)]
    #[allow(missing_docs)] // a doc comment would become the command's help
    pub repository: NamedArgs,
    /// A replica: http://HOST/cvmfs/NAME, or a directory
    #[arg(long, value_name = "URL", required = true, num_args = 1..)]
    pub at: Vec<String>,
}

/// Asks each of them.
pub(super) async fn run(args: SnapshotStatusArgs, context: &Context) -> anyhow::Result<()> {
    let stratum0 = args.repository.stratum0(context);
    let reader = stratum0
        .reader(Expiry::Ignore)
        .with_context(|| format!("cannot read repository {} in {}", stratum0.name(), stratum0.directory().display()))?;
    let (revision, now) = (reader.manifest().revision, now());
    let mut rows = Vec::new();
    let mut failed = 0;
    for at in &args.at {
        let read = match fetch(at).await {
            Ok(files) => Replica::read(&*files, stratum0.name(), reader.certificate()).map_err(anyhow::Error::from),
            Err(error) => Err(error),
        };
        failed += usize::from(read.is_err());
        if context.output.is_json() {
            context.output.json(&json(at, revision, now, &read))?;
        } else {
            match &read {
                Ok(replica) => rows.push(row(at, revision, now, replica)),
                Err(error) => tell(&format!("{at}: {error:#}")),
            }
        }
    }
    if !context.output.is_json() {
        context.output.line(&format!("{} is at revision {revision}", stratum0.name()))?;
        context.output.table(&["REPLICA", "REVISION", "BEHIND BY", "LAST SNAPSHOT", "AGE", "NOW"], rows)?;
    }
    anyhow::ensure!(failed == 0, "{failed} of {} replicas could not be asked", args.at.len());
    Ok(())
}

async fn fetch(at: &str) -> anyhow::Result<Box<dyn Fetch>> {
    if !at.starts_with("http://") && !at.starts_with("https://") {
        return Ok(Box::new(LocalDir::new(at)));
    }
    let client = reqwest::Client::builder().timeout(PATIENCE).build().context("cannot set HTTP up")?;
    let mut files = HashMap::new();
    for name in replica::FILES {
        let url = format!("{}/{name}", at.trim_end_matches('/'));
        let asked = || format!("cannot fetch {url}");
        let mut response = client.get(&url).send().await.with_context(asked)?;
        if response.status() == StatusCode::NOT_FOUND {
            continue;
        }
        anyhow::ensure!(response.status() == StatusCode::OK, "cannot fetch {url}: it answers {}", response.status());
        let mut bytes = Vec::new();
        while let Some(more) = response.chunk().await.with_context(asked)? {
            bytes.extend_from_slice(&more);
            anyhow::ensure!(bytes.len() as u64 <= replica::MAX_FILE, "cannot fetch {url}: it is too long");
        }
        files.insert(name.to_owned(), bytes);
    }
    Ok(Box::new(Fetched(files)))
}

fn age(moment: &Moment, now: i64) -> Option<i64> {
    moment.seconds.map(|seconds| (now - seconds).max(0))
}

/// A time span for people, of one or two units.
fn span(seconds: i64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn row(at: &str, revision: u64, now: i64, replica: &Replica) -> Vec<Cell> {
    let last = replica.last_snapshot.as_ref();
    let state = match &replica.snapshotting_since {
        Some(since) => format!("snapshotting since {}", shown(since)),
        None => String::new(),
    };
    vec![
        Cell::new(at),
        Cell::new(replica.revision),
        Cell::new(revision.saturating_sub(replica.revision)),
        Cell::new(last.map_or_else(|| "never".to_owned(), shown)),
        Cell::new(last.and_then(|last| age(last, now)).map(span).unwrap_or_default()),
        Cell::new(state),
    ]
}

fn shown(moment: &Moment) -> String {
    moment.seconds.map_or_else(|| super::super::output::printable(&moment.text), time)
}

fn json(at: &str, revision: u64, now: i64, read: &anyhow::Result<Replica>) -> serde_json::Value {
    match read {
        Ok(replica) => serde_json::json!({
            "replica": at,
            "revision": replica.revision,
            "behind_by": revision.saturating_sub(replica.revision),
            "root_hash": replica.root_hash.to_string(),
            "published_at": time(replica.published_at),
            "last_snapshot": replica.last_snapshot.as_ref().map(shown),
            "age_seconds": replica.last_snapshot.as_ref().and_then(|last| age(last, now)),
            "snapshotting_since": replica.snapshotting_since.as_ref().map(shown),
        }),
        Err(error) => serde_json::json!({"replica": at, "error": format!("{error:#}")}),
    }
}
