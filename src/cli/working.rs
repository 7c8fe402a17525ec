//! Puts a worker together: its client, its publisher, the account that payloads run as.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::watch;

use crate::client::Client;
use crate::config::{self, ConfigError, CvmfsServerConfig, Isolation, NodePublisher, Offers, WorkerConfig};
use crate::payload::fetch::FetchLimits;
use crate::publisher::cvmfs_server::{self, CvmfsServer, Mark, Ownership, WorldReadable};
use crate::publisher::native::NativePublisher;
use crate::publisher::{Owner, Publisher};
use crate::worker::{self, Account, Ended, Halt, Handle, Once, WorkerSettings};

use super::supervision::adjustable;

/// The account that payloads run as where the worker is root and nothing is configured.
const NOBODY: &str = "nobody";

/// Runs a worker until it is told to halt, or for one batch.
pub(super) async fn run(
    config: WorkerConfig,
    once: Option<Once>,
    halt: watch::Receiver<Halt>,
    handle: &Handle,
) -> anyhow::Result<Ended> {
    refuse_namespace(&config)?;
    let (client, publisher, settings) = parts(config, once)?;
    Ok(worker::run(client, publisher, settings, halt, handle).await?)
}

/// What a worker of this configuration would refuse at its start, without trying what needs the machine.
pub(super) fn check(config: &WorkerConfig) -> anyhow::Result<()> {
    refuse_namespace(config)?;
    account(config.run_as.as_deref()).map(drop)
}

fn refuse_namespace(config: &WorkerConfig) -> Result<(), ConfigError> {
    match config.publisher {
        NodePublisher::Native => Ok(()),
        NodePublisher::CvmfsServer(_) => CvmfsServer::refuse_other_namespace().map_err(|why| ConfigError::Value {
            key: "[worker] publisher".into(),
            why: format!("is \"cvmfs-server\", and {why}"),
        }),
    }
}

/// What a worker is made of.
pub(super) fn parts(
    config: WorkerConfig,
    once: Option<Once>,
) -> anyhow::Result<(Client, Arc<dyn Publisher>, WorkerSettings)> {
    let run_as = account(config.run_as.as_deref())?;
    let publisher = publisher(&config, run_as);
    let adjustable = adjustable(&config);
    let client = Client::new(&config.client.url, config.client.token)?;
    let settings = WorkerSettings {
        node: config.node,
        fleet: config.fleet,
        adjustable,
        state_dir: config.state_dir,
        temp_dir: config.temp_dir,
        run_as,
        isolation_required: config.isolation == Isolation::Required,
        hidden: config.secrets,
        fetch: FetchLimits::default(),
        broker: match config.offers {
            Offers::Http => None,
            Offers::Rabbitmq(broker) => Some(super::broker::settings(&broker)),
        },
        once,
    };
    Ok((client, publisher, settings))
}

/// What this node publishes with.
fn publisher(config: &WorkerConfig, run_as: Option<Account>) -> Arc<dyn Publisher> {
    match &config.publisher {
        NodePublisher::Native => Arc::new(NativePublisher::new(&config.repositories_dir, &config.keys_dir)),
        NodePublisher::CvmfsServer(driven) => Arc::new(CvmfsServer::new(driver_settings(config, driven, run_as))),
    }
}

/// The driver's settings, out of the configuration's.
fn driver_settings(
    config: &WorkerConfig,
    driven: &CvmfsServerConfig,
    run_as: Option<Account>,
) -> cvmfs_server::Settings {
    let mut settings = cvmfs_server::Settings::new(&config.state_dir);
    settings.command.clone_from(&driven.command);
    settings.config_dir.clone_from(&driven.config_dir);
    settings.ownership = if driven.keeps_owners { Ownership::Keep } else { Ownership::Owner };
    settings.run_as = run_as.map(|account| Owner { uid: account.uid, gid: account.gid });
    settings.mark = if driven.evidence_by_description { Mark::Description } else { Mark::Tag };
    settings.short_limit = driven.transaction_limit;
    settings.publish_limit = driven.publish_limit;
    settings.remount_limit = driven.remount_limit;
    settings.lease_reserve = driven.lease_reserve;
    settings.fence_limit = driven.fence_limit;
    settings.in_use_patience = driven.in_use_patience;
    settings.checks.max_file_bytes = driven.max_file_bytes;
    settings.checks.world_readable = match driven.world_readable {
        config::WorldReadable::Off => WorldReadable::Off,
        config::WorldReadable::Warn => WorldReadable::Warn,
        config::WorldReadable::Refuse => WorldReadable::Refuse,
    };
    if let Some(entries) = driven.max_catalog_entries {
        settings.checks.max_catalog_entries = entries;
    }
    if let Some(bytes) = driven.min_free_bytes {
        settings.checks.min_free_bytes = bytes;
    }
    settings
}

/// The account of this name; `nobody` for a root worker that names none.
fn account(name: Option<&str>) -> anyhow::Result<Option<Account>> {
    let is_root = nix::unistd::geteuid().is_root();
    let name = match (name, is_root) {
        (Some(name), _) => name,
        (None, true) => NOBODY,
        (None, false) => return Ok(None),
    };
    let user = nix::unistd::User::from_name(name).context("cannot look up accounts")?;
    let refuse = |why: String| Err(ConfigError::Value { key: "[worker] run_as".into(), why }.into());
    let Some(user) = user else {
        return refuse(format!("is {name:?}, and there is no such account; set it to one without rights"));
    };
    if user.uid.is_root() {
        return refuse("is root, and payloads are never run as root; set it to an account without rights".into());
    }
    if !is_root {
        // Only root can become somebody else.
        if user.uid != nix::unistd::geteuid() {
            return refuse(format!(
                "is {name:?}, but this worker is not root and can run payloads only as itself; leave it out"
            ));
        }
        return Ok(None);
    }
    Ok(Some(Account { uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
}
