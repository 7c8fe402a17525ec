//! A client of the broker that is not ours: what others would see.

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};

use crate::harness::{PASSWORD, PATIENCE, USER};

pub(super) struct Amqp {
    runtime: tokio::runtime::Runtime,
    pub(super) channel: Channel,
    _connection: Connection,
}

impl Amqp {
    pub(super) fn connect(port: u16, vhost: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let url = format!("amqp://{USER}:{PASSWORD}@127.0.0.1:{port}/{vhost}");
        let (connection, channel) = runtime.block_on(async {
            let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
            let channel = connection.create_channel().await.unwrap();
            (connection, channel)
        });
        Self { runtime, channel, _connection: connection }
    }

    /// Listens to an exchange by a queue of its own.
    pub(super) fn listen(&self, exchange: &str, key: &str) -> Consumer {
        self.runtime.block_on(async {
            let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
            let queue = self.channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
            let (name, bind) = (queue.name().clone(), QueueBindOptions::default());
            self.channel
                .queue_bind(name.clone(), exchange.into(), key.into(), bind, FieldTable::default())
                .await
                .unwrap();
            let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
            self.channel.basic_consume(name, "".into(), options, FieldTable::default()).await.unwrap()
        })
    }

    /// The next message: its routing key and body.
    pub(super) fn next(&self, consumer: &mut Consumer) -> (String, Vec<u8>) {
        let next = async { tokio::time::timeout(PATIENCE, consumer.next()).await };
        let delivery = self.runtime.block_on(next).expect("a message comes").unwrap().unwrap();
        (delivery.routing_key.to_string(), delivery.data)
    }

    pub(super) fn publish(&self, exchange: &str, key: &str, body: &[u8]) {
        let options = BasicPublishOptions::default();
        let sending =
            self.channel.basic_publish(exchange.into(), key.into(), options, body, BasicProperties::default());
        drop(self.runtime.block_on(sending).unwrap());
    }

    /// Takes all that is in a queue.
    pub(super) fn drain(&self, queue: &str) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        while let Some(message) =
            self.runtime.block_on(self.channel.basic_get(queue.into(), Default::default())).unwrap()
        {
            self.runtime.block_on(message.ack(BasicAckOptions::default())).unwrap();
            bodies.push(message.delivery.data.clone());
        }
        bodies
    }

    /// Declares a durable queue that is not as it should be.
    pub(super) fn wrong_queue(&self, name: &str) {
        let declaring = self.channel.queue_declare(name.into(), QueueDeclareOptions::durable(), FieldTable::default());
        self.runtime.block_on(declaring).unwrap();
    }
}
