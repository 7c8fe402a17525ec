//! Offers that nobody could take.

use lapin::options::{BasicGetOptions, QueuePurgeOptions};
use lapin::types::AMQPValue;

use super::Settings;
use super::connect::Connection;
use super::error::BrokerError;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The queue that it comes from.
    pub queue: String,
    /// Why it is here: `rejected`, `delivery_limit`, `maxlen` or `expired`.
    pub reason: String,
    /// What it says; damaged characters are replaced.
    pub body: String,
}

/// Looks at the oldest dead letters, at most `limit`; they stay where they are.
pub async fn show(connection: &Connection, settings: &Settings, limit: usize) -> Result<Vec<DeadLetter>, BrokerError> {
    let channel = connection.channel().await?;
    let mut letters = Vec::new();
    // They are not acknowledged, so that all of them are back when the channel is closed.
    while letters.len() < limit {
        let queue = settings.dead_letters();
        let getting = channel.basic_get(queue.as_str().into(), BasicGetOptions::default());
        let Some(letter) = connection.ask("show a dead letter", getting).await? else { break };
        let headers = letter.properties.headers().as_ref();
        let text = |name: &str| match headers.and_then(|headers| headers.inner().get(name)) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            _ => String::new(),
        };
        letters.push(DeadLetter {
            queue: text("x-first-death-queue"),
            reason: text("x-first-death-reason"),
            body: String::from_utf8_lossy(&letter.data).into_owned(),
        });
    }
    connection.ask("take the dead letters back", channel.close(200, "done".into())).await?;
    Ok(letters)
}

/// Deletes all dead letters; tells how many there were.
pub async fn purge(connection: &Connection, settings: &Settings) -> Result<u32, BrokerError> {
    let channel = connection.channel().await?;
    let queue = settings.dead_letters();
    connection
        .ask("delete the dead letters", channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()))
        .await
}
