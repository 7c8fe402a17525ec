//! What the service of notifications runs with alone, where `cvmfs-notify` was: its file and variables are read as well.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::broker::{Address, PLAIN_PORT, read_password};
use super::credentials::BROKER_PASSWORD;
use super::cvmfs_notify::{Amqp, FILE, PORT, Said};
use super::listen::ListenAddress;
use super::notify::STATE_DIR;
use super::{BrokerConfig, Config, ConfigError, NotifyConfig};
use crate::domain::token::Token;

/// The virtual host of `cvmfs-notify`, with its slash.
const VHOST: &str = "/cvmfs";

/// What `conveyor notify server` runs with.
#[derive(Debug, Clone)]
pub struct NotifyAlone {
    /// The service.
    pub notify: NotifyConfig,
    /// What it reaches other servers by.
    pub broker: Option<BrokerConfig>,
    /// What of the old settings does nothing, a sentence each.
    pub warnings: Vec<String>,
}

impl Config {
    /// What the service runs with alone: it listens in any case, where the old one did. A flag beats a variable, which beats our
    /// file, which beats that of the old service.
    pub fn notify_alone(
        &self,
        listen: &[ListenAddress],
        state_dir: Option<&PathBuf>,
    ) -> Result<NotifyAlone, ConfigError> {
        self.notify_where(Path::new(FILE), listen, state_dir)
    }

    fn notify_where(
        &self,
        file: &Path,
        listen: &[ListenAddress],
        state_dir: Option<&PathBuf>,
    ) -> Result<NotifyAlone, ConfigError> {
        let (variables, old) = (Said::by(&self.environment)?, Said::read(file)?);
        let mut warnings = [variables.warnings, old.warnings].concat();
        let mut notify = self.notify()?;
        let everywhere = |port| vec![ListenAddress::from(SocketAddr::from(([0, 0, 0, 0], port)))];
        notify.listen = match (listen, variables.port) {
            ([_, ..], _) => listen.to_vec(),
            ([], Some(port)) => everywhere(port),
            ([], None) if notify.listen.is_empty() => everywhere(old.port.unwrap_or(PORT)),
            ([], None) => notify.listen,
        };
        notify.state_dir = self.state_dir(state_dir, &self.file.notify.state_dir, STATE_DIR);
        notify.exchange = match (&variables.amqp.exchange, self.file.notify.exchange.get(), &old.amqp.exchange) {
            (Some(said), ..) | (None, None, Some(said)) => Some(said.clone()),
            (None, ..) => notify.exchange,
        };
        let broker = match self.broker()? {
            Some(broker) => {
                if old.amqp != Amqp::default() {
                    warnings.push(format!("{}: amqp is not used where [broker] has a url", file.display()));
                }
                Some(changed(broker, variables.amqp)?)
            }
            None => self.old_broker(file, variables.amqp, old.amqp, &mut warnings)?,
        };
        Ok(NotifyAlone { notify, broker, warnings })
    }

    /// Whether the old service was to log in detail. Who reads the rest says what cannot be read.
    pub fn notify_debug(&self) -> bool {
        [Said::by(&self.environment), Said::read(Path::new(FILE))].into_iter().flatten().any(|said| said.debug)
    }

    /// The broker of the old service, where it has a user for it.
    fn old_broker(
        &self,
        file: &Path,
        variables: Amqp,
        old: Amqp,
        warnings: &mut Vec<String>,
    ) -> Result<Option<BrokerConfig>, ConfigError> {
        if variables == Amqp::default() && old == Amqp::default() {
            return Ok(None);
        }
        let ways = |variable: &str, key: &str| {
            format!("is not set: set CVMFS_NOTIFY_AMQP_{variable}, or {key} below amqp in {}", file.display())
        };
        let refuse = |key: &str, why| Err(ConfigError::Value { key: key.into(), why });
        let password = match variables.password.or(old.password) {
            Some(text) => Some(password(&text)?),
            None => self.credential(BROKER_PASSWORD).map(|path| read_password(&path)).transpose()?,
        };
        let (user, password) = match (variables.user.or(old.user), password) {
            (Some(user), Some(password)) => (user, password),
            (Some(_), None) => return refuse("the password for RabbitMQ", ways("PASSWORD", "pass")),
            (None, Some(_)) => return refuse("the user of RabbitMQ", ways("USERNAME", "user")),
            (None, None) => {
                let why = ways("USERNAME and CVMFS_NOTIFY_AMQP_PASSWORD", "user and pass");
                warnings.push(format!("nothing is exchanged with other servers: the user of RabbitMQ {why}"));
                return Ok(None);
            }
        };
        let address = Address {
            host: variables.host.or(old.host).unwrap_or_else(|| "localhost".into()),
            port: variables.port.or(old.port).unwrap_or(PLAIN_PORT),
            vhost: variables.vhost.or(old.vhost).unwrap_or_else(|| VHOST.into()),
            tls: false,
        };
        self.broker_at(address, user, password).map(Some)
    }
}

/// The broker of our file, with what variables say instead.
fn changed(broker: BrokerConfig, by: Amqp) -> Result<BrokerConfig, ConfigError> {
    Ok(BrokerConfig {
        host: by.host.unwrap_or(broker.host),
        port: by.port.unwrap_or(broker.port),
        vhost: by.vhost.unwrap_or(broker.vhost),
        user: by.user.unwrap_or(broker.user),
        password: by.password.map_or(Ok(broker.password), |text| password(&text))?,
        ..broker
    })
}

fn password(text: &str) -> Result<Token, ConfigError> {
    let why = "has characters other than visible ASCII".into();
    Token::new(text).map_err(|_| ConfigError::Value { key: "the password for RabbitMQ".into(), why })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Environment;

    /// As the old service's package has it, with the user that its documentation asks for.
    const OLD: &str = r#"{"port": 4931, "log_level": "info", "amqp": {"url": "mq.example.org", "exchange": "activity",
        "port": 5673, "user": "old", "pass": "hidden-in-the-file", "vhost": "/old"}}"#;
    const BROKER: &str = "[broker]\nurl = \"amqp://ours:1/v\"\nuser = \"u\"\npassword_file = ";

    struct Case {
        directory: tempfile::TempDir,
        toml: String,
        environment: Environment,
    }

    impl Case {
        fn new(old: Option<&str>, toml: &str, environment: Environment) -> Self {
            let directory = tempfile::tempdir().unwrap();
            for (name, text) in [("config.json", old), ("password", Some("hidden-of-ours"))] {
                let Some(text) = text else { continue };
                std::fs::write(directory.path().join(name), text).unwrap();
                let mode = std::fs::Permissions::from_mode(0o600);
                std::fs::set_permissions(directory.path().join(name), mode).unwrap();
            }
            let toml = toml.replace(BROKER, &format!("{BROKER}{:?}", directory.path().join("password")));
            Self { directory, toml, environment }
        }

        fn file(&self) -> PathBuf {
            self.directory.path().join("config.json")
        }

        fn read(&self) -> Result<NotifyAlone, ConfigError> {
            let config = Config::parse(Path::new("c.toml"), &self.toml, self.environment.clone())?;
            config.notify_where(&self.file(), &[], None)
        }
    }

    fn read(old: Option<&str>, toml: &str, environment: Environment) -> NotifyAlone {
        Case::new(old, toml, environment).read().unwrap()
    }

    fn port(read: &NotifyAlone) -> String {
        assert_eq!(read.notify.listen.len(), 1);
        read.notify.listen[0].to_string()
    }

    /// Host, port, virtual host, user, password.
    fn broker(read: &NotifyAlone) -> Option<(&str, u16, &str, &str, &str)> {
        let broker = read.broker.as_ref()?;
        Some((&broker.host, broker.port, &broker.vhost, &broker.user, broker.password.expose()))
    }

    #[test]
    fn without_anything_it_listens_where_the_old_service_did_and_has_no_broker() {
        let read = read(None, "", Environment::default());
        assert_eq!((port(&read).as_str(), broker(&read)), ("0.0.0.0:4930", None));
        assert_eq!((read.notify.exchange.as_deref(), read.warnings.len()), (Some("repository.activity"), 0));
    }

    #[test]
    fn the_old_services_file_is_read_and_everything_else_goes_before_it() {
        let old = read(Some(OLD), "", Environment::default());
        assert_eq!(port(&old), "0.0.0.0:4931");
        assert_eq!(broker(&old), Some(("mq.example.org", 5673, "/old", "old", "hidden-in-the-file")));
        assert_eq!((old.notify.exchange.as_deref(), &*old.warnings), (Some("activity"), &[][..]));
        assert!(!format!("{old:?}").contains("hidden"));

        let toml = format!("[notify]\nlisten = [\"127.0.0.1:1\"]\nexchange = \"ours\"\n{BROKER}");
        let ours = read(Some(OLD), &toml, Environment::default());
        assert_eq!(port(&ours), "127.0.0.1:1");
        assert_eq!(broker(&ours), Some(("ours", 1, "v", "u", "hidden-of-ours")));
        assert_eq!(ours.notify.exchange.as_deref(), Some("ours"));
        assert!(ours.warnings[0].ends_with("amqp is not used where [broker] has a url"), "{:?}", ours.warnings);

        let variables: Environment = [
            ("CVMFS_NOTIFY_PORT", "4932"),
            ("CVMFS_NOTIFY_AMQP_URL", "said"),
            ("CVMFS_NOTIFY_AMQP_PORT", "5674"),
            ("CVMFS_NOTIFY_AMQP_VHOST", "w"),
            ("CVMFS_NOTIFY_AMQP_USERNAME", "me"),
            ("CVMFS_NOTIFY_AMQP_PASSWORD", "hidden-in-a-variable"),
            ("CVMFS_NOTIFY_AMQP_EXCHANGE", "e"),
        ]
        .into();
        for toml in ["", toml.as_str()] {
            let said = read(Some(OLD), toml, variables.clone());
            assert_eq!(port(&said), "0.0.0.0:4932");
            assert_eq!(broker(&said), Some(("said", 5674, "w", "me", "hidden-in-a-variable")));
            assert_eq!(said.notify.exchange.as_deref(), Some("e"));
        }
        let flag = Config::parse(Path::new("c.toml"), "", variables).unwrap();
        let flag = flag.notify_where(Path::new("/nowhere"), &["127.0.0.1:2".parse().unwrap()], None).unwrap();
        assert_eq!(port(&flag), "127.0.0.1:2");
    }

    #[test]
    fn what_is_left_out_is_as_the_old_service_had_it() {
        // Its package's file: user and password came by variables.
        let old = r#"{"port": 4930, "log_level": "info",
            "amqp": {"url": "localhost", "exchange": "repository.activity", "port": 5672}}"#;
        let secret: Environment = [("CVMFS_NOTIFY_AMQP_USERNAME", "u"), ("CVMFS_NOTIFY_AMQP_PASSWORD", "p")].into();
        for old in [Some(old), None] {
            let read = read(old, "", secret.clone());
            assert_eq!(broker(&read), Some(("localhost", 5672, "/cvmfs", "u", "p")));
        }
        let nobody = read(Some(old), "", Environment::default());
        assert_eq!(broker(&nobody), None);
        assert!(nobody.warnings[0].starts_with("nothing is exchanged with other servers"), "{:?}", nobody.warnings);
    }

    #[test]
    fn keys_that_do_nothing_are_warned_of() {
        let old = r#"{"testing_mode": false, "rabbitmq": {}, "log_level": "error", "amqp": {"heartbeat": 3}}"#;
        let warnings = read(Some(old), "", [("CVMFS_NOTIFY_TESTING_MODE", "true")].into()).warnings;
        for part in ["TESTING_MODE is", "\"testing_mode\"", "\"rabbitmq\"", "in amqp, \"heartbeat\"", "log_level is"] {
            assert!(warnings.iter().any(|warning| warning.contains(part)), "{part}: {warnings:?}");
        }
        assert_eq!(warnings.len(), 5);
    }

    #[test]
    fn an_error_names_file_and_key_and_no_secret() {
        for (old, what) in [
            (r#"{"port": "hidden"}"#, ": port must be a port"),
            (r#"{"port": 0}"#, ": port must be a port"),
            (r#"{"log_level": "hidden"}"#, ": log_level must be one of"),
            (r#"{"amqp": "hidden"}"#, ": amqp must be an object"),
            (r#"{"amqp": {"port": 70000}}"#, ": amqp.port must be a port"),
            (r#"{"amqp": {"url": "amqp://u:hidden@mq"}}"#, ": amqp.url must be the name of a host"),
            (r#"{"amqp": {"user": ["hidden"]}}"#, ": amqp.user must be a text"),
            (r#"{"amqp": {"pass": "hidden\u0007"}}"#, ": amqp.pass has characters"),
            (r#"{"amqp": {"pass": "hidden"}}"#, "user below amqp in "),
            (r#"{"amqp": {"user": "u"}}"#, "pass below amqp in "),
            ("{\n \"port\": hidden}", ":2:"),
            ("[]", ": is not the JSON object of cvmfs-notify"),
        ] {
            let case = Case::new(Some(old), "", Environment::default());
            let error = case.read().unwrap_err().to_string();
            assert!(error.contains(what) && error.contains(case.file().to_str().unwrap()), "{old}: {error}");
            assert!(!error.contains("hidden"), "{error}");
        }
        for (name, value) in [("PORT", "x"), ("AMQP_PORT", "x"), ("AMQP_URL", "a/b"), ("LOG_LEVEL", "x")] {
            let name = format!("CVMFS_NOTIFY_{name}");
            let error = Case::new(None, "", [(name.as_str(), value)].into()).read().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name} must be ")), "{error}");
        }
    }

    #[test]
    fn a_file_with_a_password_that_everybody_can_read_is_refused() {
        let case = Case::new(Some(OLD), "", Environment::default());
        std::fs::set_permissions(case.file(), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(case.read().unwrap_err(), ConfigError::Exposed { .. }));
        std::fs::write(case.file(), r#"{"port": 4933}"#).unwrap();
        assert_eq!(port(&case.read().unwrap()), "0.0.0.0:4933");
    }
}
