//! The exchange on which servers tell each other of new revisions, and tell and hear those of `cvmfs-notify`.
//!
//! It gives nothing to who was not there, so a server that comes asks the others what it missed, by an exchange of our own that
//! `cvmfs-notify` does not know.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Consumer, ExchangeKind};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::Settings;
use super::connect::Connection;
use super::error::{ACCESS_REFUSED, BrokerError, PRECONDITION_FAILED};
use super::outbox::{Lane, Publication};
use crate::domain::names::RepositoryName;

/// Messages that may be on their way to us and not acknowledged.
const WINDOW: u16 = 100;
/// Key of the questions.
const QUESTIONS: &str = "questions";

/// The exchange, with a queue of our own on it that goes with the connection.
pub struct Activity {
    connection: Connection,
    sending: Lane,
    receiving: Channel,
    queue: ShortString,
    exchange: String,
    questions: String,
    /// Who asks, so that nobody answers itself.
    me: String,
    bound: Mutex<BTreeSet<RepositoryName>>,
}

/// What comes.
pub struct Heard {
    consumer: Consumer,
    questions: String,
}

/// Something that came.
#[derive(Debug)]
pub struct News {
    /// As it was sent.
    pub body: Vec<u8>,
    /// To acknowledge it.
    pub receipt: Receipt,
    /// Whether it is a question, for [`Activity::question`], and no message.
    pub is_question: bool,
}

impl Heard {
    /// What comes next. Nothing is lost where this is dropped in between.
    pub async fn next(&mut self) -> Result<News, BrokerError> {
        let Some(delivery) = self.consumer.next().await else {
            let why = "the broker ended it: the queue was deleted".into();
            return Err(BrokerError::Refused { action: "deliver messages".into(), why, code: None });
        };
        let delivery = delivery.map_err(|error| BrokerError::refused("deliver messages", &error))?;
        let is_question = delivery.exchange.as_str() == self.questions;
        Ok(News { body: delivery.data, receipt: Receipt(delivery.acker), is_question })
    }
}

/// What tells the broker to forget a message.
#[derive(Debug)]
pub struct Receipt(lapin::Acker);

/// A question, as it is sent.
#[derive(Serialize, Deserialize)]
struct Question {
    from: String,
    have: BTreeMap<RepositoryName, u64>,
}

impl Activity {
    /// Connects, and declares exchange and queue. Nothing comes before [`Self::bind`].
    pub async fn open(settings: &Settings, exchange: &str) -> Result<(Self, Heard), BrokerError> {
        let connection = Connection::open(settings, "notify").await?;
        let questions = settings.questions_exchange();
        for name in [exchange, &questions] {
            declare(&connection, name).await?;
        }
        let sending = Lane::open(&connection).await?;
        let receiving = connection.channel().await?;
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let declaring = receiving.queue_declare("".into(), options, FieldTable::default());
        let queue = connection.ask("declare a queue of our own", declaring).await?.name().clone();
        let limiting = receiving.basic_qos(WINDOW, BasicQosOptions::default());
        connection.ask("limit deliveries", limiting).await?;
        let (options, none) = (BasicConsumeOptions { exclusive: true, ..Default::default() }, FieldTable::default());
        let consuming = receiving.basic_consume(queue.clone(), "".into(), options, none);
        let consumer = connection.ask("deliver messages", consuming).await?;
        let me = queue.to_string();
        let (exchange, bound) = (exchange.to_owned(), Mutex::default());
        let activity = Self { connection, sending, receiving, queue, exchange, questions, me, bound };
        activity.bind_key(&activity.questions, QUESTIONS).await?;
        let questions = activity.questions.clone();
        Ok((activity, Heard { consumer, questions }))
    }

    /// Lets messages about repositories come; tells which of them did not until now.
    pub async fn bind(&self, repositories: &BTreeSet<RepositoryName>) -> Result<BTreeSet<RepositoryName>, BrokerError> {
        let mut bound = self.bound.lock().await;
        let new: BTreeSet<_> = repositories.difference(&bound).cloned().collect();
        for repository in &new {
            self.bind_key(&self.exchange, repository.as_str()).await?;
            bound.insert(repository.clone());
        }
        Ok(new)
    }

    /// Declares all of it again, which changes nothing where it is there: somebody may have deleted an exchange, and our bindings
    /// with it.
    pub async fn renew(&self) -> Result<(), BrokerError> {
        for name in [&self.exchange, &self.questions] {
            declare(&self.connection, name).await?;
        }
        self.bind_key(&self.questions, QUESTIONS).await?;
        for repository in self.bound.lock().await.iter() {
            self.bind_key(&self.exchange, repository.as_str()).await?;
        }
        Ok(())
    }

    /// Sends messages, each with its repository and its number, and waits until the broker has confirmed all of them.
    pub async fn tell(&self, messages: &[(RepositoryName, u64, String)]) -> Result<(), BrokerError> {
        let message = |(repository, number, text): &(RepositoryName, u64, String)| Publication {
            exchange: self.exchange.clone(),
            key: repository.to_string(),
            id: number.to_string(),
            body: text.clone().into_bytes(),
            // Where nobody listens, nobody misses it.
            mandatory: false,
        };
        let messages: Vec<_> = messages.iter().map(message).collect();
        super::outbox::send(&self.connection, &self.sending, &messages).await.into_iter().collect()
    }

    /// Asks the other servers for what is newer than this.
    pub async fn ask(&self, have: BTreeMap<RepositoryName, u64>) -> Result<(), BrokerError> {
        let body = serde_json::to_vec(&Question { from: self.me.clone(), have }).unwrap_or_default();
        let (exchange, key) = (self.questions.as_str().into(), QUESTIONS.into());
        let sending = self.receiving.basic_publish(
            exchange,
            key,
            BasicPublishOptions::default(),
            &body,
            BasicProperties::default(),
        );
        self.connection.ask("take a question", sending).await.map(drop)
    }

    /// Reads a question: who has a newer revision of any of these tells it. Nothing where it is our own, or none.
    pub fn question(&self, body: &[u8]) -> Option<BTreeMap<RepositoryName, u64>> {
        match serde_json::from_slice::<Question>(body) {
            Ok(question) => Some(question.have).filter(|_| question.from != self.me),
            Err(error) => {
                tracing::warn!(%error, exchange = self.questions, "a message is no question; it is dropped");
                None
            }
        }
    }

    /// Tells the broker to forget a message.
    pub async fn acknowledge(&self, receipt: Receipt) -> Result<(), BrokerError> {
        let acknowledging = receipt.0.ack(BasicAckOptions::default());
        self.connection.ask("take an acknowledgement", acknowledging).await.map(drop)
    }

    /// The connection, to be looked at.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    async fn bind_key(&self, exchange: &str, key: &str) -> Result<(), BrokerError> {
        let binding = self.receiving.queue_bind(
            self.queue.clone(),
            exchange.into(),
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        self.connection.ask(format!("bind to exchange {exchange} with key {key}"), binding).await
    }
}

/// Declares an exchange. One that others declared otherwise, or for us, will do.
async fn declare(connection: &Connection, name: &str) -> Result<(), BrokerError> {
    let declare = async |passive| {
        let channel = connection.channel().await?;
        let options = ExchangeDeclareOptions { passive, durable: true, ..ExchangeDeclareOptions::default() };
        let declaring = channel.exchange_declare(name.into(), ExchangeKind::Direct, options, FieldTable::default());
        connection.ask(format!("declare direct exchange {name}"), declaring).await?;
        connection.ask("close a channel", channel.close(200, "done".into())).await
    };
    match declare(false).await {
        Err(error) if matches!(error.code(), Some(PRECONDITION_FAILED | ACCESS_REFUSED)) => {
            declare(true).await.map_err(|_| error)
        }
        result => result,
    }
}
