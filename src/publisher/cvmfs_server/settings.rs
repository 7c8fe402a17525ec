//! How this node's `cvmfs_server` is driven.

use std::path::PathBuf;
use std::time::Duration;

use super::inspect::Checks;
use crate::publisher::Owner;

/// What the history shows of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mark {
    /// A named tag, which is evidence and fence in one.
    #[default]
    Tag,
    /// A word in the description of the automatic tag: evidence only, for repositories that cannot have so many named tags.
    Description,
}

/// Settings of the publisher.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The program.
    pub command: PathBuf,
    /// What is `/etc/cvmfs` elsewhere: `repositories.d/NAME/server.conf` and `keys/` are below it.
    pub config_dir: PathBuf,
    /// Where the journal is, which must outlive the machine's restart.
    pub state_dir: PathBuf,
    /// Who owns what is published.
    pub ownership: super::Ownership,
    /// Whom scripts run as in repositories that belong to root: never as root. They cannot change what belongs to root then.
    pub run_as: Option<Owner>,
    /// What the history shows of a batch.
    pub mark: Mark,
    /// How long opening or aborting a transaction may take.
    pub short_limit: Duration,
    /// How long a publish may take.
    pub publish_limit: Duration,
    /// How long it may go on when its revision is there: a remount that hangs never ends.
    pub remount_limit: Duration,
    /// How much of a lease is kept for the publish itself.
    pub lease_reserve: Duration,
    /// How long a publish waits for those who have the mounted repository in use.
    pub in_use_patience: Duration,
    /// How long the gateway is waited for when a lease is dropped, which is behind a commit that runs.
    pub fence_limit: Duration,
    /// What is looked at before a publish.
    pub checks: Checks,
}

impl Settings {
    /// The usual ones.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            command: "cvmfs_server".into(),
            config_dir: "/etc/cvmfs".into(),
            state_dir: state_dir.into(),
            ownership: super::Ownership::default(),
            run_as: None,
            mark: Mark::default(),
            short_limit: Duration::from_secs(300),
            publish_limit: Duration::from_secs(4 * 3600),
            remount_limit: Duration::from_secs(180),
            lease_reserve: Duration::from_secs(600),
            in_use_patience: Duration::from_secs(60),
            fence_limit: Duration::from_secs(1800),
            checks: Checks::default(),
        }
    }
}
