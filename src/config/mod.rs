//! The configuration of all roles: one file, the environment and the flags; a flag beats the environment, which beats
//! the file, which beats the default. The old program's file and variables are accepted.

mod broker;
mod credentials;
mod cvmfs_notify;
mod cvmfs_server;
mod environment;
mod file;
mod listen;
mod notify;
mod notify_alone;
mod reload;
mod roles;
mod secret;
mod tokens;
mod value;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use broker::{BrokerConfig, BrokerTls};
pub use cvmfs_server::{CvmfsServerConfig, WorldReadable};
pub use environment::Environment;
pub use listen::ListenAddress;
pub use notify::{NotifyConfig, Watched};
pub use notify_alone::NotifyAlone;
pub use roles::{
    ClientConfig, ClientFlags, Isolation, NodePublisher, Offers, ServerConfig, ServerFlags, WorkerConfig, WorkerFlags,
};
pub use secret::read_token_file;
pub use tokens::{Stamp, parse_token_list, read_token_list};

use file::File;

/// Read when no other file is named, and then it need not exist.
pub const DEFAULT_FILE: &str = "/etc/cvmfs/conveyor/config.toml";

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file does not say what it should.
    #[error("{}:{line}:{column}: {why}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong; never the value.
        why: String,
    },
    /// A setting is understood but cannot be.
    #[error("{key} {why}")]
    Value {
        /// The setting, with its table, variable or flag.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// A file with a secret that others can read.
    #[error("{} can be read by everyone on this machine and holds a secret", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// A token list that others can write.
    #[error("{} can be written by everyone on this machine and says who may do everything", .path.display())]
    Writable {
        /// The file.
        path: PathBuf,
    },
    /// A file with a secret that belongs to more than one account.
    #[error("{} can be read by other accounts and holds a secret", .path.display())]
    Shared {
        /// The file.
        path: PathBuf,
    },
}

impl ConfigError {
    /// The next step.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => Some("name another file with --config, or make this one readable".into()),
            Self::Syntax { .. } => {
                Some("docs/configuration.md lists the keys; test with: conveyor check-config".into())
            }
            Self::Exposed { path } => Some(format!("take that right away: chmod o= {}", path.display())),
            Self::Writable { path } => Some(format!("take that right away: chmod o-w {}", path.display())),
            Self::Shared { path } => Some(format!("take that right away: chmod go= {}", path.display())),
            Self::Value { .. } => None,
        }
    }
}

/// What was read, ready to be asked by each role.
#[derive(Debug, Clone, Default)]
pub struct Config {
    file: File,
    path: Option<PathBuf>,
    /// The file that a flag named.
    named: Option<PathBuf>,
    environment: Environment,
    warnings: Vec<String>,
    without_secrets: bool,
}

impl Config {
    /// Reads the file that the flag names, or `CONVEYOR_CONFIG`, or the default one where it exists.
    pub fn load(flag: Option<&Path>, environment: Environment) -> Result<Self, ConfigError> {
        let named = flag.map(Path::to_owned);
        Ok(Self { named: named.clone(), ..Self::read(named, environment)? })
    }

    fn read(flag: Option<PathBuf>, environment: Environment) -> Result<Self, ConfigError> {
        let named = flag.or_else(|| environment.get("CONVEYOR_CONFIG").map(PathBuf::from));
        let required = named.is_some();
        let path = named.unwrap_or_else(|| DEFAULT_FILE.into());
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let config = Self::parse(&path, &text, environment)?;
                if config.file.client.token.get().is_some() {
                    secret::refuse_exposed(&path)?;
                }
                Ok(config)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => {
                let warnings = environment.unused();
                Ok(Self { environment, warnings, ..Self::default() })
            }
            Err(source) => Err(ConfigError::Read { path, source }),
        }
    }

    fn parse(path: &Path, text: &str, environment: Environment) -> Result<Self, ConfigError> {
        let file = File::parse(path, text)?;
        let mut warnings: Vec<_> =
            file.unused().into_iter().map(|text| format!("{}: {text}", path.display())).collect();
        warnings.extend(environment.unused());
        Ok(Self { file, path: Some(path.to_owned()), named: None, environment, warnings, without_secrets: false })
    }

    /// The file that was read, if there was one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What is set and does nothing, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether to log in detail.
    pub fn debug(&self) -> bool {
        self.file.debug.get().copied().unwrap_or(false)
    }

    /// Whether log lines begin with the time in any case.
    pub fn log_timestamps(&self) -> bool {
        self.file.log_timestamps.get().copied().unwrap_or(false)
    }

    /// How long `--wait` waits; without an end where nothing is set.
    pub fn wait_limit(&self) -> Option<Duration> {
        self.file.job_wait_timeout.get().map(|seconds| Duration::from_secs(*seconds))
    }
}
