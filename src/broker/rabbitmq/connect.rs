//! A connection to the broker, and asking it with patience.

use std::time::Duration;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, ConnectionProperties};

use super::Settings;
use super::error::BrokerError;

/// How long the broker may take for any answer: a connection, a declaration, a confirm.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// How often a connection is looked at while an answer is waited for.
const LOOK: Duration = Duration::from_millis(500);

/// A connection. It closes when this is dropped.
pub struct Connection {
    inner: lapin::Connection,
}

impl Connection {
    /// Connects. `role` is shown by the broker's own tools.
    pub async fn open(settings: &Settings, role: &str) -> Result<Self, BrokerError> {
        let failed = |why: String| BrokerError::Connect { address: settings.address(), why: redacted(settings, why) };
        let uri = AMQPUri {
            scheme: if settings.tls.is_some() { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: settings.user.clone(),
                    password: settings.password.expose().to_owned(),
                },
                host: settings.host.clone(),
                port: settings.port,
            },
            vhost: settings.vhost.clone(),
            query: AMQPQueryString { heartbeat: Some(settings.heartbeat_s), ..AMQPQueryString::default() },
        };
        let name = format!("conveyor {role} {}", env!("CARGO_PKG_VERSION"));
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let tls = settings.tls.as_ref().map_or_else(OwnedTLSConfig::default, |tls| OwnedTLSConfig {
            identity: tls
                .identity
                .as_ref()
                .map(|(certificate, key)| OwnedIdentity::PKCS8 { pem: certificate.clone(), key: key.clone() }),
            cert_chain: Some(tls.authorities.clone()),
        });
        let runtime = lapin::runtime::default_runtime().map_err(|error| failed(error.to_string()))?;
        let connecting = lapin::Connection::connect_uri_with_config(uri, properties, tls, runtime);
        match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(Ok(inner)) => Ok(Self { inner }),
            Ok(Err(error)) => Err(failed(chain(&error))),
            Err(_) => Err(failed(format!("nothing answered within {} s", PATIENCE.as_secs()))),
        }
    }

    /// A channel. An error on one of the broker's making closes only this one.
    pub(super) async fn channel(&self) -> Result<Channel, BrokerError> {
        self.ask("open a channel", self.inner.create_channel()).await
    }

    /// Waits for an answer with the usual patience, which does not run while the broker says that it blocks us.
    pub(super) async fn ask<T>(
        &self,
        action: impl Into<String>,
        answer: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, BrokerError> {
        let action = action.into();
        let mut answer = std::pin::pin!(answer);
        let mut waited = Duration::ZERO;
        while waited < PATIENCE {
            tokio::select! {
                biased;
                result = &mut answer => return result.map_err(|error| BrokerError::refused(action, &error)),
                () = tokio::time::sleep(LOOK) => {
                    if !self.is_blocked() {
                        waited += LOOK;
                    }
                    if !self.is_alive() {
                        let why = "the connection broke".into();
                        return Err(BrokerError::Refused { action, why, code: None });
                    }
                }
            }
        }
        Err(BrokerError::Silent { action, seconds: PATIENCE.as_secs() })
    }

    /// Whether the broker takes nothing for the time being.
    pub fn is_blocked(&self) -> bool {
        self.inner.status().blocked()
    }

    /// Whether it stands.
    pub fn is_alive(&self) -> bool {
        self.inner.status().connected()
    }

    /// Closes it in order, where the broker still answers.
    pub async fn close(self) {
        let closing = self.inner.close(200, "done".into());
        let _ = tokio::time::timeout(Duration::from_secs(2), closing).await;
    }
}

/// An error with all that caused it.
fn chain(error: &lapin::Error) -> String {
    let mut text = match error.kind() {
        lapin::ErrorKind::ProtocolError(amqp) => amqp.get_message().to_string(),
        _ => error.to_string(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Takes the password out of a text that others made.
fn redacted(settings: &Settings, text: String) -> String {
    text.replace(settings.password.expose(), "…")
}
