//! What can go wrong with a gateway.

use std::io;
use std::path::PathBuf;

/// Why a gateway did not do what was asked. Which of the three last it was decides what is known about the outcome.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Not the address of a gateway.
    #[error("gateway address {url:?} is not valid: use http://HOST:4929/api/v1")]
    Address {
        /// What was given.
        url: String,
    },
    /// A key or token file could not be read.
    #[error("cannot read {path}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not a key.
    #[error("{path} is no gateway key: it must be one line, `plain_text ID SECRET`")]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The call must be signed and there is no key.
    #[error("cannot {what}: that needs a gateway key (/etc/cvmfs/keys/REPOSITORY.gw)")]
    NoKey {
        /// What was asked.
        what: String,
    },
    /// The client could not be made.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
    /// No connection came about: the gateway knows nothing of the request.
    #[error("cannot {what}: no connection to the gateway at {url}; is cvmfs-gateway running there?")]
    Unreachable {
        /// What was asked.
        what: String,
        /// The gateway.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The request was sent, and no answer of the gateway's came: whether it was done is not known. Ask again.
    #[error("cannot {what}: the gateway at {url} gave no answer, so that it may have been done ({why})")]
    Unanswered {
        /// What was asked.
        what: String,
        /// The gateway.
        url: String,
        /// What came instead.
        why: String,
    },
    /// The gateway answered that it did not do it.
    #[error("cannot {what}: the gateway at {url} says {reason:?}{}", advice(reason))]
    Refused {
        /// What was asked.
        what: String,
        /// The gateway.
        url: String,
        /// Its own words.
        reason: String,
    },
}

/// The next step for the refusals that a setting causes.
fn advice(reason: &str) -> &'static str {
    match reason {
        "invalid_hmac" | "invalid_key" => ": the key is not one of its repo.json, or has another secret there",
        "no_admin_key" => ": use a key with `admin: true` in its repo.json",
        _ => "",
    }
}

impl GatewayError {
    /// Tells whether the request may have been carried out all the same.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Unanswered { .. })
    }
}
