//! What must be there on the broker, and whether it is.

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};

use super::connect::Connection;
use super::error::{ACCESS_REFUSED, BrokerError, INTERNAL_ERROR, NOT_FOUND, PRECONDITION_FAILED};
use super::{Settings, outbox};

/// Dead letters kept; the oldest go first.
const DEAD_LETTERS_KEPT: i32 = 10_000;
/// A key that no queue is bound to.
const NOWHERE: &str = "conveyor.broker-check";

/// One thing on the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// An exchange.
    Exchange {
        /// Its name.
        name: String,
        /// `direct` or `topic`.
        kind: &'static str,
    },
    /// A durable queue with its arguments.
    Queue {
        /// Its name.
        name: String,
        /// Its arguments, texts and numbers.
        arguments: Vec<(&'static str, Argument)>,
    },
    /// A queue's binding.
    Binding {
        /// The queue.
        queue: String,
        /// Where its messages come from.
        exchange: String,
        /// With which key.
        key: String,
    },
}

/// The value of a queue's argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// A text.
    Text(String),
    /// A number.
    Number(i32),
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What: an exchange, queue, binding or permission.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
    /// Whether it is there and is other than wanted, so that it must be deleted first.
    pub must_be_deleted: bool,
}

/// All that must be there.
#[derive(Debug, Clone)]
pub struct Topology {
    /// In the order in which it is declared.
    pub parts: Vec<Part>,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exchange { name, kind } => write!(f, "{kind} exchange {name}"),
            Self::Queue { name, .. } => write!(f, "queue {name}"),
            Self::Binding { queue, exchange, .. } => write!(f, "binding of queue {queue} to exchange {exchange}"),
        }
    }
}

impl Topology {
    /// What these fleets need.
    pub fn wanted<'a>(settings: &Settings, fleets: impl IntoIterator<Item = &'a str>) -> Self {
        let (offers, dead) = (settings.offers_exchange(), settings.dead_letters());
        let quorum = || ("x-queue-type", Argument::Text("quorum".into()));
        let exchange = |name: &str, kind| Part::Exchange { name: name.to_owned(), kind };
        let bind = |queue: &str, exchange: &str| Part::Binding {
            queue: queue.into(),
            exchange: exchange.into(),
            key: queue.into(),
        };
        let mut parts = vec![
            exchange(&dead, "direct"),
            Part::Queue {
                name: dead.clone(),
                arguments: vec![quorum(), ("x-max-length", Argument::Number(DEAD_LETTERS_KEPT))],
            },
            bind(&dead, &dead),
            exchange(&offers, "direct"),
        ];
        for fleet in fleets {
            let queue = settings.queue(fleet);
            let arguments = vec![
                quorum(),
                ("x-delivery-limit", Argument::Number(i32::try_from(settings.delivery_limit).unwrap_or(i32::MAX))),
                ("x-dead-letter-exchange", Argument::Text(dead.clone())),
                ("x-dead-letter-routing-key", Argument::Text(dead.clone())),
            ];
            parts.push(Part::Queue { name: queue.clone(), arguments });
            parts.push(bind(&queue, &offers));
        }
        parts.push(exchange(&settings.events_exchange, "topic"));
        Self { parts }
    }

    /// Declares what is missing. What is there and differs is left, and told: it can be worked with.
    pub async fn declare(&self, connection: &Connection) -> Result<Vec<Difference>, BrokerError> {
        let mut channel = connection.channel().await?;
        let mut differences = Vec::new();
        for part in &self.parts {
            let Err(error) = part.declare(connection, &channel, false).await else { continue };
            if !matches!(error.code(), Some(PRECONDITION_FAILED | ACCESS_REFUSED)) {
                return Err(error);
            }
            // The broker closed the channel. Without the permission to configure, others may have declared it for us.
            channel = connection.channel().await?;
            if let Part::Exchange { .. } | Part::Queue { .. } = part
                && part.declare(connection, &channel, true).await.is_err()
            {
                return Err(error);
            }
            differences.push(Difference::of(part, &error));
        }
        Ok(differences)
    }

    /// Compares without changing anything: what is missing or differs, and which permissions are missing.
    pub async fn check(&self, settings: &Settings, connection: &Connection) -> Result<Vec<Difference>, BrokerError> {
        let mut differences = Vec::new();
        let mut is_complete = true;
        for part in &self.parts {
            // A binding is not looked at where its ends are missing: to declare it is the only way to see it.
            if matches!(part, Part::Binding { .. }) && !is_complete {
                continue;
            }
            let mut error = None;
            let passive = matches!(part, Part::Exchange { .. } | Part::Queue { .. });
            if passive {
                error = part.declare(connection, &connection.channel().await?, true).await.err();
            }
            if error.is_none() {
                // It is there: declaring it again changes nothing, and is refused where it differs.
                error = part.declare(connection, &connection.channel().await?, false).await.err();
            }
            match error {
                Some(error) if error.code().is_some() => {
                    is_complete &= error.code() != Some(NOT_FOUND);
                    differences.push(Difference::of(part, &error));
                }
                Some(error) => return Err(error),
                None => {}
            }
        }
        differences.extend(self.check_rights(settings, connection).await?);
        Ok(differences)
    }

    /// Finds out whether we may send to the exchanges and read the queues that are there.
    async fn check_rights(&self, settings: &Settings, connection: &Connection) -> Result<Vec<Difference>, BrokerError> {
        let mut differences = Vec::new();
        let channel = connection.channel().await?;
        outbox::confirming(connection, &channel).await?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let exchange = settings.offers_exchange();
        let sent =
            channel.basic_publish(exchange.as_str().into(), NOWHERE.into(), options, b"", BasicProperties::default());
        let sending = async { sent.await?.await };
        if let Err(error) = connection.ask("take a message that goes nowhere", sending).await {
            differences.push(Difference::right(format!("permission to write to exchange {exchange}"), &error)?);
        }
        for part in &self.parts {
            let Part::Queue { name, .. } = part else { continue };
            match look_into(connection, name).await {
                Ok(()) => {}
                // Told by whoever looks for just that.
                Err(error) if is_leaderless(&error) => break,
                Err(error) => {
                    differences.push(Difference::right(format!("permission to read queue {name}"), &error)?);
                }
            }
        }
        differences.extend(self.leaderless(settings).await?);
        Ok(differences)
    }

    /// The queues that do not answer, each looked at by a connection of its own, which the broker closes in the end: quorum
    /// queues without a leader. Declaring such a one again works, and changes nothing.
    pub async fn leaderless(&self, settings: &Settings) -> Result<Vec<Difference>, BrokerError> {
        let mut differences = Vec::new();
        for part in &self.parts {
            let Part::Queue { name, .. } = part else { continue };
            let connection = Connection::open(settings, "look").await?;
            if let Err(error) = look_into(&connection, name).await
                && is_leaderless(&error)
            {
                let why = format!("does not answer, so that it has no leader: {error}");
                differences.push(Difference { what: part.to_string(), why, must_be_deleted: true });
            }
        }
        Ok(differences)
    }

    /// Deletes what differs, so that it can be declared anew. Offers in it are sent again when their time is over.
    pub async fn delete(&self, connection: &Connection, differences: &[Difference]) -> Result<(), BrokerError> {
        let wrong = |part: &&Part| {
            let name = part.to_string();
            differences.iter().any(|difference| difference.must_be_deleted && difference.what == name)
        };
        for part in self.parts.iter().filter(wrong) {
            let channel = connection.channel().await?;
            match part {
                Part::Queue { name, .. } => {
                    let deleting = channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default());
                    connection.ask(format!("delete {part}"), deleting).await?;
                }
                Part::Exchange { name, .. } => {
                    let deleting = channel.exchange_delete(name.as_str().into(), Default::default());
                    connection.ask(format!("delete {part}"), deleting).await?;
                }
                Part::Binding { .. } => {}
            }
        }
        Ok(())
    }
}

/// Reads an empty queue, which nobody notices.
async fn look_into(connection: &Connection, name: &str) -> Result<(), BrokerError> {
    let channel = connection.channel().await?;
    let options = QueueDeclareOptions::durable().passive();
    let state = channel.queue_declare(name.into(), options, FieldTable::default());
    let Ok(queue) = connection.ask("show a queue", state).await else { return Ok(()) };
    if queue.message_count() > 0 {
        return Ok(());
    }
    // What comes in this instant goes back when the channel is closed.
    let reading = channel.basic_get(name.into(), BasicGetOptions::default());
    connection.ask("read a queue", reading).await.map(drop)
}

/// Whether a queue that is there has failed to answer.
fn is_leaderless(error: &BrokerError) -> bool {
    matches!(error, BrokerError::Silent { .. }) || error.code() == Some(INTERNAL_ERROR)
}

impl Part {
    async fn declare(
        &self,
        connection: &Connection,
        channel: &lapin::Channel,
        passive: bool,
    ) -> Result<(), BrokerError> {
        let action = format!("declare {self}");
        match self {
            Self::Exchange { name, kind } => {
                let kind = if *kind == "topic" { ExchangeKind::Topic } else { ExchangeKind::Direct };
                let options = ExchangeDeclareOptions { passive, durable: true, ..ExchangeDeclareOptions::default() };
                let answer = channel.exchange_declare(name.as_str().into(), kind, options, FieldTable::default());
                connection.ask(action, answer).await
            }
            Self::Queue { name, arguments } => {
                let mut table = FieldTable::default();
                for (key, value) in arguments {
                    let value = match value {
                        Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
                        Argument::Number(number) => AMQPValue::LongInt(*number),
                    };
                    table.insert((*key).into(), value);
                }
                let options = QueueDeclareOptions { passive, durable: true, ..QueueDeclareOptions::default() };
                connection.ask(action, channel.queue_declare(name.as_str().into(), options, table)).await.map(drop)
            }
            Self::Binding { queue, exchange, key } => {
                let answer = channel.queue_bind(
                    queue.as_str().into(),
                    exchange.as_str().into(),
                    key.as_str().into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                );
                connection.ask(action, answer).await
            }
        }
    }
}

impl Difference {
    fn of(part: &Part, error: &BrokerError) -> Self {
        let (why, must_be_deleted) = match error.code() {
            Some(NOT_FOUND) => ("is missing".into(), false),
            Some(ACCESS_REFUSED) => (format!("may not be configured by this user: {error}"), false),
            Some(PRECONDITION_FAILED) => (format!("differs: {error}"), true),
            _ => (error.to_string(), false),
        };
        Self { what: part.to_string(), why, must_be_deleted }
    }

    /// A missing right; what is missing altogether was told already.
    fn right(what: String, error: &BrokerError) -> Result<Self, BrokerError> {
        match error.code() {
            Some(_) => Ok(Self { what, why: error.to_string(), must_be_deleted: false }),
            None => Err(error.clone()),
        }
    }
}
