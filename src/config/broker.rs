//! How to reach RabbitMQ.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use super::credentials::BROKER_PASSWORD;
use super::value::Setting;
use super::{Config, ConfigError};
use crate::domain::token::Token;

pub(super) const PLAIN_PORT: u16 = 5672;
const TLS_PORT: u16 = 5671;
const DEFAULT_HEARTBEAT_S: u32 = 30;
const DEFAULT_DELIVERY_LIMIT: u32 = 20;
const DEFAULT_PREFIX: &str = "conveyor";
/// Where systems keep the authorities that they trust; the first that exists counts.
const AUTHORITIES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// The table as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BrokerTable {
    url: Setting<String>,
    user: Setting<String>,
    password_file: Setting<PathBuf>,
    ca_file: Setting<PathBuf>,
    certificate_file: Setting<PathBuf>,
    key_file: Setting<PathBuf>,
    heartbeat_s: Setting<u32>,
    prefix: Setting<String>,
    events_exchange: Setting<String>,
    delivery_limit: Setting<u32>,
    single_node: Setting<bool>,
}

/// How to reach the broker, with every file read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The virtual host.
    pub vhost: String,
    /// Who we are.
    pub user: String,
    /// What proves it.
    pub password: Token,
    /// What TLS needs, where the address begins with `amqps`.
    pub tls: Option<BrokerTls>,
    /// Seconds between two signs of life.
    pub heartbeat_s: u16,
    /// What names begin with.
    pub prefix: String,
    /// The exchange for events.
    pub events_exchange: String,
    /// Deliveries of an offer until it is a dead letter.
    pub delivery_limit: u32,
    /// The broker is one node: a queue can be deleted and declared anew without being told twice.
    pub single_node: bool,
}

/// Certificates, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerTls {
    /// The authorities to trust.
    pub authorities: String,
    /// Our certificate and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for BrokerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerTls").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

impl Config {
    /// How to reach the broker; nothing where none is configured.
    pub fn broker(&self) -> Result<Option<BrokerConfig>, ConfigError> {
        let file = &self.file.broker;
        let Some(url) = file.url.get() else { return Ok(None) };
        let address = address(url)?;
        let password = match file.password_file.get().cloned().or_else(|| self.credential(BROKER_PASSWORD)) {
            // Where it comes from on the machine that it is for is not known here.
            _ if self.without_secrets => super::secret::stand_in()?,
            Some(path) => read_password(&path)?,
            None => {
                return refuse(
                    "password_file",
                    "is not set; put the password into a file that only this account can read",
                );
            }
        };
        let user = match file.user.get() {
            Some(user) => user.clone(),
            None => return refuse("user", "is not set; docs/operating.md says what it must be allowed to do"),
        };
        self.broker_at(address, user, password).map(Some)
    }

    /// One that is found by other means than the table, which has the rest.
    pub(super) fn broker_at(
        &self,
        address: Address,
        user: String,
        password: Token,
    ) -> Result<BrokerConfig, ConfigError> {
        let file = &self.file.broker;
        let prefix = name("prefix", &file.prefix, DEFAULT_PREFIX)?;
        let events_exchange = name("events_exchange", &file.events_exchange, &format!("{prefix}.events"))?;
        let heartbeat_s =
            super::roles::ranged("[broker] heartbeat_s", &file.heartbeat_s, DEFAULT_HEARTBEAT_S, 2, 3600)?;
        Ok(BrokerConfig {
            tls: if address.tls { Some(self.broker_tls()?) } else { None },
            host: address.host,
            port: address.port,
            vhost: address.vhost,
            user,
            password,
            heartbeat_s: u16::try_from(heartbeat_s).unwrap_or(u16::MAX),
            prefix,
            events_exchange,
            delivery_limit: super::roles::ranged(
                "[broker] delivery_limit",
                &file.delivery_limit,
                DEFAULT_DELIVERY_LIMIT,
                1,
                1_000_000,
            )?,
            single_node: file.single_node.get().copied().unwrap_or(false),
        })
    }

    /// The files that prove who we are.
    pub(super) fn broker_secrets(&self) -> impl Iterator<Item = PathBuf> {
        [self.file.broker.password_file.get(), self.file.broker.key_file.get()].into_iter().flatten().cloned()
    }

    fn broker_tls(&self) -> Result<BrokerTls, ConfigError> {
        let file = &self.file.broker;
        if file.certificate_file.get().is_some() != file.key_file.get().is_some() {
            return refuse("certificate_file", "and key_file belong together: set both or none");
        }
        if self.without_secrets {
            return Ok(BrokerTls { authorities: String::new(), identity: None });
        }
        let said = file.ca_file.get().cloned().or_else(|| self.environment.get("SSL_CERT_FILE").map(PathBuf::from));
        let path = match said {
            Some(path) => path,
            None => match AUTHORITIES.iter().map(PathBuf::from).find(|path| path.exists()) {
                Some(path) => path,
                None => return refuse("ca_file", "is not set, and this system has no list of authorities to trust"),
            },
        };
        let authorities =
            std::fs::read_to_string(&path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        if !authorities.contains("BEGIN CERTIFICATE") {
            return refuse("ca_file", "holds no certificate in PEM form");
        }
        let identity = match (file.certificate_file.get(), file.key_file.get()) {
            (Some(certificate), Some(key)) => {
                refuse_shared(key)?;
                let read = |path: &Path| {
                    std::fs::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
                };
                Some((read(certificate)?, read(key)?))
            }
            _ => None,
        };
        Ok(BrokerTls { authorities, identity })
    }
}

/// Where a broker is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) vhost: String,
    pub(super) tls: bool,
}

/// Reads `amqp://host:5672/vhost`; without a path the vhost is `/`.
fn address(text: &str) -> Result<Address, ConfigError> {
    // What cannot be read may hold a password, so it is never shown.
    let Ok(url) = Url::parse(text) else { return refuse("url", "is no address; write amqp://HOST:5672/VHOST") };
    let tls = match url.scheme() {
        "amqp" => false,
        "amqps" => true,
        _ => return refuse("url", "must begin with amqp:// or amqps://"),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("url", "holds a user or password; use the keys user and password_file");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("url", "must end with its vhost");
    }
    let Some(host) = url.host_str().filter(|host| !host.is_empty()) else { return refuse("url", "names no host") };
    let vhost = url.path().strip_prefix('/').unwrap_or_default();
    let vhost = match decoded(vhost) {
        Some(vhost) if vhost.is_empty() => "/".to_owned(),
        Some(vhost) => vhost,
        None => return refuse("url", "has a vhost that is not UTF-8"),
    };
    let port = url.port().unwrap_or(if tls { TLS_PORT } else { PLAIN_PORT });
    Ok(Address { host: host.trim_matches(['[', ']']).to_owned(), port, vhost, tls })
}

fn decoded(text: &str) -> Option<String> {
    // A form's decoder also turns a plus into a space.
    let text = text.replace('+', "%2B");
    let pairs = url::form_urlencoded::parse(text.as_bytes()).next().map(|(name, _)| name.into_owned());
    let vhost = pairs.unwrap_or_default();
    (!vhost.contains('\u{fffd}')).then_some(vhost)
}

fn refuse<T>(key: &str, why: &str) -> Result<T, ConfigError> {
    Err(ConfigError::Value { key: format!("[broker] {key}"), why: why.into() })
}

fn name(key: &str, setting: &Setting<String>, default: &str) -> Result<String, ConfigError> {
    let text = setting.get().map_or(default, String::as_str);
    let fits =
        (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if fits { Ok(text.to_owned()) } else { refuse(key, "must be 1 to 100 letters, digits and . _ -") }
}

/// Reads a password from a file that only its owner can read: its first line.
pub(super) fn read_password(path: &Path) -> Result<Token, ConfigError> {
    refuse_shared(path)?;
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    Token::new(&text).map_err(|_| ConfigError::Value {
        key: path.display().to_string(),
        why: "holds no password: it is empty or has characters other than visible ASCII".into(),
    })
}

/// Refuses a file that others than its owner, or its group where root owns it (systemd's credentials), can read.
fn refuse_shared(path: &Path) -> Result<(), ConfigError> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let shared = if metadata.uid() == 0 { 0o007 } else { 0o077 };
    if metadata.is_file() && metadata.permissions().mode() & shared != 0 {
        return Err(ConfigError::Shared { path: path.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_a_port_and_a_vhost() {
        for (text, host, port, vhost, tls) in [
            ("amqp://mq", "mq", 5672, "/", false),
            ("amqp://mq/", "mq", 5672, "/", false),
            ("amqps://mq.example.org/cvmfs", "mq.example.org", 5671, "cvmfs", true),
            ("amqp://[::1]:1234/%2Fa+b", "::1", 1234, "/a+b", false),
        ] {
            let want = Address { host: host.into(), port, vhost: vhost.into(), tls };
            assert_eq!(address(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn an_address_with_a_secret_is_refused_and_not_shown() {
        for bad in ["amqp://u:hidden@mq/x", "http://hidden", "hidden", "amqp://hidden@mq", "amqp://mq/x?hidden"] {
            let error = address(bad).unwrap_err().to_string();
            assert!(error.starts_with("[broker] url") && !error.contains("hidden"), "{error}");
        }
    }

    #[test]
    fn a_password_that_others_can_read_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hidden\n").unwrap();
        let mode = |mode| std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o600);
        assert_eq!(read_password(file.path()).unwrap().expose(), "hidden");
        mode(0o604);
        let error = read_password(file.path()).unwrap_err();
        assert!(matches!(error, ConfigError::Shared { .. }) && !error.to_string().contains("hidden"));
    }
}
