//! Sends offers and tells events by RabbitMQ, for ever: whatever fails is done again, and nothing else waits for it.
//!
//! An offer counts as sent when the broker has confirmed it; its row is the outbox. Events have a cursor in the database
//! that moves when they are confirmed: each is told at least once, those of one job in their order.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::app::{AppError, Engine};
use crate::broker::rabbitmq::{
    BrokerError, Connection, Difference, Lane, Outbox, Pause, Publication, Settings, Topology,
};
use crate::broker::{Link, Status};
use crate::domain::fleet::{DEFAULT_FLEET, Repositories};
use crate::domain::ids::BatchId;
use crate::domain::names::RepositoryName;
use crate::domain::protocol::Offer;

/// Offers sent together.
const OFFERS_AT_ONCE: usize = 256;
/// Events told together: one commit moves the cursor behind them.
const EVENTS_AT_ONCE: usize = 500;
/// How often each queue is asked for a sign of life.
const LOOK_INTO_QUEUES: Duration = Duration::from_secs(60);
/// The same, where it gave none.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How often the connection and the fleets are looked at where nothing happens.
const LOOK: Duration = Duration::from_secs(1);
/// How often the queue of a fleet in which nobody listens is declared. Where it was deleted, nobody can, and nothing is sent
/// that would come back.
const DECLARE: Duration = Duration::from_secs(5);
/// Pause after the database could not be asked.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The broker's side.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// Our side.
    #[error("the database could not be asked")]
    Store(#[from] AppError),
}

/// Takes offers to the queue of their fleet: a channel to RabbitMQ, or what stands for one in the simulation.
pub trait Carrier: Sync {
    /// Sends offers and waits for the broker to confirm each; the results are in their order.
    fn send(&self, offers: &[Offer]) -> impl Future<Output = Vec<Result<(), BrokerError>>> + Send;
}

/// RabbitMQ.
struct ByRabbit<'a> {
    settings: &'a Settings,
    outbox: &'a Outbox,
    lane: &'a Lane,
}

impl Carrier for ByRabbit<'_> {
    async fn send(&self, offers: &[Offer]) -> Vec<Result<(), BrokerError>> {
        let messages: Vec<_> = offers.iter().map(|offer| publication(self.settings, offer)).collect();
        self.outbox.send_offers(self.lane, &messages).await
    }
}

impl Engine {
    /// How RabbitMQ stands; nothing where it is not used.
    pub fn rabbitmq(&self) -> Option<&Arc<Status>> {
        self.rabbitmq.get()
    }

    /// Connects, declares, sends; begins anew whenever that fails. Never ends by itself.
    pub async fn drive_rabbitmq(&self, settings: &Settings) -> Infallible {
        let status = self.rabbitmq.get_or_init(Arc::default);
        let mut changed = self.fleets.subscribe();
        let mut pause = Pause::default();
        loop {
            let (began, fleets) = (Instant::now(), changed.borrow_and_update().clone());
            let broken = tokio::select! {
                Err(broken) = self.serve_rabbitmq(settings, &fleets, status) => broken,
                // The sender is part of the engine. What is on its way is given back, and sent again.
                _ = changed.changed() => {
                    tracing::info!(broker = settings.address(), "the fleets are others now; connecting anew");
                    continue;
                }
            };
            let text = describe(&broken);
            let pause = pause.next(began.elapsed());
            if status.set(Link::Down, Some(text.clone())) {
                tracing::warn!(
                    broker = settings.address(),
                    "the broker is out of reach; jobs are accepted, offers wait: {text}"
                );
            } else {
                tracing::debug!("the broker is still out of reach: {text}");
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn serve_rabbitmq(
        &self,
        settings: &Settings,
        fleets: &BTreeSet<String>,
        status: &Status,
    ) -> Result<Infallible, Broken> {
        let topology = Topology::wanted(settings, fleets.iter().map(String::as_str));
        let outbox = Outbox::open(settings, &topology).await?;
        for difference in outbox.differences() {
            tracing::warn!("{} {}; see: conveyor broker check", difference.what, difference.why);
        }
        let note = outbox.differences().first().map(|difference| format!("{} {}", difference.what, difference.why));
        status.forget_fleets();
        status.set(Link::Up, note.clone());
        tracing::info!(broker = settings.address(), "the broker is there; offers and events go out");
        let watching = async {
            loop {
                tokio::time::sleep(LOOK).await;
                if !outbox.connection().is_alive() {
                    let (action, why) = ("keep the connection".into(), "it broke".into());
                    return Err::<Infallible, Broken>(BrokerError::Refused { action, why, code: None }.into());
                }
                let (link, reason) = match outbox.connection().is_blocked() {
                    true => (Link::Blocked, Some("the broker lacks memory or disk and takes nothing".to_owned())),
                    false => (Link::Up, note.clone()),
                };
                if status.set(link, reason) {
                    tracing::warn!(state = link.as_str(), "the broker's state changed");
                }
            }
        };
        // One that fails takes the others with it: what is on its way is then sent again.
        let sending = futures_util::future::try_join_all(fleets.iter().map(async |fleet| {
            let doubt = Notify::new();
            let keeping = async { Ok::<_, Broken>(keep_queue(settings, status, fleet, &doubt).await) };
            tokio::try_join!(self.send_offers(settings, &outbox, status, fleet, &doubt), keeping)
                .map(|(never, _)| never)
        }));
        tokio::try_join!(watching, sending, self.tell_events(settings, &outbox)).map(|(never, ..)| never)
    }

    /// Sends the offers of one fleet. What is wrong with its queue alone is told and mended here, while the others go on.
    async fn send_offers(
        &self,
        settings: &Settings,
        outbox: &Outbox,
        status: &Status,
        fleet: &str,
        doubt: &Notify,
    ) -> Result<Infallible, Broken> {
        let mut changed = self.broker.changed();
        let (mut lane, mut pause, mut declared) = (outbox.lane().await?, Pause::default(), Instant::now());
        loop {
            changed.mark_unchanged();
            match self.send_unsent(fleet, &ByRabbit { settings, outbox, lane: &lane }).await {
                Ok(true) => {
                    if status.set_fleet(fleet, None) {
                        tracing::info!(fleet, "its queue takes offers again");
                    }
                    pause = Pause::default();
                }
                Ok(false) => {
                    if !outbox.connection().is_blocked() && declared.elapsed() >= DECLARE {
                        declared = Instant::now();
                        // Whoever watches the connection or the queue tells what is wrong.
                        let _ = Topology::wanted(settings, [fleet]).declare(outbox.connection()).await;
                    }
                }
                Err(Broken::Broker(error)) if outbox.connection().is_alive() => {
                    if status.set_fleet(fleet, Some(error.to_string())) {
                        tracing::warn!(fleet, "its offers cannot be sent; trying again: {error}");
                    }
                    doubt.notify_one();
                    // It may have been deleted.
                    Topology::wanted(settings, [fleet]).declare(outbox.connection()).await?;
                    lane = outbox.lane().await?;
                    tokio::time::sleep(pause.next(Duration::ZERO)).await;
                    continue;
                }
                Err(error) => return Err(error),
            }
            // The fleets' workers change without a sign.
            let _ = tokio::time::timeout(LOOK, changed.changed()).await;
        }
    }

    /// Sends what is unsent to a fleet with a worker that listens at the broker; false where there is nothing to send. What is
    /// not confirmed, also because this was dropped on the way, is sent again by the next call.
    pub async fn send_unsent(&self, fleet: &str, carrier: &impl Carrier) -> Result<bool, Broken> {
        let workers = &self.dispatcher.workers;
        if !workers.fleets_by_broker().contains(fleet) {
            return Ok(false);
        }
        let reached = |repository: &RepositoryName| workers.broker_reaches(fleet, repository);
        let offers = self.unsent_offers(fleet, OFFERS_AT_ONCE, reached).await?;
        if offers.is_empty() {
            return Ok(false);
        }
        // Given back where this is dropped on the way: then nobody knows whether they arrived.
        let mut back = GiveBack { engine: self, offers: ids(&offers) };
        crate::crash::point("broker.before-send");
        let results = carrier.send(&offers).await;
        crate::crash::point("broker.sent");
        let (mut sent, mut failed) = (Vec::new(), None);
        for (offer, result) in offers.iter().zip(results) {
            match result {
                Ok(()) => sent.push((offer.batch_id, offer.generation)),
                Err(error) => failed = Some(error),
            }
        }
        back.offers.retain(|offer| !sent.contains(offer));
        if !sent.is_empty() {
            self.offers_sent(sent).await?;
        }
        failed.map_or(Ok(true), |error| Err(error.into()))
    }

    async fn tell_events(&self, settings: &Settings, outbox: &Outbox) -> Result<Infallible, Broken> {
        let mut committed = self.store.committed();
        let last = *committed.borrow_and_update();
        let mut cursor = self.events_cursor(last).await?;
        loop {
            committed.mark_unchanged();
            let events = self.store.read(move |db| Ok::<_, AppError>(db.events_to_tell(cursor, EVENTS_AT_ONCE)?)).await;
            let events = match events {
                Ok(events) => events,
                Err(error) => {
                    // A damaged row must not keep offers from going out.
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot read events to be told; trying again"
                    );
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                    continue;
                }
            };
            if events.is_empty() {
                let _ = committed.changed().await;
                continue;
            }
            let mut messages = Vec::with_capacity(events.len());
            for (repository, event) in &events {
                messages.push(Publication {
                    exchange: settings.events_exchange.clone(),
                    key: format!("{repository}.{}", event.state.as_str()),
                    id: event.number.to_string(),
                    body: serde_json::to_vec(event).unwrap_or_default(),
                    mandatory: false,
                });
            }
            let (safe, result) = outbox.send_events(&messages).await;
            crate::crash::point("broker.events-sent");
            if let Some((_, last)) = safe.checked_sub(1).and_then(|last| events.get(last)) {
                cursor = last.number;
                let number = cursor;
                self.store.write(move |tx| Ok::<_, AppError>(tx.set_events_told(number)?)).await?;
            }
            result?;
        }
    }

    /// Where telling goes on; the first time it begins with what comes from now on.
    async fn events_cursor(&self, last: u64) -> Result<u64, AppError> {
        self.store
            .write(move |tx| {
                if let Some(told) = tx.events_told()? {
                    return Ok(told);
                }
                tx.set_events_told(last)?;
                Ok(last)
            })
            .await
    }
}

/// Looks now and then, and when in doubt, whether a fleet's queue answers. A quorum queue without a leader takes nothing and
/// gives nothing, and workers that cannot listen there say nothing either: then nobody would know.
async fn keep_queue(settings: &Settings, status: &Status, fleet: &str, doubt: &Notify) -> Infallible {
    let topology = Topology::wanted(settings, [fleet]);
    let mut was_dead = false;
    loop {
        let dead = topology.leaderless(settings).await;
        let pause = match dead.as_deref() {
            Ok([first, ..]) => {
                was_dead = true;
                let told = format!("{} {}", first.what, first.why);
                if status.set_fleet(fleet, Some(told.clone())) {
                    tracing::warn!(fleet, "{told}; see: conveyor broker check");
                }
                if settings.single_node {
                    tracing::warn!(fleet, "{} is deleted and made anew, since no other node can lead it", first.what);
                    if let Err(error) = renew(settings, &topology, dead.as_deref().unwrap_or_default()).await {
                        tracing::warn!(fleet, "it could not be made anew; trying again: {error}");
                    }
                }
                LOOK_AGAIN
            }
            Ok([]) => {
                if std::mem::take(&mut was_dead) && status.set_fleet(fleet, None) {
                    tracing::info!(fleet, "its queue answers again");
                }
                LOOK_INTO_QUEUES
            }
            // Told by whoever watches the connection.
            Err(_) => LOOK_AGAIN,
        };
        let _ = tokio::time::timeout(pause, doubt.notified()).await;
    }
}

/// Deletes queues that do not answer and declares them anew. What was in them is made again when its time is over.
async fn renew(settings: &Settings, topology: &Topology, dead: &[Difference]) -> Result<(), BrokerError> {
    // Not that of the offers: a broker closes a connection for such a queue.
    let connection = Connection::open(settings, "server").await?;
    topology.delete(&connection, dead).await?;
    topology.declare(&connection).await.map(drop)
}

/// Offers whose fate is open.
struct GiveBack<'a> {
    engine: &'a Engine,
    offers: Vec<(BatchId, u32)>,
}

impl Drop for GiveBack<'_> {
    fn drop(&mut self) {
        let mut live = self.engine.live();
        for (batch, _) in &self.offers {
            live.offers.remove(batch);
        }
        drop(live);
        self.engine.broker.give_back(&self.offers);
    }
}

fn ids(offers: &[Offer]) -> Vec<(BatchId, u32)> {
    offers.iter().map(|offer| (offer.batch_id, offer.generation)).collect()
}

fn publication(settings: &Settings, offer: &Offer) -> Publication {
    Publication {
        exchange: settings.offers_exchange(),
        key: settings.queue(&offer.fleet),
        id: format!("{}.{}", offer.batch_id, offer.generation),
        body: serde_json::to_vec(offer).unwrap_or_default(),
        mandatory: true,
    }
}

/// Every fleet that a repository belongs to.
pub(super) fn fleets(repositories: &Repositories) -> BTreeSet<String> {
    let named = repositories.values().map(|rules| rules.fleet.clone());
    named.chain(repositories.is_empty().then(|| DEFAULT_FLEET.to_owned())).collect()
}

fn describe(broken: &Broken) -> String {
    match std::error::Error::source(broken) {
        Some(cause) => format!("{broken}: {cause}"),
        None => broken.to_string(),
    }
}
