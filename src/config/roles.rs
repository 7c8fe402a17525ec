//! What each role runs with, after flags, environment, file and defaults are weighed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::credentials::TOKEN;
use super::listen::{ListenAddress, NoAddress};
use super::value::Setting;
use super::{BrokerConfig, Config, ConfigError, CvmfsServerConfig, NotifyConfig};
use crate::domain::fleet::{DEFAULT_FLEET, Repositories};
use crate::domain::names::RepositoryName;
use crate::domain::plan::BatchLimits;
use crate::domain::retention::Retention;
use crate::domain::token::Token;
use crate::domain::visible::VisibleUrls;

const DEFAULT_PORT: u16 = 8080;
/// Where public keys of repositories are looked for.
const DEFAULT_KEYS_DIR: &str = "/etc/cvmfs/keys";
const DEFAULT_MAX_BLOB_BYTES: u64 = 64 << 30;
const DEFAULT_SLOTS: u32 = 4;
const DEFAULT_SERVER_STATE: &str = "/var/lib/conveyor";
const DEFAULT_DRAIN_S: u32 = 60;
const DEFAULT_WHITELIST_DAYS: u32 = 7;
const WORKER_STATE_DIR: &str = "/var/lib/conveyor-worker";

/// Flags that every client command has.
#[derive(Debug, Clone, Default)]
pub struct ClientFlags {
    /// `--url`.
    pub url: Option<String>,
    /// `--token-file`.
    pub token_file: Option<PathBuf>,
}

/// How to reach the server.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Its address.
    pub url: String,
    /// What lets us in.
    pub token: Option<Token>,
}

/// Flags of `conveyor server`.
#[derive(Debug, Clone, Default)]
pub struct ServerFlags {
    /// `--listen`; empty when not given.
    pub listen: Vec<ListenAddress>,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// `--token-file`.
    pub token_file: Option<PathBuf>,
}

/// What the server runs with.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where to listen, unless sockets are inherited.
    pub listen: Vec<ListenAddress>,
    /// Where everything durable is.
    pub state_dir: PathBuf,
    /// The token that opens everything, with which the first others are made.
    pub token: Option<Token>,
    /// Token lists.
    pub tokens: Vec<PathBuf>,
    /// Whether a job's submitter is the name of the token that submitted it, whatever the client says.
    pub submitter_is_owner: bool,
    /// Whether jobs may be looked at without a token.
    pub anonymous_read: bool,
    /// How long a worker may be silent until its claims are lost.
    pub claim_expiry: Duration,
    /// How long a lost batch's repository may stay unreadable before a person is asked.
    pub recovery_limit: Duration,
    /// Largest blob accepted.
    pub max_blob_bytes: u64,
    /// How long what is over is kept.
    pub retention: Retention,
    /// How large a batch may become.
    pub batches: BatchLimits,
    /// The repositories that jobs are accepted for.
    pub repositories: Repositories,
    /// What sends offers and tells events; workers ask for offers over HTTP where there is none.
    pub broker: Option<BrokerConfig>,
    /// Notifications.
    pub notify: NotifyConfig,
    /// The URLs that jobs may have asked for their revision.
    pub visible_urls: VisibleUrls,
    /// Where the public keys of repositories are, by which notifications and the answers of those URLs are verified.
    pub keys_dir: PathBuf,
}

/// Flags of `conveyor worker`.
#[derive(Debug, Clone, Default)]
pub struct WorkerFlags {
    /// `--url` and `--token-file`.
    pub client: ClientFlags,
    /// `--worker-name`.
    pub name: Option<String>,
    /// `--temp-dir`.
    pub temp_dir: Option<PathBuf>,
    /// `--fleet`.
    pub fleet: Option<String>,
    /// `--slots`.
    pub slots: Option<u32>,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
}

/// What a worker runs with.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// How to reach the server.
    pub client: ClientConfig,
    /// The name of this machine: what is lost here is looked for here.
    pub node: String,
    /// The fleet it serves.
    pub fleet: String,
    /// Batches at a time.
    pub slots: u32,
    /// Where its journal is.
    pub state_dir: PathBuf,
    /// Where payloads are fetched and unpacked; nothing else may be kept there.
    pub temp_dir: PathBuf,
    /// Where repositories that it writes by itself are.
    pub repositories_dir: PathBuf,
    /// Where the keys of repositories are.
    pub keys_dir: PathBuf,
    /// The account that payloads run as.
    pub run_as: Option<String>,
    /// What it publishes with.
    pub publisher: NodePublisher,
    /// Whether scripts must be isolated.
    pub isolation: Isolation,
    /// Files and directories with secrets that this configuration names, its own file among them.
    pub secrets: Vec<PathBuf>,
    /// How offers come.
    pub offers: Offers,
    /// The repositories that it serves; those that are there where not said.
    pub repositories: Option<Vec<RepositoryName>>,
    /// How long what it has may go on when it is told to end.
    pub drain_timeout: Duration,
    /// From how many days before its end a repository's whitelist is warned of.
    pub whitelist_warning_days: u32,
}

/// What a worker publishes with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePublisher {
    /// It writes the repositories of its directory by itself.
    Native,
    /// This machine's `cvmfs_server`.
    CvmfsServer(Box<CvmfsServerConfig>),
}

/// Whether scripts must be isolated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isolation {
    /// A worker that cannot do so does not start.
    Required,
    /// Where the host can. Elsewhere the worker warns, and scripts run without.
    #[default]
    Preferred,
}

/// How a worker gets offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offers {
    /// It asks the server.
    Http,
    /// RabbitMQ delivers them.
    Rabbitmq(Box<BrokerConfig>),
}

impl Config {
    /// What a client command runs with.
    pub fn client(&self, flags: &ClientFlags) -> Result<ClientConfig, ConfigError> {
        let file = &self.file.client;
        let url = flags
            .url
            .as_deref()
            .or_else(|| self.environment.get("CONVEYOR_URL"))
            .or(file.url.get().map(String::as_str));
        let url = url.map_or_else(|| self.old_url(), str::to_owned);
        let token = match self.said_token(flags.token_file.as_deref())? {
            Some(token) => Some(token),
            None => self.client_token()?,
        };
        Ok(ClientConfig { url, token })
    }

    /// What the server runs with.
    pub fn server(&self, flags: &ServerFlags) -> Result<ServerConfig, ConfigError> {
        let file = &self.file.server;
        let listen = if !flags.listen.is_empty() { flags.listen.clone() } else { self.listen()? };
        let token = match self.said_token(flags.token_file.as_deref())? {
            Some(token) => Some(token),
            None => {
                let path = file.token_file.get().cloned().or_else(|| self.credential(TOKEN));
                path.map(|path| self.token_in(&path)).transpose()?
            }
        };
        Ok(ServerConfig {
            listen,
            state_dir: self.state_dir(flags.state_dir.as_ref(), &file.state_dir, DEFAULT_SERVER_STATE),
            token,
            tokens: file.tokens.clone(),
            submitter_is_owner: match file.submitter.get().map(String::as_str) {
                None | Some("client") => false,
                Some("token") => true,
                Some(other) => {
                    let why = format!("is {other:?}; write \"client\" or \"token\"");
                    return Err(ConfigError::Value { key: "[server] submitter".into(), why });
                }
            },
            anonymous_read: file.anonymous_read.get().copied().unwrap_or(false),
            claim_expiry: Duration::from_secs(
                ranged("[server] claim_expiry_s", &file.claim_expiry_s, 30, 5, 3600)?.into(),
            ),
            recovery_limit: Duration::from_secs(
                ranged("[server] recovery_limit_s", &file.recovery_limit_s, 3600, 1, 7 * 86_400)?.into(),
            ),
            max_blob_bytes: file.max_blob_bytes.get().copied().unwrap_or(DEFAULT_MAX_BLOB_BYTES),
            retention: self.retention()?,
            batches: self.batches()?,
            repositories: self.repositories()?,
            broker: self.broker()?,
            notify: self.notify()?,
            visible_urls: VisibleUrls::parse(&file.visible_urls)
                .map_err(|why| ConfigError::Value { key: "[server] visible_urls".into(), why })?,
            keys_dir: self.keys_dir(),
        })
    }

    /// What a worker runs with.
    pub fn worker(&self, flags: &WorkerFlags) -> Result<WorkerConfig, ConfigError> {
        let file = &self.file.worker;
        let said_url = flags.client.url.as_deref().or_else(|| self.environment.get("CONVEYOR_URL"));
        let url = said_url.or(file.server.get().map(String::as_str)).or(self.file.client.url.get().map(String::as_str));
        let own_token = file.token_file.get().cloned().or_else(|| self.credential(TOKEN));
        let token = match (self.said_token(flags.client.token_file.as_deref())?, own_token) {
            (Some(token), _) => Some(token),
            (None, Some(path)) => Some(self.token_in(&path)?),
            (None, None) => self.client_token()?,
        };
        let node = match flags.name.as_ref().or(file.node.get()).or(file.name.get()) {
            Some(node) => node.clone(),
            None => nix::unistd::gethostname()
                .ok()
                .and_then(|name| name.into_string().ok())
                .unwrap_or_else(|| "localhost".into()),
        };
        let fleet = flags.fleet.as_ref().or(file.fleet.get()).cloned().unwrap_or_else(|| DEFAULT_FLEET.into());
        let state_dir = self.worker_state_dir(flags.state_dir.as_ref());
        let temp_dir = flags.temp_dir.as_ref().or(file.temp_dir.get()).cloned();
        let slots = Setting(flags.slots.or(file.slots.get().copied()));
        let (repositories_dir, keys_dir) = self.repository_dirs();
        Ok(WorkerConfig {
            client: ClientConfig { url: url.map_or_else(|| self.old_url(), str::to_owned), token },
            node: word("the worker's name (--worker-name or [worker] node)", node)?,
            fleet: word("the worker's fleet (--fleet or [worker] fleet)", fleet)?,
            slots: ranged("[worker] slots", &slots, DEFAULT_SLOTS, 1, 1000)?,
            temp_dir: temp_dir.unwrap_or_else(|| state_dir.join("tmp")),
            state_dir,
            repositories_dir,
            keys_dir,
            run_as: file.run_as.get().cloned(),
            publisher: match file.publisher.get().map(String::as_str) {
                None | Some("native") => NodePublisher::Native,
                Some("cvmfs-server") => NodePublisher::CvmfsServer(Box::new(self.cvmfs_server()?)),
                Some(_) => {
                    let why = "must be \"native\" or \"cvmfs-server\"".into();
                    return Err(ConfigError::Value { key: "[worker] publisher".into(), why });
                }
            },
            isolation: match file.isolation.get().map(String::as_str) {
                None | Some("preferred") => Isolation::Preferred,
                Some("required") => Isolation::Required,
                Some(other) => {
                    let why = format!("is {other:?}; write \"required\" or \"preferred\"");
                    return Err(ConfigError::Value { key: "[worker] isolation".into(), why });
                }
            },
            secrets: self.secrets(flags),
            offers: self.offers()?,
            repositories: file.repositories.clone(),
            whitelist_warning_days: ranged(
                "[worker] whitelist_warning_days",
                &file.whitelist_warning_days,
                DEFAULT_WHITELIST_DAYS,
                0,
                365,
            )?,
            drain_timeout: Duration::from_secs(
                ranged("[worker] drain_timeout_s", &file.drain_timeout_s, DEFAULT_DRAIN_S, 0, 86_400)?.into(),
            ),
        })
    }

    /// What no script may see, whether it is there or not.
    fn secrets(&self, flags: &WorkerFlags) -> Vec<PathBuf> {
        let (client, server, worker) = (&self.file.client, &self.file.server, &self.file.worker);
        let said = self.environment.get("CONVEYOR_TOKEN_FILE").map(PathBuf::from);
        let tokens = [client.token_file.get(), server.token_file.get(), worker.token_file.get()];
        let tokens = tokens.into_iter().flatten().chain(&flags.client.token_file).chain(&server.tokens).cloned();
        let state = server.state_dir.get().cloned().unwrap_or_else(|| DEFAULT_SERVER_STATE.into());
        let given = said.into_iter().chain(self.credentials_directory());
        tokens.chain(given).chain(self.path.clone()).chain(self.broker_secrets()).chain([state]).collect()
    }

    fn batches(&self) -> Result<BatchLimits, ConfigError> {
        let (file, default) = (&self.file.batches, BatchLimits::default());
        let jobs = u32::try_from(default.jobs).unwrap_or(u32::MAX);
        Ok(BatchLimits {
            jobs: ranged("[batches] max_jobs", &file.max_jobs, jobs, 1, 10_000)? as usize,
            bytes: file.max_bytes.get().copied().unwrap_or(default.bytes),
        })
    }

    fn retention(&self) -> Result<Retention, ConfigError> {
        let (file, default) = (&self.file.retention, Retention::default());
        // 0 keeps for ever.
        let days = |setting: &Setting<u32>, default: Option<Duration>| match setting.get() {
            Some(days) => (*days > 0).then(|| Duration::from_secs(24 * 3600) * *days),
            None => default,
        };
        let most = |setting: &Setting<u64>, default: Option<u64>| match setting.get() {
            Some(most) => Some(*most).filter(|most| *most > 0),
            None => default,
        };
        Ok(Retention {
            jobs: days(&file.jobs_days, default.jobs),
            jobs_max: most(&file.jobs_max, default.jobs_max),
            logs: days(&file.logs_days, default.logs),
            logs_max_bytes: most(&file.logs_max_bytes, default.logs_max_bytes),
            blobs: days(&file.blobs_days, default.blobs),
            blobs_max_bytes: most(&file.blobs_max_bytes, default.blobs_max_bytes),
            interval: Duration::from_secs(ranged("[retention] interval_s", &file.interval_s, 300, 1, 86_400)?.into()),
        })
    }

    /// The state directory of a server, for commands that look at it.
    pub fn server_state_dir(&self, flag: Option<&PathBuf>) -> PathBuf {
        self.state_dir(flag, &self.file.server.state_dir, DEFAULT_SERVER_STATE)
    }

    /// The state directory of a worker, for commands that speak to it.
    pub fn worker_state_dir(&self, flag: Option<&PathBuf>) -> PathBuf {
        self.state_dir(flag, &self.file.worker.state_dir, WORKER_STATE_DIR)
    }

    /// Where the public keys of repositories are, for whoever verifies what others say of them.
    pub fn keys_dir(&self) -> PathBuf {
        self.file.server.keys_dir.get().cloned().unwrap_or_else(|| DEFAULT_KEYS_DIR.into())
    }

    /// Where the worker's repositories are, and their keys, for commands that change them by themselves: those who type them need
    /// none of the secrets that a worker needs.
    pub fn repository_dirs(&self) -> (PathBuf, PathBuf) {
        let path = |setting: &Setting<PathBuf>, default: &str| setting.get().cloned().unwrap_or_else(|| default.into());
        let file = &self.file.worker;
        (path(&file.repositories_dir, "/srv/cvmfs"), path(&file.keys_dir, DEFAULT_KEYS_DIR))
    }

    /// The repositories, each with where it is; where a broker is, their fleets are parts of queues' names.
    fn repositories(&self) -> Result<Repositories, ConfigError> {
        for (name, rules) in &self.file.repositories {
            word(&format!("[repositories.\"{name}\"] fleet"), rules.fleet.clone())?;
            for window in &rules.maintenance {
                window.validate().map_err(|why| ConfigError::Value {
                    key: format!("[[repositories.\"{name}\".maintenance]]"),
                    why: why.into(),
                })?;
            }
            if rules.batch_root.is_some() && !rules.gateway {
                return Err(ConfigError::Value {
                    key: format!("[repositories.\"{name}\"] batch_root"),
                    why: "means something with gateway = true only: without a gateway all jobs share batches".into(),
                });
            }
        }
        let mut repositories = self.file.repositories.clone();
        for (name, rules) in &mut repositories {
            rules.url = rules.url.take().or_else(|| self.usual_url(name));
        }
        Ok(repositories)
    }

    /// How offers come: by the broker where one is configured, unless said otherwise.
    fn offers(&self) -> Result<Offers, ConfigError> {
        let refuse = |why: &str| Err(ConfigError::Value { key: "[worker] offers".into(), why: why.into() });
        match (self.file.worker.offers.get().map(String::as_str), self.broker()?) {
            (Some("http"), _) | (None, None) => Ok(Offers::Http),
            (Some("rabbitmq") | None, Some(broker)) => Ok(Offers::Rabbitmq(Box::new(broker))),
            (Some("rabbitmq"), None) => refuse("is \"rabbitmq\", and [broker] has no url"),
            (Some(_), _) => refuse("must be \"http\" or \"rabbitmq\""),
        }
    }

    /// The server's address as the old keys give it.
    fn old_url(&self) -> String {
        let host = self.file.server.host.get().map_or("localhost", String::as_str);
        let scheme = if host.starts_with("http://") || host.starts_with("https://") { "" } else { "http://" };
        format!(
            "{scheme}{}:{}",
            host.trim_end_matches('/'),
            self.file.server.port.get().copied().unwrap_or(DEFAULT_PORT)
        )
    }

    fn listen(&self) -> Result<Vec<ListenAddress>, ConfigError> {
        let file = &self.file.server;
        if file.listen.is_empty() {
            // The old program listened on all addresses, whatever its host said.
            let old = file.host.get().is_some() || file.port.get().is_some();
            let port = file.port.get().copied().unwrap_or(DEFAULT_PORT);
            let address = SocketAddr::from((if old { [0, 0, 0, 0] } else { [127, 0, 0, 1] }, port));
            return Ok(vec![address.into()]);
        }
        let parse = |text: &String| {
            text.parse().map_err(|error: NoAddress| ConfigError::Value {
                key: "[server] listen".into(),
                why: format!("has {text:?}; {error}"),
            })
        };
        file.listen.iter().map(parse).collect()
    }

    pub(super) fn state_dir(&self, flag: Option<&PathBuf>, file: &Setting<PathBuf>, default: &str) -> PathBuf {
        let systemd =
            || self.environment.get("STATE_DIRECTORY").and_then(|list| list.split(':').next()).map(PathBuf::from);
        flag.or(file.get()).cloned().or_else(systemd).unwrap_or_else(|| default.into())
    }

    /// The token that a flag or the environment gives, which goes for all roles.
    fn said_token(&self, flag: Option<&Path>) -> Result<Option<Token>, ConfigError> {
        if let Some(path) = flag {
            return self.token_in(path).map(Some);
        }
        if let Some(text) = self.environment.get("CONVEYOR_TOKEN") {
            let refuse = |error: crate::domain::token::TokenError| ConfigError::Value {
                key: "CONVEYOR_TOKEN".into(),
                why: format!("is not usable: {error}"),
            };
            return Token::new(text).map(Some).map_err(refuse);
        }
        self.environment.get("CONVEYOR_TOKEN_FILE").map(|path| self.token_in(Path::new(path))).transpose()
    }

    fn client_token(&self) -> Result<Option<Token>, ConfigError> {
        let refuse = |why: String| ConfigError::Value { key: "[client] token".into(), why };
        match (self.file.client.token.get(), self.file.client.token_file.get()) {
            (Some(_), Some(_)) => Err(refuse("and token_file are both set; keep one".into())),
            (Some(text), None) => Token::new(text).map(Some).map_err(|error| refuse(format!("is not usable: {error}"))),
            (None, path) => path.map(|path| self.token_in(path)).transpose(),
        }
    }
}

pub(super) fn ranged(
    key: &str,
    setting: &Setting<u32>,
    default: u32,
    least: u32,
    most: u32,
) -> Result<u32, ConfigError> {
    let value = setting.get().copied().unwrap_or(default);
    let why = || format!("is {value}; it must be between {least} and {most}");
    if (least..=most).contains(&value) { Ok(value) } else { Err(ConfigError::Value { key: key.into(), why: why() }) }
}

fn word(key: &str, text: String) -> Result<String, ConfigError> {
    let fits =
        (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b));
    let why = || format!("is {text:?}; use 1 to 128 letters, digits and . _ - @");
    if fits { Ok(text) } else { Err(ConfigError::Value { key: key.into(), why: why() }) }
}
