//! What `cvmfs-notify`, the old service, was configured by: its file and its variables.

use std::path::Path;

use serde_json::{Map, Value};

use super::value::is_unset;
use super::{ConfigError, Environment};

/// Its file.
pub(super) const FILE: &str = "/etc/cvmfs/notify/config.json";
/// Where it listens, and its clients look.
pub(super) const PORT: u16 = 4930;

/// One source: the file, or the variables. Texts that are empty are not set.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Where it listens.
    pub(super) port: Option<u16>,
    /// Whether to log in detail.
    pub(super) debug: bool,
    /// RabbitMQ.
    pub(super) amqp: Amqp,
    /// What is set and does nothing, a sentence each.
    pub(super) warnings: Vec<String>,
}

/// How to reach RabbitMQ.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Amqp {
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) vhost: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) exchange: Option<String>,
}

/// Looks a name up.
type Get<'a> = Box<dyn Fn(&str) -> Option<Value> + 'a>;

/// Reads values under the names that one source has for them.
struct Source<'a> {
    /// What an error says before a name.
    place: String,
    get: Get<'a>,
}

impl Source<'_> {
    /// An error has the name and never the value, which may be secret.
    fn refuse<T>(&self, name: &str, why: &str) -> Result<T, ConfigError> {
        Err(ConfigError::Value { key: format!("{}{name}", self.place), why: why.into() })
    }

    fn text(&self, name: &str) -> Result<Option<String>, ConfigError> {
        match (self.get)(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if is_unset(&text) => Ok(None),
            Some(Value::String(text)) if text.chars().any(char::is_control) => {
                self.refuse(name, "has characters that cannot be printed")
            }
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => self.refuse(name, "must be a text"),
        }
    }

    fn port(&self, name: &str) -> Result<Option<u16>, ConfigError> {
        let port = match (self.get)(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) if is_unset(&text) => return Ok(None),
            Some(Value::String(text)) => text.parse().ok(),
            Some(value) => value.as_u64().and_then(|number| u16::try_from(number).ok()),
        };
        match port.filter(|port| *port > 0) {
            Some(port) => Ok(Some(port)),
            None => self.refuse(name, "must be a port, a number from 1 to 65535"),
        }
    }

    fn host(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let host = self.text(name)?;
        let fits = |host: &String| !host.contains(['/', '@', ' ', '?', '#']);
        if host.as_ref().is_none_or(fits) { Ok(host) } else { self.refuse(name, "must be the name of a host alone") }
    }

    fn exchange(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let exchange = self.text(name)?;
        if exchange.as_ref().is_none_or(|name| name.len() <= 255) {
            return Ok(exchange);
        }
        self.refuse(name, "is longer than the name of an exchange can be")
    }

    /// Whether `debug` is said; another level that means something is warned of.
    fn debug(&self, name: &str, warnings: &mut Vec<String>) -> Result<bool, ConfigError> {
        match self.text(name)?.as_deref() {
            Some("debug") => Ok(true),
            None | Some("info" | "notice") => Ok(false),
            Some("warning" | "error" | "critical" | "alert" | "emergency") => {
                warnings.push(format!("{}{name} is not used: to log less, set RUST_LOG", self.place));
                Ok(false)
            }
            Some(_) => {
                self.refuse(name, "must be one of debug, info, notice, warning, error, critical, alert, emergency")
            }
        }
    }

    fn amqp(&self, names: [&str; 6]) -> Result<Amqp, ConfigError> {
        let [host, port, vhost, user, password, exchange] = names;
        Ok(Amqp {
            host: self.host(host)?,
            port: self.port(port)?,
            vhost: self.text(vhost)?,
            user: self.text(user)?,
            password: self.text(password)?,
            exchange: self.exchange(exchange)?,
        })
    }
}

impl Said {
    /// By its variables.
    pub(super) fn by(environment: &Environment) -> Result<Self, ConfigError> {
        let get = |name: &str| environment.get(&format!("CVMFS_NOTIFY_{name}")).map(|text| Value::String(text.into()));
        let source = Source { place: "CVMFS_NOTIFY_".into(), get: Box::new(get) };
        let mut warnings = Vec::new();
        if environment.get("CVMFS_NOTIFY_TESTING_MODE").is_some() {
            warnings.push("CVMFS_NOTIFY_TESTING_MODE is not used".into());
        }
        Ok(Self {
            port: source.port("PORT")?,
            debug: source.debug("LOG_LEVEL", &mut warnings)?,
            amqp: source.amqp([
                "AMQP_URL",
                "AMQP_PORT",
                "AMQP_VHOST",
                "AMQP_USERNAME",
                "AMQP_PASSWORD",
                "AMQP_EXCHANGE",
            ])?,
            warnings,
        })
    }

    /// In its file, which need not exist.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        let said = Self::parse(path, &text)?;
        if said.amqp.password.is_some() {
            super::secret::refuse_exposed(path)?;
        }
        Ok(said)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let whole: Map<String, Value> = serde_json::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
            why: "is not the JSON object of cvmfs-notify".into(),
        })?;
        let place = format!("{}: ", path.display());
        let top = Source { place: place.clone(), get: Box::new(|name| whole.get(name).cloned()) };
        let table = match whole.get("amqp") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(table)) => table.clone(),
            Some(_) => return top.refuse("amqp", "must be an object"),
        };
        let unknown = |table: &Map<String, Value>, known: &[&str], place: &str| -> Vec<_> {
            let unknown = table.keys().filter(|key| !known.contains(&key.as_str()));
            unknown.map(|key| format!("{place}{key:?} is not used")).collect()
        };
        let names = ["url", "port", "vhost", "user", "pass", "exchange"];
        let mut warnings = unknown(&whole, &["port", "log_level", "amqp"], &place);
        warnings.extend(unknown(&table, &names, &format!("{place}in amqp, ")));
        let amqp = Source { place: format!("{place}amqp."), get: Box::new(|name| table.get(name).cloned()) };
        Ok(Self {
            port: top.port("port")?,
            debug: top.debug("log_level", &mut warnings)?,
            amqp: amqp.amqp(names)?,
            warnings,
        })
    }
}
