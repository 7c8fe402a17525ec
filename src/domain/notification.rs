//! Messages that tell of a new revision, in the form that CernVM-FS clients read.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::names::RepositoryName;

/// What stands before and after a message in a server-sent event.
const EVENT: (&str, &str) = ("data: ", "\n\n");

/// What a client is told: a JSON object with `version`, `timestamp`, `type`, `repository` and `manifest`, kept as it came, on
/// one line.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    repository: RepositoryName,
    /// As a server-sent event. All who are told share it.
    event: Bytes,
    manifest: Vec<u8>,
}

/// The keys that clients demand; others are passed on and not looked at.
#[derive(Deserialize)]
struct Keys {
    version: i64,
    timestamp: String,
    r#type: String,
    repository: String,
    manifest: String,
}

/// Why a message is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// No JSON object, or one without what clients demand.
    #[error("the message is not the JSON object that clients read: {0}")]
    Json(String),
    /// One of its values.
    #[error("{key} of the message {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl Message {
    /// Reads a message. Line breaks between its parts become spaces: clients take a line for a message.
    pub fn parse(body: &[u8]) -> Result<Self, MessageError> {
        let keys: Keys = serde_json::from_slice(body).map_err(|error| MessageError::Json(error.to_string()))?;
        let bad = |key, why: String| MessageError::Value { key, why };
        if i32::try_from(keys.version).is_err() {
            return Err(bad("version", format!("is {}, which is no version", keys.version)));
        }
        if keys.r#type != "activity" {
            return Err(bad("type", "is not \"activity\"".into()));
        }
        let repository =
            RepositoryName::new(keys.repository).map_err(|error| bad("repository", format!("is refused: {error}")))?;
        let manifest =
            STANDARD.decode(&keys.manifest).map_err(|error| bad("manifest", format!("is not base64: {error}")))?;
        if keys.timestamp.is_empty() {
            return Err(bad("timestamp", "is empty".into()));
        }
        // JSON was read from it, so it is UTF-8, and what breaks lines stands between values only.
        let text = String::from_utf8_lossy(body).trim().replace(['\n', '\r'], " ");
        Ok(Self { repository, event: event(&text), manifest })
    }

    /// Writes a message about a manifest. `timestamp` is for people.
    pub fn about(repository: RepositoryName, manifest: &[u8], timestamp: &str) -> Self {
        let text = json!({
            "version": 1,
            "timestamp": timestamp,
            "type": "activity",
            "repository": repository.as_str(),
            "manifest": STANDARD.encode(manifest),
        });
        Self { event: event(&text.to_string()), manifest: manifest.to_owned(), repository }
    }

    /// The repository that it is about.
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// The message: JSON on one line.
    pub fn text(&self) -> &str {
        // It was made of text.
        std::str::from_utf8(&self.event[self.place()]).unwrap_or_default()
    }

    /// The same, shared.
    pub fn json(&self) -> Bytes {
        self.event.slice(self.place())
    }

    /// The message as a server-sent event, shared.
    pub fn event(&self) -> Bytes {
        self.event.clone()
    }

    fn place(&self) -> std::ops::Range<usize> {
        EVENT.0.len()..self.event.len() - EVENT.1.len()
    }

    /// The bytes of `.cvmfspublished`, signature included.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }
}

fn event(text: &str) -> Bytes {
    [EVENT.0, text, EVENT.1].concat().into()
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("repository", &self.repository).finish_non_exhaustive()
    }
}

/// What vouches for a manifest beside the repository's public key, where whoever announces it has that at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The file `.cvmfswhitelist`.
    pub whitelist: Vec<u8>,
    /// The certificate that the manifest names, PEM.
    pub certificate: Vec<u8>,
}

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Somebody posted it.
    Posted,
    /// A job's outcome or finding.
    Job,
    /// The watcher found a new revision.
    Watched,
    /// Another server told it over the exchange, on which it need not be told again.
    Exchange,
}

impl Origin {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Posted, Self::Job, Self::Watched, Self::Exchange];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Posted => "posted",
            Self::Job => "job",
            Self::Watched => "watched",
            Self::Exchange => "exchange",
        }
    }

    /// The origin that a word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|origin| origin.as_str() == word)
    }
}

/// The last message of a repository: what subscribers are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Rises with every announcement of this server, whatever the repository.
    pub number: u64,
    /// The revision that the manifest names.
    pub revision: u64,
    /// How it came.
    pub origin: Origin,
    /// The message.
    pub message: Message,
}

/// What became of a message that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted<A> {
    /// It is the repository's last message, and subscribers are told.
    Told(A),
    /// Its revision is not above that of the repository's last message: nobody is told.
    NotNewer {
        /// The revision that was announced last.
        last: u64,
    },
}
