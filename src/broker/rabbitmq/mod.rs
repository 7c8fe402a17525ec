//! Offers and results by RabbitMQ: quorum queues, publisher confirms, a dead-letter queue.
//!
//! Everything here may fail at any time and be done again: the rows in the database decide. Nothing here retries for ever
//! by itself; whoever drives it does ([`Pause`]).

mod activity;
mod connect;
pub mod dead_letters;
mod error;
mod inbox;
mod outbox;
mod pause;
mod topology;

use crate::domain::token::Token;

pub use activity::{Activity, Heard, News, Receipt};
pub use connect::Connection;
pub use dead_letters::DeadLetter;
pub use error::BrokerError;
pub use inbox::{Inbox, Received};
pub use outbox::{Lane, Outbox, Publication};
pub use pause::Pause;
pub use topology::{Difference, Part, Topology};

/// How to reach the broker, and what everything on it is called.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The broker's host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The virtual host.
    pub vhost: String,
    /// Who we are.
    pub user: String,
    /// What proves it; never shown.
    pub password: Token,
    /// TLS, where the address says `amqps`.
    pub tls: Option<Tls>,
    /// Seconds between two signs of life; a connection silent for twice as long is dead.
    pub heartbeat_s: u16,
    /// What the names of all queues and exchanges but that of events begin with.
    pub prefix: String,
    /// The topic exchange that is told what happens to jobs.
    pub events_exchange: String,
    /// Whether the broker is no cluster: a queue that has no leader then never gets one again.
    pub single_node: bool,
    /// How often an offer is delivered at the most before it is a dead letter.
    pub delivery_limit: u32,
}

/// What TLS needs.
#[derive(Clone)]
pub struct Tls {
    /// The authorities that the broker's certificate may be signed by, PEM. No others are trusted.
    pub authorities: String,
    /// Our certificate and its key, PEM.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

impl Settings {
    /// The exchange that offers are sent to; the key is the queue's name.
    pub fn offers_exchange(&self) -> String {
        format!("{}.offers", self.prefix)
    }

    /// A fleet's queue.
    pub fn queue(&self, fleet: &str) -> String {
        format!("{}.offers.{fleet}", self.prefix)
    }

    /// Exchange and queue of offers that nobody could take.
    pub fn dead_letters(&self) -> String {
        format!("{}.dead-letters", self.prefix)
    }

    /// The exchange on which servers ask each other what they missed.
    pub fn questions_exchange(&self) -> String {
        format!("{}.activity", self.prefix)
    }

    /// The broker as it is shown: without user and password.
    pub fn address(&self) -> String {
        let scheme = if self.tls.is_some() { "amqps" } else { "amqp" };
        format!("{scheme}://{}:{}, vhost {:?}", self.host, self.port, self.vhost)
    }
}
