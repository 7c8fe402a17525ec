//! What the service of notifications runs with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::listen::ListenAddress;
use super::roles::ranged;
use super::value::Setting;
use super::{Config, ConfigError};
use crate::domain::access::TokenName;
use crate::domain::fleet::RepositoryRules;
use crate::domain::names::RepositoryName;

pub(super) const STATE_DIR: &str = "/var/lib/conveyor-notify";
/// Where there is to be no exchange.
const NO_EXCHANGE: &str = "none";
/// The exchange of `cvmfs-notify`.
const EXCHANGE: &str = "repository.activity";
/// Seconds between two looks at a directory: as a rule the kernel tells.
const WATCH_DIRECTORY_S: u32 = 60;

/// The table as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NotifyTable {
    listen: Vec<String>,
    pub(super) state_dir: Setting<PathBuf>,
    repository_url: Setting<String>,
    verify: Setting<String>,
    open_publish: Setting<bool>,
    open_subscribe: Setting<bool>,
    max_subscribers: Setting<u32>,
    max_subscribers_per_address: Setting<u32>,
    max_open_publishes_per_s: Setting<u32>,
    pub(super) exchange: Setting<String>,
}

/// What the service of notifications runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyConfig {
    /// Listeners of its own; none where there are none.
    pub listen: Vec<ListenAddress>,
    /// Where it keeps its state, where it runs alone.
    pub state_dir: PathBuf,
    /// Whether signatures are verified.
    pub verify: bool,
    /// Where repositories are.
    pub urls: BTreeMap<RepositoryName, String>,
    /// Where all others are, with `@fqrn@` for the name.
    pub repository_url: Option<String>,
    /// Whether anybody may publish.
    pub open_publish: bool,
    /// Whether anybody may subscribe.
    pub open_subscribe: bool,
    /// The owners of the tokens that may publish about a repository.
    pub notifiers: BTreeMap<RepositoryName, BTreeSet<TokenName>>,
    /// Subscribers at a time.
    pub subscribers: usize,
    /// Subscribers at a time of one address.
    pub subscribers_per_address: usize,
    /// Messages a second that one address may publish without a token.
    pub publishes_per_s: u32,
    /// The repositories that others publish.
    pub watched: BTreeMap<RepositoryName, Watched>,
    /// The exchange on which servers tell each other, where there is a broker.
    pub exchange: Option<String>,
}

/// A repository that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Its URL or directory.
    pub place: String,
    /// How often it is looked at, at least.
    pub every: Duration,
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            state_dir: STATE_DIR.into(),
            verify: true,
            urls: BTreeMap::new(),
            repository_url: None,
            open_publish: false,
            open_subscribe: true,
            notifiers: BTreeMap::new(),
            subscribers: 20_000,
            subscribers_per_address: 1000,
            publishes_per_s: 20,
            watched: BTreeMap::new(),
            exchange: Some(EXCHANGE.into()),
        }
    }
}

impl Config {
    /// What the service of notifications runs with beside a server.
    pub fn notify(&self) -> Result<NotifyConfig, ConfigError> {
        let (file, default) = (&self.file.notify, NotifyConfig::default());
        let refuse = |key: &str, why: &str| ConfigError::Value { key: format!("[notify] {key}"), why: why.into() };
        let parse = |text: &String| text.parse().map_err(|error| refuse("listen", &format!("has {text:?}: {error}")));
        let verify = match file.verify.get().map(String::as_str) {
            None | Some("required") => true,
            Some("off") => false,
            Some(_) => return Err(refuse("verify", "must be \"required\" or \"off\"")),
        };
        let open_publish = file.open_publish.get().copied().unwrap_or(default.open_publish);
        if open_publish && !verify {
            let why = "goes with verify = \"required\" only: otherwise anybody could tell clients anything";
            return Err(refuse("open_publish", why));
        }
        let url = |key: String, url: &String| {
            if ["http://", "https://", "/"].iter().any(|start| url.starts_with(start)) {
                return Ok(url.clone());
            }
            Err(ConfigError::Value { key, why: "must begin with http://, https:// or /".into() })
        };
        let mut urls = BTreeMap::new();
        let (mut notifiers, mut watched) = (BTreeMap::new(), BTreeMap::new());
        for (name, rules) in &self.file.repositories {
            if let Some(there) = watch(name, rules)? {
                // What vouches for it is there as well.
                urls.insert(name.clone(), there.place.clone());
                watched.insert(name.clone(), there);
            }
            if let Some(said) = &rules.url {
                urls.insert(name.clone(), url(format!("[repositories.\"{name}\"] url"), said)?);
            }
            if let Some(names) = &rules.notifiers {
                let names = names.iter().map(|name| TokenName::new(name)).collect::<Result<_, _>>();
                let key = format!("[repositories.\"{name}\"] notifiers");
                notifiers.insert(
                    name.clone(),
                    names.map_err(|error| ConfigError::Value {
                        key,
                        why: format!("has a name that is none: {error}"),
                    })?,
                );
            }
        }
        let repository_url = match file.repository_url.get() {
            Some(text) if !text.contains("@fqrn@") => {
                return Err(refuse("repository_url", "must have @fqrn@ in the place of the repository's name"));
            }
            said => said.map(|text| url("[notify] repository_url".into(), text)).transpose()?,
        };
        let number = |key: &str, setting: &Setting<u32>, default: u32, most: u32| {
            ranged(&format!("[notify] {key}"), setting, default, 1, most)
        };
        let count = |key: &str, setting: &Setting<u32>, default: usize| {
            number(key, setting, u32::try_from(default).unwrap_or(u32::MAX), 1_000_000).map(|count| count as usize)
        };
        let exchange = match file.exchange.get() {
            None => default.exchange,
            Some(name) if name == NO_EXCHANGE => None,
            Some(name) if name.len() > 255 || name.chars().any(char::is_control) => {
                return Err(refuse("exchange", "must be the name of an exchange, or \"none\""));
            }
            Some(name) => Some(name.clone()),
        };
        Ok(NotifyConfig {
            watched,
            exchange,
            listen: file.listen.iter().map(parse).collect::<Result<_, _>>()?,
            state_dir: file.state_dir.get().cloned().unwrap_or(default.state_dir),
            verify,
            urls,
            repository_url,
            open_publish,
            open_subscribe: file.open_subscribe.get().copied().unwrap_or(default.open_subscribe),
            notifiers,
            subscribers: count("max_subscribers", &file.max_subscribers, default.subscribers)?,
            subscribers_per_address: count(
                "max_subscribers_per_address",
                &file.max_subscribers_per_address,
                default.subscribers_per_address,
            )?,
            publishes_per_s: number(
                "max_open_publishes_per_s",
                &file.max_open_publishes_per_s,
                default.publishes_per_s,
                1_000_000,
            )?,
        })
    }

    /// Where a repository is that has no `url` of its own.
    pub(super) fn usual_url(&self, repository: &RepositoryName) -> Option<String> {
        self.file.notify.repository_url.get().map(|pattern| pattern.replace("@fqrn@", repository.as_str()))
    }
}

/// How a repository is watched, where it is.
fn watch(name: &RepositoryName, rules: &RepositoryRules) -> Result<Option<Watched>, ConfigError> {
    let refuse = |key: &str, why: &str| {
        Err(ConfigError::Value { key: format!("[repositories.\"{name}\"] {key}"), why: why.into() })
    };
    let place = match (&rules.path, &rules.url, rules.watch_s) {
        (Some(path), ..) if !path.starts_with('/') => return refuse("path", "must begin with /"),
        (Some(path), ..) => path,
        (None, Some(url), Some(_)) => url,
        (None, None, Some(_)) => return refuse("watch_s", "is there without url or path: say where to look"),
        (None, _, None) => return Ok(None),
    };
    let every = match rules.watch_s.unwrap_or(WATCH_DIRECTORY_S) {
        seconds @ 1..=86_400 => Duration::from_secs(seconds.into()),
        _ => return refuse("watch_s", "must be between 1 and 86400"),
    };
    Ok(Some(Watched { place: place.clone(), every }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Environment;

    fn config(text: &str, environment: Environment) -> Config {
        Config::parse(Path::new("c.toml"), text, environment).unwrap()
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_name() {
        for (text, key) in [
            ("[notify]\nverify = \"no\"", "[notify] verify"),
            ("[notify]\nverify = \"off\"\nopen_publish = true", "[notify] open_publish"),
            ("[notify]\nlisten = [\"4930\"]", "[notify] listen"),
            ("[notify]\nrepository_url = \"http://x/cvmfs\"", "[notify] repository_url"),
            ("[notify]\nrepository_url = \"x/@fqrn@\"", "[notify] repository_url"),
            ("[notify]\nmax_subscribers = 0", "[notify] max_subscribers"),
            ("[repositories.\"a.b\"]\nurl = \"a.b\"", "[repositories.\"a.b\"] url"),
            ("[notify]\nexchange = \"a\\u0007b\"", "[notify] exchange"),
            ("[repositories.\"a.b\"]\nwatch_s = 5", "[repositories.\"a.b\"] watch_s"),
            ("[repositories.\"a.b\"]\nurl = \"http://x\"\nwatch_s = 0", "[repositories.\"a.b\"] watch_s"),
            ("[repositories.\"a.b\"]\npath = \"srv\"", "[repositories.\"a.b\"] path"),
            ("[repositories.\"a.b\"]\nnotifiers = [\"a b\"]", "[repositories.\"a.b\"] notifiers"),
        ] {
            let error = config(text, Environment::default()).notify().unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        }
    }

    #[test]
    fn a_repository_is_watched_in_its_directory_or_where_it_is_said_how_often() {
        let text = "[repositories.\"a.b\"]\nurl = \"http://x/cvmfs/a.b\"\nwatch_s = 5
            [repositories.\"c.d\"]\npath = \"/srv/cvmfs/c.d\"
            [repositories.\"e.f\"]\nurl = \"http://x/cvmfs/e.f\"
            [notify]\nexchange = \"none\"";
        let notify = config(text, Environment::default()).notify().unwrap();
        let watched: Vec<_> =
            notify.watched.values().map(|watched| (&*watched.place, watched.every.as_secs())).collect();
        assert_eq!(watched, [("http://x/cvmfs/a.b", 5), ("/srv/cvmfs/c.d", 60)]);
        assert_eq!(notify.urls.len(), 3);
        assert_eq!(notify.exchange, None);
        let default = config("", Environment::default()).notify().unwrap();
        assert_eq!(default.exchange.as_deref(), Some("repository.activity"));
    }
}
