//! What can go wrong with a broker.

/// Why something did not happen on the broker. It may be tried again; no job is lost by it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// No connection came about.
    #[error("cannot connect to the broker at {address}: {why}")]
    Connect {
        /// Where.
        address: String,
        /// What it or the network said; redacted.
        why: String,
    },
    /// The broker refused, or the connection broke.
    #[error("the broker did not {action}: {why}")]
    Refused {
        /// What was asked.
        action: String,
        /// What it said.
        why: String,
        /// The AMQP reply code, where it gave one.
        code: Option<u16>,
    },
    /// The broker said nothing.
    #[error("the broker did not {action} within {seconds} s")]
    Silent {
        /// What was asked.
        action: String,
        /// How long it was given.
        seconds: u64,
    },
    /// An offer came back: its queue is not there, or not bound.
    #[error("the broker has no queue for {key}; it is declared anew")]
    Unroutable {
        /// Where it should have gone.
        key: String,
    },
    /// The server did not answer claims, so offers are left to others.
    #[error("the server does not answer; offers are left on the broker")]
    ServerAway,
}

/// AMQP's reply code for a thing that is not there.
pub(super) const NOT_FOUND: u16 = 404;
/// AMQP's reply code for a thing that is there and is other than asked for.
pub(super) const PRECONDITION_FAILED: u16 = 406;
/// AMQP's reply code for what went wrong inside of the broker: among other things that a quorum queue has no leader.
pub(super) const INTERNAL_ERROR: u16 = 541;
/// AMQP's reply code for a missing permission.
pub(super) const ACCESS_REFUSED: u16 = 403;

impl BrokerError {
    pub(super) fn refused(action: impl Into<String>, error: &lapin::Error) -> Self {
        let (code, why) = match error.kind() {
            lapin::ErrorKind::ProtocolError(amqp) => (Some(amqp.get_id()), amqp.get_message().to_string()),
            _ => (None, error.to_string()),
        };
        Self::Refused { action: action.into(), why, code }
    }

    /// The AMQP reply code, where the broker gave one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => *code,
            _ => None,
        }
    }
}
