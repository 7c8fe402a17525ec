//! The table `[cvmfs_server]`: how a publisher node's `cvmfs_server` is driven.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::roles::ranged;
use super::value::Setting;
use super::{Config, ConfigError};

/// The table as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CvmfsServerTable {
    command: Setting<PathBuf>,
    config_dir: Setting<PathBuf>,
    ownership: Setting<String>,
    evidence: Setting<String>,
    transaction_limit_s: Setting<u32>,
    publish_limit_s: Setting<u32>,
    remount_limit_s: Setting<u32>,
    lease_reserve_s: Setting<u32>,
    fence_limit_s: Setting<u32>,
    in_use_patience_s: Setting<u32>,
    max_file_bytes: Setting<u64>,
    max_catalog_entries: Setting<u64>,
    min_free_bytes: Setting<u64>,
    world_readable: Setting<String>,
}

/// How a node's `cvmfs_server` is driven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CvmfsServerConfig {
    /// The program.
    pub command: PathBuf,
    /// What is `/etc/cvmfs` elsewhere.
    pub config_dir: PathBuf,
    /// Whether entries of archives keep their owners; else all is the repository's owner's.
    pub keeps_owners: bool,
    /// Whether a batch is known by the description of the automatic tag instead of by a tag of its own.
    pub evidence_by_description: bool,
    /// How long opening or aborting a transaction may take.
    pub transaction_limit: Duration,
    /// How long a publish may take.
    pub publish_limit: Duration,
    /// How long a publish may go on when its revision is there.
    pub remount_limit: Duration,
    /// How much of a lease is kept for the publish.
    pub lease_reserve: Duration,
    /// How long a gateway may take to drop a lease.
    pub fence_limit: Duration,
    /// How long a publish waits for those who have the repository in use on the node.
    pub in_use_patience: Duration,
    /// Largest file that is published without a warning, in bytes.
    pub max_file_bytes: Option<u64>,
    /// Most entries that a catalog should have.
    pub max_catalog_entries: Option<u64>,
    /// What must be free in the spool directory, in bytes.
    pub min_free_bytes: Option<u64>,
    /// What becomes of entries that not everybody can read.
    pub world_readable: WorldReadable,
}

/// What becomes of entries that not everybody can read: clients serve them to nobody but their owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorldReadable {
    /// Nothing.
    Off,
    /// The job's log says so.
    Warn,
    /// The job fails.
    Refuse,
}

impl Config {
    /// How `cvmfs_server` is driven.
    pub(super) fn cvmfs_server(&self) -> Result<CvmfsServerConfig, ConfigError> {
        let file = &self.file.cvmfs_server;
        let refuse = |key: &str, why: &str| {
            Err(ConfigError::Value { key: format!("[cvmfs_server] {key}"), why: why.to_owned() })
        };
        let seconds = |key: &str, setting: &Setting<u32>, default: u32, least: u32| {
            let value = ranged(&format!("[cvmfs_server] {key}"), setting, default, least, 7 * 86_400)?;
            Ok::<_, ConfigError>(Duration::from_secs(value.into()))
        };
        let most = |setting: &Setting<u64>| setting.get().copied();
        Ok(CvmfsServerConfig {
            command: file.command.get().cloned().unwrap_or_else(|| "cvmfs_server".into()),
            config_dir: file.config_dir.get().cloned().unwrap_or_else(|| "/etc/cvmfs".into()),
            keeps_owners: match file.ownership.get().map(String::as_str) {
                None | Some("owner") => false,
                Some("keep") => true,
                Some(_) => return refuse("ownership", "must be \"owner\" or \"keep\""),
            },
            evidence_by_description: match file.evidence.get().map(String::as_str) {
                None | Some("tag") => false,
                Some("description") => true,
                Some(_) => return refuse("evidence", "must be \"tag\" or \"description\""),
            },
            transaction_limit: seconds("transaction_limit_s", &file.transaction_limit_s, 300, 10)?,
            publish_limit: seconds("publish_limit_s", &file.publish_limit_s, 4 * 3600, 10)?,
            remount_limit: seconds("remount_limit_s", &file.remount_limit_s, 180, 1)?,
            lease_reserve: seconds("lease_reserve_s", &file.lease_reserve_s, 600, 0)?,
            fence_limit: seconds("fence_limit_s", &file.fence_limit_s, 1800, 10)?,
            in_use_patience: seconds("in_use_patience_s", &file.in_use_patience_s, 60, 0)?,
            max_file_bytes: most(&file.max_file_bytes),
            max_catalog_entries: most(&file.max_catalog_entries),
            min_free_bytes: most(&file.min_free_bytes),
            world_readable: match file.world_readable.get().map(String::as_str) {
                None | Some("warn") => WorldReadable::Warn,
                Some("off") => WorldReadable::Off,
                Some("refuse") => WorldReadable::Refuse,
                Some(_) => return refuse("world_readable", "must be \"off\", \"warn\" or \"refuse\""),
            },
        })
    }
}
