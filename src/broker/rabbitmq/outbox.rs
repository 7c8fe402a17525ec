//! The sending side: nothing counts as sent before the broker has confirmed it.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};

use super::connect::Connection;
use super::error::BrokerError;
use super::{Difference, Settings, Topology};

/// AMQP's mark of a message that is to survive the broker's restart.
const PERSISTENT: u8 = 2;

/// A connection with everything declared that is sent to.
pub struct Outbox {
    connection: Connection,
    events: Lane,
    /// What is there and is other than wanted.
    differences: Vec<Difference>,
}

/// A channel of its own: an error with what is sent on one must not take the others' confirms with it.
pub struct Lane {
    channel: Channel,
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The exchange.
    pub exchange: String,
    /// The routing key.
    pub key: String,
    /// What tells it from others, for people and consumers.
    pub id: String,
    /// JSON.
    pub body: Vec<u8>,
    /// Whether it must reach a queue.
    pub mandatory: bool,
}

impl Outbox {
    /// Connects and declares.
    pub async fn open(settings: &Settings, topology: &Topology) -> Result<Self, BrokerError> {
        let connection = Connection::open(settings, "server").await?;
        let differences = topology.declare(&connection).await?;
        let events = Lane::open(&connection).await?;
        Ok(Self { connection, events, differences })
    }

    /// What is there and is other than wanted.
    pub fn differences(&self) -> &[Difference] {
        &self.differences
    }

    /// The connection, to be looked at.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// A lane for the offers of one fleet.
    pub async fn lane(&self) -> Result<Lane, BrokerError> {
        Lane::open(&self.connection).await
    }

    /// Sends offers together and waits for each; the results are in their order.
    pub async fn send_offers(&self, lane: &Lane, messages: &[Publication]) -> Vec<Result<(), BrokerError>> {
        send(&self.connection, lane, messages).await
    }

    /// Sends events in order; tells how many from the beginning are safe, and what became of the next one.
    pub async fn send_events(&self, messages: &[Publication]) -> (usize, Result<(), BrokerError>) {
        let results = send(&self.connection, &self.events, messages).await;
        match results.into_iter().enumerate().find(|(_, result)| result.is_err()) {
            Some((safe, error)) => (safe, error),
            None => (messages.len(), Ok(())),
        }
    }
}

/// Sends messages together and waits for each; the results are in their order.
pub(super) async fn send(
    connection: &Connection,
    lane: &Lane,
    messages: &[Publication],
) -> Vec<Result<(), BrokerError>> {
    let mut confirms = Vec::with_capacity(messages.len());
    for message in messages {
        let options = BasicPublishOptions { mandatory: message.mandatory, immediate: false };
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_message_id(message.id.as_str().into());
        let (exchange, key) = (message.exchange.as_str().into(), message.key.as_str().into());
        let sending = lane.channel.basic_publish(exchange, key, options, &message.body, properties);
        confirms.push(connection.ask("take a message", sending).await);
    }
    let mut results = Vec::with_capacity(messages.len());
    let mut silent = None;
    for (message, confirm) in messages.iter().zip(confirms) {
        let result = match (confirm, &silent) {
            (Err(error), _) => Err(error),
            // A broker that lets one confirm out is not asked for the patience of each.
            (Ok(_), Some(error)) => Err(BrokerError::clone(error)),
            (Ok(confirm), None) => match connection.ask("confirm a message", confirm).await {
                Ok(Confirmation::Ack(None)) => Ok(()),
                Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_))) => {
                    Err(BrokerError::Unroutable { key: message.key.clone() })
                }
                Ok(Confirmation::Nack(None) | Confirmation::NotRequested) => {
                    let why = "it said that it could not keep it".into();
                    Err(BrokerError::Refused { action: "confirm a message".into(), why, code: None })
                }
                Err(error) => {
                    silent = Some(error.clone());
                    Err(error)
                }
            },
        };
        results.push(result);
    }
    results
}

impl Lane {
    pub(super) async fn open(connection: &Connection) -> Result<Self, BrokerError> {
        let channel = connection.channel().await?;
        confirming(connection, &channel).await?;
        Ok(Self { channel })
    }
}

/// Makes the broker confirm what is sent on a channel.
pub(super) async fn confirming(connection: &Connection, channel: &Channel) -> Result<(), BrokerError> {
    connection.ask("confirm messages", channel.confirm_select(ConfirmSelectOptions::default())).await
}
