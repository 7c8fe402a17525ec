//! `conveyor wait-revision`.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::time::Instant;
use url::Url;

use super::context::Context;
use super::failure::{NOTHING_CAME, Usage, tell};
use super::output::printable;
use crate::app::clock::{Entropy, SystemEntropy};
use crate::cvmfs::keys::public_from_pem;
use crate::domain::names::RepositoryName;
use crate::domain::visible::{Answer, ReplicaView, check_url, count};
use crate::replicas::{Asker, Keys, Poller, Target};

/// For ever, as far as anybody waits.
const NO_END: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Arguments of `conveyor wait-revision`.
#[derive(Debug, Args)]
pub(super) struct WaitRevisionArgs {
    /// The repository
    #[arg(value_name = "NAME")]
    repository: RepositoryName,
    /// The revision that must be served, or a newer one
    #[arg(value_name = "REVISION")]
    revision: u64,
    /// Bases of the repository that must serve it, such as http://HOST/cvmfs/NAME [default: its stratum 0, as the server says]
    #[arg(long, value_name = "URL", num_args = 1..)]
    at: Vec<Url>,
    /// Give up after this time, with exit code 75
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Public key of the repository [default: NAME.pub, DOMAIN.pub or DOMAIN/*.pub in /etc/cvmfs/keys or the server's keys_dir; without any the answers are believed]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// Asks until all serve it.
pub(super) async fn run(args: WaitRevisionArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let mut urls = match args.at.is_empty() {
        true => vec![stratum0(&args.repository, context).await?],
        false => args.at.clone(),
    };
    for url in &urls {
        check_url(url).map_err(|why| Usage::new(format!("--at {url} {why}")))?;
    }
    let mut named = HashSet::new();
    urls.retain(|url| named.insert(url.clone()));
    let keys = match &args.key {
        None => Keys::Directory(context.config.keys_dir()),
        Some(path) => {
            let pem = std::fs::read(path).with_context(|| format!("cannot read the key {}", path.display()))?;
            Keys::These(vec![public_from_pem(&pem).with_context(|| format!("cannot use {}", path.display()))?])
        }
    };
    let limit = args.timeout.map(Duration::from_secs).or_else(|| context.config.wait_limit()).unwrap_or(NO_END);
    let (began, mut said) = (Instant::now(), Vec::new());
    let deadline = began + limit.min(NO_END);
    let mut poller = Poller::new(Asker::new(keys).context("cannot set HTTP up")?, || SystemEntropy.jitter());
    let target = |url: &Url| Target { repository: args.repository.clone(), base: url.clone() };
    // Asked for the last time a little before the end, so that the answer counts.
    let last = deadline - (limit / 4).min(Duration::from_secs(1));
    poller.want(urls.iter().map(|url| (target(url), last)));
    let in_time = loop {
        if tokio::time::timeout_at(deadline, poller.next()).await.is_err() {
            break false;
        }
        let views = views(&urls, args.revision, began, &poller);
        tell_news(&views, &mut said);
        if views.iter().all(|view| view.serves) {
            break true;
        }
    };
    let views = views(&urls, args.revision, began, &poller);
    if context.output.is_json() {
        views.iter().try_for_each(|view| context.output.json(view))?;
    }
    if in_time {
        if !context.output.is_json() {
            context.output.line(&format!("{}: {}", args.repository, count(args.revision, &views)))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    tell(&format!("error: {} within {} s", count(args.revision, &views), limit.as_secs()));
    for view in views.iter().filter(|view| !view.serves) {
        tell(&format!("{} serves {}", view.url, printable(&view.serving())));
    }
    Ok(ExitCode::from(NOTHING_CAME))
}

/// What each URL serves, in their order.
fn views(urls: &[Url], revision: u64, began: Instant, poller: &Poller) -> Vec<ReplicaView> {
    let view = |url: &Url| {
        let last = poller.answers().find(|(target, _)| target.base == *url).map(|(_, last)| last);
        let answer = last.map(|last| Answer { asked: last.asked - began, served: last.served.clone() });
        ReplicaView::new(url, revision, answer.as_ref())
    };
    urls.iter().map(view).collect()
}

/// Tells what changed since it was told last.
fn tell_news(views: &[ReplicaView], said: &mut Vec<ReplicaView>) {
    for view in views.iter().filter(|view| view.revision.is_some() || view.problem.is_some()) {
        if !said.contains(view) {
            tell(&format!("{} serves {}", view.url, printable(&view.serving())));
        }
    }
    views.clone_into(said);
}

/// Where the server says that the stratum 0 is.
async fn stratum0(name: &RepositoryName, context: &Context) -> anyhow::Result<Url> {
    let client = context.client()?;
    let view = client.repository(name).await.context("without --at the server is asked for the repository's URL")?;
    match view.url {
        Some(url) => Ok(url),
        None => {
            let what = format!("{} does not know where {name} is served", client.url());
            let hint = "name it: --at http://HOST/cvmfs/NAME; an operator can: [repositories.\"NAME\"] url = \"http://…\", \
                        or [notify] repository_url for all";
            Err(Usage::new(what).with_hint(hint).into())
        }
    }
}
