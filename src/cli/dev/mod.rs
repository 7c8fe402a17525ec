//! `conveyor dev`: server, worker and repositories in one process, with nothing to set up.

mod demo;
mod place;
mod sources;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::sync::watch;

use super::context::Context;
use super::listeners::Inherited;
use super::serving::{self, Second};
use super::supervision::Phase;
use super::working;
use crate::app::Settings;
use crate::config::{
    ClientConfig, Isolation, ListenAddress, NodePublisher, NotifyConfig, Offers, ServerConfig, WorkerConfig,
};
use crate::domain::fleet::DEFAULT_FLEET;
use crate::domain::names::RepositoryName;
use crate::domain::plan::BatchLimits;
use crate::domain::retention::Retention;
use crate::domain::token::Token;
use crate::domain::visible::VisibleUrls;
use crate::worker::{Halt, Handle};
use place::Place;

/// A worker that dies with its server is soon back with it; nothing is gained by waiting longer.
const CLAIM_EXPIRY: Duration = Duration::from_secs(15);
/// Largest blob, bytes.
const MAX_BLOB_BYTES: u64 = 64 << 30;

/// Arguments of `conveyor dev`.
#[derive(Debug, Args)]
pub(super) struct DevArgs {
    /// Address and port to listen on; port 0 takes a free one and prints it
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where jobs, repositories and keys are kept [default: conveyor/dev in the user's state directory]
    #[arg(long = "state", visible_alias = "state-dir", value_name = "DIR")]
    state: Option<PathBuf>,
    /// Repository to make, where it does not exist; may be repeated [default: software.example.org]
    #[arg(short, long = "repository", visible_alias = "repo", value_name = "NAME")]
    repositories: Vec<RepositoryName>,
    /// Batches at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 4)]
    slots: u32,
    /// Submit a few jobs that show what this is about
    #[arg(long)]
    demo: bool,
    /// End when the demo has ended
    #[arg(long, requires = "demo")]
    once: bool,
}

/// Runs until it is told to stop, or until the demo is over.
pub(super) async fn run(args: DevArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let place = Place::prepare(args.state, args.repositories)?;
    let signalled = serving::until_signal()?;
    // The worker must end before the server does, or it could not report what it finished.
    let (end_server, server_shutdown) = watch::channel(false);
    let server = ServerConfig {
        listen: vec![args.listen.into()],
        state_dir: place.state.clone(),
        token: Some(Token::new(&place.token)?),
        tokens: Vec::new(),
        submitter_is_owner: false,
        anonymous_read: args.listen.ip().is_loopback(),
        claim_expiry: CLAIM_EXPIRY,
        recovery_limit: Settings::default().recovery_limit,
        max_blob_bytes: MAX_BLOB_BYTES,
        retention: Retention::default(),
        batches: BatchLimits::default(),
        repositories: place.repositories.iter().map(|name| (name.clone(), Default::default())).collect(),
        broker: None,
        notify: NotifyConfig {
            repository_url: Some(place.repositories_dir().join("@fqrn@").display().to_string()),
            open_publish: args.listen.ip().is_loopback(),
            ..NotifyConfig::default()
        },
        // Who may submit here is who runs it.
        visible_urls: VisibleUrls::all(),
        keys_dir: place.keys_dir(),
    };
    let serving = serving::start(
        server,
        Inherited::default(),
        Some(place.repositories_dir()),
        Second::IsRefused,
        watch::Sender::new(Phase::Starting),
        server_shutdown,
    )
    .await?;
    let url = serving.addresses.first().map_or_else(|| format!("http://{}", args.listen), ListenAddress::url);
    place.write_client_config(&url)?;

    let (end_worker, halt) = watch::channel(Halt::No);
    let worker = WorkerConfig {
        publisher: NodePublisher::Native,
        client: ClientConfig { url: url.clone(), token: Some(Token::new(&place.token)?) },
        node: "dev".into(),
        fleet: DEFAULT_FLEET.into(),
        slots: args.slots,
        state_dir: place.state.join("worker"),
        temp_dir: place.temporary(),
        repositories_dir: place.repositories_dir(),
        keys_dir: place.keys_dir(),
        run_as: None,
        isolation: Isolation::Preferred,
        // Jobs, payloads, and the token that opens everything.
        secrets: vec![place.state.clone()],
        offers: Offers::Http,
        repositories: None,
        drain_timeout: Duration::ZERO,
        whitelist_warning_days: 0,
    };
    let mut working = tokio::spawn(async move { working::run(worker, None, halt, &Handle::default()).await });
    announce(&place, &url, context)?;

    let mut stop = signalled.clone();
    let demo = async {
        match (args.demo, args.once) {
            (true, true) => demo::run(&place, &url, context).await,
            (true, false) => {
                demo::run(&place, &url, context).await?;
                std::future::pending().await
            }
            (false, _) => std::future::pending().await,
        }
    };
    let result = tokio::select! {
        _ = stop.wait_for(|stop| *stop) => Ok(ExitCode::SUCCESS),
        ended = &mut working => Err(ended.map_err(anyhow::Error::from).flatten().err().unwrap_or_else(|| anyhow::anyhow!("the worker ended"))),
        result = demo => result,
    };
    end_worker.send_replace(Halt::Now);
    if !working.is_finished() {
        working.await??;
    }
    end_server.send_replace(true);
    serving.ended().await?;
    result
}

/// Tells where everything is. Scripts read the lines of the JSON form.
fn announce(place: &Place, url: &str, context: &Context) -> anyhow::Result<()> {
    let config = place.client_config();
    if context.output.is_json() {
        let repositories: Vec<_> = place
            .repositories
            .iter()
            .map(|name| serde_json::json!({"name": name, "url": format!("{url}/cvmfs/{name}/"), "public_key": place.public_key(name)}))
            .collect();
        return context.output.json(
            &serde_json::json!({"event": "ready", "url": url, "client_config": config, "repositories": repositories}),
        );
    }
    context.output.line(&format!("conveyor is at {url}/ (jobs and logs as they happen)"))?;
    for name in &place.repositories {
        context.output.line(&format!(
            "repository {name}: {url}/cvmfs/{name}/, public key {}",
            place.public_key(name).display()
        ))?;
    }
    context.output.line(&format!("from another shell: conveyor -c {} submit …", config.display()))
}
