//! The file as it is written: every key that means something, now or to the old program.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ConfigError;
use super::broker::BrokerTable;
use super::cvmfs_server::CvmfsServerTable;
use super::notify::NotifyTable;
use super::value::Setting;
use crate::domain::fleet::Repositories;
use crate::domain::names::RepositoryName;

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) shared_key: Setting<String>,
    pub(super) job_wait_timeout: Setting<u64>,
    pub(super) debug: Setting<bool>,
    pub(super) log_timestamps: Setting<bool>,
    pub(super) client: ClientTable,
    pub(super) server: ServerTable,
    pub(super) retention: RetentionTable,
    pub(super) worker: WorkerTable,
    pub(super) batches: BatchesTable,
    pub(super) repositories: Repositories,
    pub(super) broker: BrokerTable,
    pub(super) cvmfs_server: CvmfsServerTable,
    pub(super) notify: NotifyTable,
    pub(super) queue: QueueTable,
    pub(super) db: DbTable,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ClientTable {
    pub(super) url: Setting<String>,
    pub(super) token: Setting<String>,
    pub(super) token_file: Setting<PathBuf>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ServerTable {
    pub(super) host: Setting<String>,
    pub(super) port: Setting<u16>,
    pub(super) listen: Vec<String>,
    pub(super) state_dir: Setting<PathBuf>,
    pub(super) token_file: Setting<PathBuf>,
    pub(super) tokens: Vec<PathBuf>,
    pub(super) submitter: Setting<String>,
    pub(super) anonymous_read: Setting<bool>,
    pub(super) claim_expiry_s: Setting<u32>,
    pub(super) recovery_limit_s: Setting<u32>,
    pub(super) max_blob_bytes: Setting<u64>,
    pub(super) visible_urls: Vec<String>,
    pub(super) keys_dir: Setting<PathBuf>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RetentionTable {
    pub(super) jobs_days: Setting<u32>,
    pub(super) jobs_max: Setting<u64>,
    pub(super) logs_days: Setting<u32>,
    pub(super) logs_max_bytes: Setting<u64>,
    pub(super) blobs_days: Setting<u32>,
    pub(super) blobs_max_bytes: Setting<u64>,
    pub(super) interval_s: Setting<u32>,
}

/// How large a batch may become.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BatchesTable {
    pub(super) max_jobs: Setting<u32>,
    pub(super) max_bytes: Setting<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WorkerTable {
    pub(super) name: Setting<String>,
    pub(super) job_retries: Setting<u32>,
    pub(super) temp_dir: Setting<PathBuf>,
    pub(super) server: Setting<String>,
    pub(super) token_file: Setting<PathBuf>,
    pub(super) node: Setting<String>,
    pub(super) fleet: Setting<String>,
    pub(super) slots: Setting<u32>,
    pub(super) state_dir: Setting<PathBuf>,
    pub(super) repositories_dir: Setting<PathBuf>,
    pub(super) keys_dir: Setting<PathBuf>,
    pub(super) run_as: Setting<String>,
    pub(super) isolation: Setting<String>,
    pub(super) offers: Setting<String>,
    pub(super) publisher: Setting<String>,
    pub(super) repositories: Option<Vec<RepositoryName>>,
    pub(super) drain_timeout_s: Setting<u32>,
    pub(super) whitelist_warning_days: Setting<u32>,
}

/// The old program's RabbitMQ.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct QueueTable {
    username: Setting<String>,
    password: Setting<String>,
    host: Setting<String>,
    port: Setting<u16>,
    vhost: Setting<String>,
    new_job_exchange: Setting<String>,
    new_job_queue: Setting<String>,
    completed_job_exchange: Setting<String>,
}

/// The old program's database.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DbTable {
    r#type: Setting<String>,
    database: Setting<String>,
    username: Setting<String>,
    password: Setting<String>,
    host: Setting<String>,
    port: Setting<u16>,
}

/// Says where TOML is wrong.
pub(super) fn syntax_error(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
    ConfigError::Syntax {
        path: path.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before.chars().rev().take_while(|c| *c != '\n').count() + 1,
        // Not the error's own text: that quotes the line, which may hold a secret.
        why: error.message().to_owned(),
    }
}

impl File {
    /// Reads TOML, or JSON where the name ends in `.json` or the text begins with a brace.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
            || text.trim_start().starts_with('{');
        let at =
            |line, column, why: &str| ConfigError::Syntax { path: path.to_owned(), line, column, why: why.to_owned() };
        if json {
            serde_json::from_str(text).map_err(|error| {
                let why = error.to_string();
                let why = why.rsplit_once(" at line ").map_or(why.as_str(), |(why, _)| why);
                at(error.line(), error.column(), why)
            })
        } else {
            toml::from_str(text).map_err(|error| syntax_error(path, text, &error))
        }
    }

    /// Keys that are set and that this version does nothing with, each with what takes its place.
    pub(super) fn unused(&self) -> Vec<String> {
        let (queue, db) = (&self.queue, &self.db);
        let set = |keys: &[(&str, bool)]| -> String {
            keys.iter().filter(|(_, set)| *set).map(|(key, _)| *key).collect::<Vec<_>>().join(", ")
        };
        let queue = set(&[
            ("username", queue.username.get().is_some()),
            ("password", queue.password.get().is_some()),
            ("host", queue.host.get().is_some()),
            ("port", queue.port.get().is_some()),
            ("vhost", queue.vhost.get().is_some()),
            ("new_job_exchange", queue.new_job_exchange.get().is_some()),
            ("new_job_queue", queue.new_job_queue.get().is_some()),
            ("completed_job_exchange", queue.completed_job_exchange.get().is_some()),
        ]);
        let db = set(&[
            ("type", db.r#type.get().is_some()),
            ("database", db.database.get().is_some()),
            ("username", db.username.get().is_some()),
            ("password", db.password.get().is_some()),
            ("host", db.host.get().is_some()),
            ("port", db.port.get().is_some()),
        ]);
        let mut unused = Vec::new();
        if self.shared_key.get().is_some() {
            unused
                .push("shared_key is not used: clients and workers prove themselves with a token (token_file)".into());
        }
        if !queue.is_empty() {
            unused.push(format!("[queue] {queue}: not used: workers get their work over HTTP"));
        }
        if !db.is_empty() {
            unused.push(format!("[db] {db}: not used: the server keeps its jobs below state_dir"));
        }
        if self.worker.job_retries.get().is_some() {
            unused.push(
                "[worker] job_retries is not used: each job says how often it is tried (submit --attempts)".into(),
            );
        }
        unused
    }
}
