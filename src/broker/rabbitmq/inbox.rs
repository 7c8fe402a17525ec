//! The receiving side: a fleet's offers, as many at a time as there are free slots.

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};

use super::Settings;
use super::connect::Connection;
use super::error::BrokerError;
use crate::domain::protocol::Offer;

/// A consumer of one fleet's queue. What was not acknowledged when this is dropped goes to others.
pub struct Inbox {
    connection: Connection,
    channel: Channel,
    queue: String,
    consumer: Option<Consumer>,
}

/// An offer, and the way to acknowledge it.
#[derive(Debug)]
pub struct Received {
    /// The offer.
    pub offer: Offer,
    delivery: lapin::Acker,
}

impl Inbox {
    /// Connects; nothing is delivered yet.
    pub async fn open(settings: &Settings, fleet: &str) -> Result<Self, BrokerError> {
        let connection = Connection::open(settings, "worker").await?;
        let channel = connection.channel().await?;
        Ok(Self { connection, channel, queue: settings.queue(fleet), consumer: None })
    }

    /// Lets at most `window` offers come that are not acknowledged.
    ///
    /// The window of a consumer cannot be changed, so this begins a new one. What the old one had is returned, and counts
    /// against no window any more.
    pub async fn consume(&mut self, window: u16) -> Result<Vec<Received>, BrokerError> {
        let rest = self.pause().await?;
        let window = window.saturating_sub(u16::try_from(rest.len()).unwrap_or(u16::MAX));
        if window > 0 {
            let limiting = self.channel.basic_qos(window, BasicQosOptions::default());
            self.connection.ask("limit deliveries", limiting).await?;
            let queue = self.queue.as_str().into();
            let consuming =
                self.channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), FieldTable::default());
            self.consumer = Some(self.connection.ask(format!("deliver from queue {}", self.queue), consuming).await?);
        }
        Ok(rest)
    }

    /// Stops deliveries; returns what came before they stopped.
    async fn pause(&mut self) -> Result<Vec<Received>, BrokerError> {
        let mut rest = Vec::new();
        let Some(mut consumer) = self.consumer.take() else { return Ok(rest) };
        let cancelling = self.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
        self.connection.ask("stop deliveries", cancelling).await?;
        while let Some(delivery) =
            self.connection.ask("end deliveries", async { consumer.next().await.transpose() }).await?
        {
            rest.extend(self.decode(delivery).await?);
        }
        Ok(rest)
    }

    /// Whether offers come at all.
    pub fn is_open(&self) -> bool {
        self.consumer.is_some()
    }

    /// The next offer; waits for ever while deliveries are stopped. Nothing is lost when this is dropped in between.
    pub async fn next(&mut self) -> Result<Received, BrokerError> {
        loop {
            let Some(consumer) = &mut self.consumer else { return std::future::pending().await };
            let Some(delivery) = consumer.next().await else {
                self.consumer = None;
                let why = "the broker ended it: the queue was deleted or moved".into();
                return Err(BrokerError::Refused {
                    action: format!("deliver from queue {}", self.queue),
                    why,
                    code: None,
                });
            };
            let delivery = delivery.map_err(|error| BrokerError::refused("deliver", &error))?;
            if let Some(received) = self.decode(delivery).await? {
                return Ok(received);
            }
        }
    }

    /// Reads a message; one that is no offer goes to the dead letters.
    async fn decode(&self, delivery: Delivery) -> Result<Option<Received>, BrokerError> {
        match serde_json::from_slice(&delivery.data) {
            Ok(offer) => Ok(Some(Received { offer, delivery: delivery.acker })),
            Err(error) => {
                tracing::warn!(queue = self.queue, error = %error, "a message is no offer; it goes to the dead letters");
                let rejecting = delivery.acker.reject(BasicRejectOptions { requeue: false });
                self.connection.ask("take a message back", rejecting).await?;
                Ok(None)
            }
        }
    }

    /// Tells the broker to forget an offer.
    pub async fn acknowledge(&self, received: &Received) -> Result<(), BrokerError> {
        let acknowledging = received.delivery.ack(BasicAckOptions::default());
        self.connection.ask("take an acknowledgement", acknowledging).await.map(drop)
    }

    /// The connection, to be looked at.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}
