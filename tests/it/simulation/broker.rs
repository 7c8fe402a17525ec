//! A model of RabbitMQ, as far as offers see it: durable quorum queues, confirms, consumers with a window.
//!
//! It is a stand-in, written from what the real one does: it delivers at least once, in order but for what comes back; what
//! is not acknowledged goes back to the queue's head when its channel is gone, and to the dead letters when that happened too
//! often; a restart keeps the messages and cuts the connections; a queue can be lost with all that is in it, and is declared
//! again by the next sender.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use conveyor::app::Carrier;
use conveyor::broker::rabbitmq::BrokerError;
use conveyor::domain::protocol::Offer;

/// Returns to the queue after which a message is a dead letter, as the server declares it.
const DELIVERY_LIMIT: u32 = 20;

/// A consumer's channel.
pub(super) type Channel = u64;

struct Message {
    offer: Offer,
    returns: u32,
}

#[derive(Default)]
struct Consumer {
    queue: String,
    window: usize,
    /// Delivered and not acknowledged; whether the present window counts it.
    unacked: BTreeMap<u64, (Message, bool)>,
}

#[derive(Default)]
struct Inner {
    queues: BTreeMap<String, VecDeque<Message>>,
    consumers: BTreeMap<Channel, Consumer>,
    next: u64,
    down: bool,
    /// What happens to the next messages that are sent.
    fate: Fate,
}

/// What happens to messages on their way to the broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Fate {
    #[default]
    Confirmed,
    /// They never arrive.
    Lost,
    /// They arrive, and the confirm does not.
    ConfirmLost,
    /// They arrive twice.
    Twice,
}

#[derive(Default)]
pub(super) struct Broker(Mutex<Inner>);

impl Broker {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a channel and consumes a queue.
    pub(super) fn consume(&self, queue: &str, window: usize) -> Option<Channel> {
        let mut inner = self.inner();
        if inner.down || !inner.queues.contains_key(queue) {
            return None;
        }
        inner.next += 1;
        let channel = inner.next;
        let consumer = Consumer { queue: queue.to_owned(), window, unacked: BTreeMap::new() };
        inner.consumers.insert(channel, consumer);
        Some(channel)
    }

    /// Replaces the channel's consumer by one with another window, which counts only what it is given itself.
    pub(super) fn consume_anew(&self, channel: Channel, window: usize) {
        if let Some(consumer) = self.inner().consumers.get_mut(&channel) {
            consumer.window = window;
            consumer.unacked.values_mut().for_each(|(_, counts)| *counts = false);
        }
    }

    pub(super) fn is_open(&self, channel: Channel) -> bool {
        self.inner().consumers.contains_key(&channel)
    }

    /// How many more could be delivered on a channel.
    pub(super) fn room(&self, channel: Channel) -> usize {
        let inner = self.inner();
        let Some(consumer) = inner.consumers.get(&channel) else { return 0 };
        consumer.window.saturating_sub(consumer.unacked.values().filter(|(_, counts)| *counts).count())
    }

    /// Delivers the next message of the channel's queue, where its window allows.
    pub(super) fn deliver(&self, channel: Channel) -> Option<(u64, Offer)> {
        if self.room(channel) == 0 {
            return None;
        }
        let mut inner = self.inner();
        let queue = inner.consumers.get(&channel)?.queue.clone();
        let message = inner.queues.get_mut(&queue)?.pop_front()?;
        inner.next += 1;
        let (tag, offer) = (inner.next, message.offer.clone());
        inner.consumers.get_mut(&channel)?.unacked.insert(tag, (message, true));
        Some((tag, offer))
    }

    /// Takes a message off the queue for good; false where its channel is gone, and the message back on the queue.
    pub(super) fn acknowledge(&self, channel: Channel, tag: u64) -> bool {
        self.inner().consumers.get_mut(&channel).is_some_and(|consumer| consumer.unacked.remove(&tag).is_some())
    }

    /// The channel is gone, however: what it did not acknowledge goes back.
    pub(super) fn close(&self, channel: Channel) {
        let mut inner = self.inner();
        let Some(consumer) = inner.consumers.remove(&channel) else { return };
        let Some(queue) = inner.queues.get_mut(&consumer.queue) else { return };
        for (_, (mut message, _)) in consumer.unacked.into_iter().rev() {
            message.returns += 1;
            if message.returns <= DELIVERY_LIMIT {
                queue.push_front(message);
            }
        }
    }

    /// It is away for some time, and comes back with its messages.
    pub(super) fn set_down(&self, down: bool) {
        let open: Vec<Channel> = self.inner().consumers.keys().copied().collect();
        if down {
            open.into_iter().for_each(|channel| self.close(channel));
        }
        self.inner().down = down;
    }

    pub(super) fn is_down(&self) -> bool {
        self.inner().down
    }

    /// The connection of one consumer breaks.
    pub(super) fn cut_one(&self, dice: usize) {
        let open: Vec<Channel> = self.inner().consumers.keys().copied().collect();
        if !open.is_empty() {
            self.close(open[dice % open.len()]);
        }
    }

    /// A queue is lost with all that is in it; its consumers with it.
    pub(super) fn lose_queue(&self, dice: usize) {
        let mut inner = self.inner();
        let names: Vec<String> = inner.queues.keys().cloned().collect();
        if let Some(name) = (!names.is_empty()).then(|| names[dice % names.len()].clone()) {
            inner.queues.remove(&name);
            inner.consumers.retain(|_, consumer| consumer.queue != name);
        }
    }

    /// The server connects and declares what it needs.
    pub(super) fn declare<'a>(&self, queues: impl Iterator<Item = &'a str>) {
        let mut inner = self.inner();
        if !inner.down {
            for queue in queues {
                inner.queues.entry(queue.to_owned()).or_default();
            }
        }
    }

    /// Whether nothing waits to be delivered.
    pub(super) fn is_empty(&self) -> bool {
        self.inner().queues.values().all(VecDeque::is_empty)
    }

    pub(super) fn set_fate(&self, fate: Fate) {
        self.inner().fate = fate;
    }
}

impl Carrier for Broker {
    async fn send(&self, offers: &[Offer]) -> Vec<Result<(), BrokerError>> {
        let take = |offer: &Offer| {
            let mut inner = self.inner();
            let silent = || BrokerError::Silent { action: "confirm a message".into(), seconds: 15 };
            let fate = inner.fate;
            if inner.down || fate == Fate::Lost {
                return Err(silent());
            }
            let Some(queue) = inner.queues.get_mut(&offer.fleet) else {
                return Err(BrokerError::Unroutable { key: offer.fleet.clone() });
            };
            for _ in 0..if fate == Fate::Twice { 2 } else { 1 } {
                queue.push_back(Message { offer: offer.clone(), returns: 0 });
            }
            if fate == Fate::ConfirmLost { Err(silent()) } else { Ok(()) }
        };
        let results = offers.iter().map(take).collect();
        // Here the sender can be dropped: nobody then hears the confirms.
        super::executor::pause().await;
        results
    }
}
