//! Where offers come from: the server itself, asked over HTTP, or RabbitMQ.
//!
//! By RabbitMQ the unacknowledged offers are the window: it is never wider than the free slots, so that an offer never
//! waits here while another worker is idle. An offer is acknowledged when its claim was answered; one that was granted not
//! before its batch has ended or [`SHORT`] is over, since its acknowledgement would let the next one come.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::Worker;
use crate::broker::rabbitmq::{BrokerError, Inbox, Pause, Received, Settings};
use crate::domain::protocol::Offer;

/// A batch that takes longer is acknowledged while it runs: a broker ends a consumer that takes half an hour.
const SHORT: Duration = Duration::from_secs(10);
/// A broker can forget a consumer without a word, as when its queue was deleted in an emergency and is there again: we listen
/// anew this often, whatever it said.
const RENEW: Duration = Duration::from_secs(20);
/// How often the window is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// An offer with the slot that it will take.
pub(super) struct Came {
    pub(super) offer: Offer,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) receipt: Option<Receipt>,
}

/// What became of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The claim was granted.
    Claimed,
    /// It is somebody else's, or nobody's any more.
    Gone,
    /// The server did not answer.
    Unanswered,
    /// Its batch has ended, however.
    Ended,
}

/// Tells the consumer what became of an offer.
pub(super) struct Receipt {
    number: u64,
    fates: UnboundedSender<(u64, Fate)>,
}

impl Receipt {
    pub(super) fn claimed(&self) {
        self.tell(Fate::Claimed);
    }

    pub(super) fn gone(&self) {
        self.tell(Fate::Gone);
    }

    pub(super) fn unanswered(&self) {
        self.tell(Fate::Unanswered);
    }

    fn tell(&self, fate: Fate) {
        // Nobody listens any more where the connection is gone, and the offer is back on the broker.
        let _ = self.fates.send((self.number, fate));
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.tell(Fate::Ended);
    }
}

/// Receives offers by RabbitMQ until the worker takes no more.
pub(super) async fn receive(worker: Arc<Worker>, settings: Settings, to: UnboundedSender<Came>) {
    let mut pause = Pause::default();
    let mut was_warned = false;
    loop {
        // Offers that could not be claimed would go round and round, and end as dead letters.
        while !worker.held.hears() && !worker.draining.has_begun() {
            tokio::time::sleep(LOOK / 4).await;
        }
        tokio::select! {
            () = worker.draining.until_it_takes() => {}
            () = worker.draining.begun() => return,
        }
        let began = Instant::now();
        let Err(error) = consume(&worker, &settings, &to).await else { continue };
        let pause = pause.next(began.elapsed());
        if was_warned && began.elapsed() < LOOK {
            tracing::debug!("still no offers by the broker: {error}");
        } else {
            tracing::warn!(broker = settings.address(), "no offers by the broker; trying again: {error}");
        }
        was_warned = true;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = worker.draining.begun() => return,
        }
    }
}

/// Says that offers come by the broker, as long as it lives.
struct Open<'a>(&'a AtomicBool);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// An offer that is not acknowledged yet.
struct Pending {
    received: Received,
    /// When its claim was granted.
    claimed: Option<Instant>,
    /// Whether the present window counts it.
    in_window: bool,
}

struct Consuming<'a> {
    worker: &'a Arc<Worker>,
    inbox: Inbox,
    to: &'a UnboundedSender<Came>,
    tell: UnboundedSender<(u64, Fate)>,
    fates: UnboundedReceiver<(u64, Fate)>,
    pending: HashMap<u64, Pending>,
    next: u64,
    /// How many the broker may deliver that are not acknowledged.
    window: usize,
    /// When the present window began.
    began: Instant,
}

async fn consume(worker: &Arc<Worker>, settings: &Settings, to: &UnboundedSender<Came>) -> Result<(), BrokerError> {
    let inbox = Inbox::open(settings, &worker.settings.fleet).await?;
    let (tell, fates) = unbounded_channel();
    let pending = HashMap::new();
    let (next, window, began) = (0, 0, Instant::now());
    let mut consuming = Consuming { worker, inbox, to, tell, fates, pending, next, window, began };
    consuming.widen().await?;
    let _open = Open(&worker.by_broker);
    worker.by_broker.store(true, Ordering::Relaxed);
    worker.beat.notify_one();
    tracing::info!(queue = settings.queue(&worker.settings.fleet), "offers come by the broker");
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // What was not claimed goes to others with the connection.
            () = worker.draining.until_it_takes_none() => return consuming.acknowledge_claimed().await,
            received = consuming.inbox.next() => consuming.pass_on(received?, true).await,
            Some((number, fate)) = consuming.fates.recv() => consuming.settle(number, fate).await?,
            _ = look.tick() => {
                if !consuming.inbox.connection().is_alive() {
                    let (action, why) = ("keep the connection".into(), "it broke".into());
                    return Err(BrokerError::Refused { action, why, code: None });
                }
                if consuming.is_window_wrong() || consuming.began.elapsed() > RENEW {
                    consuming.widen().await?;
                }
            }
        }
    }
}

impl Consuming<'_> {
    /// Gives an offer to the worker, with a slot: there is one for each offer in the window.
    async fn pass_on(&mut self, received: Received, in_window: bool) {
        let Ok(permit) = self.worker.slots.permits().acquire_owned().await else { return };
        let number = self.next;
        self.next += 1;
        let receipt = Receipt { number, fates: self.tell.clone() };
        let came = Came { offer: received.offer.clone(), permit, receipt: Some(receipt) };
        self.pending.insert(number, Pending { received, claimed: None, in_window });
        // A worker that stops drops what comes now; it goes back to the broker.
        let _ = self.to.send(came);
    }

    async fn settle(&mut self, number: u64, fate: Fate) -> Result<(), BrokerError> {
        match fate {
            Fate::Claimed => {
                if let Some(pending) = self.pending.get_mut(&number) {
                    pending.claimed = Some(Instant::now());
                }
                Ok(())
            }
            Fate::Gone | Fate::Ended => {
                crate::crash::point("broker.before-ack");
                if let Some(pending) = self.pending.remove(&number) {
                    self.inbox.acknowledge(&pending.received).await?;
                    crate::crash::point("broker.acknowledged");
                }
                Ok(())
            }
            Fate::Unanswered => Err(BrokerError::ServerAway),
        }
    }

    /// Whether the broker may deliver fewer than there are free slots, or waits for an acknowledgement too long.
    fn is_window_wrong(&self) -> bool {
        let in_window = self.pending.values().filter(|pending| pending.in_window).count();
        let is_long = |pending: &Pending| pending.claimed.is_some_and(|at| at.elapsed() > SHORT);
        let free = self.worker.slots.permits().available_permits();
        self.window.saturating_sub(in_window) < free || self.pending.values().any(is_long)
    }

    /// Makes the window as wide as there are free slots, and acknowledges what was claimed.
    async fn widen(&mut self) -> Result<(), BrokerError> {
        let free = self.worker.slots.permits().available_permits();
        let rest = self.inbox.consume(u16::try_from(free).unwrap_or(u16::MAX)).await?;
        self.window = free.saturating_sub(rest.len());
        self.began = Instant::now();
        self.pending.values_mut().for_each(|pending| pending.in_window = false);
        for received in rest {
            self.pass_on(received, false).await;
        }
        self.acknowledge_claimed().await
    }

    async fn acknowledge_claimed(&mut self) -> Result<(), BrokerError> {
        let claimed: Vec<u64> =
            self.pending.iter().filter(|(_, pending)| pending.claimed.is_some()).map(|(number, _)| *number).collect();
        for number in claimed {
            self.settle(number, Fate::Gone).await?;
        }
        Ok(())
    }
}
