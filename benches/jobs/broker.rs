//! A RabbitMQ of this run, and what it can do at best.

#[path = "../../tests/it/harness"]
mod harness {
    #![allow(dead_code)]
    pub(crate) mod port;
    pub(crate) mod rabbit;
    pub(crate) mod wait;

    /// Says that something is not there.
    pub(crate) fn missing(what: &str, why: Option<String>) -> bool {
        if let Some(why) = &why {
            eprintln!("{what}: skipped: {why}");
        }
        why.is_some()
    }
}

use std::time::Instant;

use conveyor::broker::rabbitmq::Settings;
use conveyor::domain::token::Token;
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};

use harness::rabbit::{PASSWORD, USER, no_rabbit, shared};

/// How to reach a virtual host that nobody used; nothing where this machine has no RabbitMQ.
pub(crate) fn settings() -> Option<Settings> {
    if no_rabbit() {
        return None;
    }
    Some(Settings {
        host: "127.0.0.1".into(),
        port: shared().port(),
        vhost: shared().vhost(),
        user: USER.into(),
        password: Token::new(PASSWORD).unwrap(),
        tls: None,
        heartbeat_s: 10,
        prefix: "conveyor".into(),
        events_exchange: "conveyor.events".into(),
        delivery_limit: 20,
        single_node: true,
    })
}

/// Messages a second through a durable quorum queue by plain lapin: published persistent and mandatory, confirmed, consumed
/// and acknowledged, so many of them on their way at a time.
pub(crate) async fn messages_per_s(settings: &Settings, body: &[u8], count: usize, on_their_way: u16) -> f64 {
    let address = format!(
        "amqp://{}:{PASSWORD}@{}:{}/{}?heartbeat=10",
        settings.user, settings.host, settings.port, settings.vhost
    );
    let connect = || Connection::connect(&address, ConnectionProperties::default());
    let (sending, receiving) = (connect().await.unwrap(), connect().await.unwrap());
    let channel = sending.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("floor".into(), durable, arguments).await.unwrap();
    let inbox = receiving.create_channel().await.unwrap();
    inbox.basic_qos(on_their_way, BasicQosOptions::default()).await.unwrap();
    let mut consumer = inbox
        .basic_consume("floor".into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await
        .unwrap();
    let began = Instant::now();
    let publishing = async {
        let properties = BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sends = (0..count).map(|_| {
            let (channel, properties) = (&channel, properties.clone());
            async move {
                let sent = channel.basic_publish("".into(), "floor".into(), options, body, properties).await;
                sent.unwrap().await.unwrap();
            }
        });
        futures_util::stream::iter(sends).buffer_unordered(on_their_way.into()).for_each(|()| async {}).await;
    };
    let consuming = async {
        for _ in 0..count {
            consumer.next().await.unwrap().unwrap().ack(BasicAckOptions::default()).await.unwrap();
        }
    };
    tokio::join!(publishing, consuming);
    count as f64 / began.elapsed().as_secs_f64()
}
