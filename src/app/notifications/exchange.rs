//! Messages between servers, by the exchange that `cvmfs-notify` uses.
//!
//! What is told here is sent there at least once, also where the server ended in between: the number of the last message that the
//! broker confirmed is kept in the database. What others tell there comes in like any other message. It is given to nobody who was
//! away, so a server asks the others for what it missed whenever it comes back, and now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::{Notifications, NotifyError};
use crate::broker::rabbitmq::{Activity, BrokerError, Heard, News, Pause, Settings};
use crate::broker::{Link, Status};
use crate::causes::sentence;
use crate::domain::names::RepositoryName;
use crate::domain::notification::{Message, Origin};
use crate::store::StoreError;

/// How often it is looked whether the connection stands and which repositories are wanted.
const LOOK: Duration = Duration::from_secs(1);
/// How often all is declared anew, and the others are asked.
const RENEW: Duration = Duration::from_secs(60);

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("the database could not do it")]
    Store(#[from] StoreError),
}

impl Notifications {
    /// Sends to the exchange and hears from it; begins anew whenever that fails. Never ends by itself. Besides the repositories
    /// that `wanted` gives, which may change, those are heard of that anybody here ever asked for.
    pub async fn drive_exchange(
        &self,
        settings: &Settings,
        exchange: &str,
        wanted: impl Fn() -> BTreeSet<RepositoryName>,
        status: &Status,
    ) -> Infallible {
        let mut pause = Pause::default();
        loop {
            let began = Instant::now();
            let Err(broken) = self.serve_exchange(settings, exchange, &wanted, status).await;
            let why = sentence(&broken);
            if status.set(Link::Down, Some(why.clone())) {
                tracing::warn!(
                    broker = settings.address(),
                    exchange,
                    "notifications are not exchanged with other servers; trying again: {why}"
                );
            } else {
                tracing::debug!(exchange, "notifications are still not exchanged: {why}");
            }
            tokio::time::sleep(pause.next(began.elapsed())).await;
        }
    }

    async fn serve_exchange(
        &self,
        settings: &Settings,
        exchange: &str,
        wanted: &impl Fn() -> BTreeSet<RepositoryName>,
        status: &Status,
    ) -> Result<Infallible, Broken> {
        let (activity, heard) = Activity::open(settings, exchange).await?;
        let binding = async {
            let mut renewed = Instant::now();
            loop {
                if !activity.connection().is_alive() {
                    let (action, why) = ("keep the connection".into(), "it broke".into());
                    return Err::<Infallible, Broken>(BrokerError::Refused { action, why, code: None }.into());
                }
                let mut repositories = wanted();
                repositories.extend(self.hub.repositories());
                let mut ask = activity.bind(&repositories).await?;
                if renewed.elapsed() >= RENEW {
                    activity.renew().await?;
                    renewed = Instant::now();
                    ask = repositories;
                }
                if !ask.is_empty() {
                    activity.ask(self.known(ask)).await?;
                }
                let (link, reason) = match activity.connection().is_blocked() {
                    true => (Link::Blocked, Some("the broker lacks memory or disk and takes nothing".to_owned())),
                    false => (Link::Up, None),
                };
                if status.set(link, reason) {
                    tracing::info!(
                        broker = settings.address(),
                        exchange,
                        state = link.as_str(),
                        "the exchange of notifications changed its state"
                    );
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::try_join!(binding, self.tell_exchange(&activity), self.hear(&activity, heard)).map(|(never, ..)| never)
    }

    /// Sends what was told here and is not confirmed yet.
    async fn tell_exchange(&self, activity: &Activity) -> Result<Infallible, Broken> {
        let mut told = self.told();
        let mut cursor = self.store.read(|db| db.activity_told()).await?;
        loop {
            told.mark_unchanged();
            let due = self.since(cursor);
            let Some(last) = due.last().map(|last| last.number) else {
                let _ = told.changed().await;
                continue;
            };
            // What came from there is there.
            let ours = due.iter().filter(|announcement| announcement.origin != Origin::Exchange);
            let messages: Vec<_> = ours
                .map(|ours| (ours.message.repository().clone(), ours.number, ours.message.text().to_owned()))
                .collect();
            crate::crash::point("notify.before-send");
            activity.tell(&messages).await?;
            crate::crash::point("notify.sent");
            self.store.write(move |tx| tx.set_activity_told(last)).await?;
            cursor = last;
        }
    }

    /// Takes what comes. Several are judged at a time: whoever vouches for one may be slow.
    async fn hear(&self, activity: &Activity, mut heard: Heard) -> Result<Infallible, Broken> {
        let mut judged = FuturesUnordered::new();
        loop {
            tokio::select! {
                news = heard.next() => {
                    let News { body, receipt, is_question } = news?;
                    if !is_question {
                        judged.push(async move { self.judge(&body).await.map(|()| receipt) });
                        continue;
                    }
                    if let Some(have) = activity.question(&body) {
                        activity.tell(&self.newer(&have)).await?;
                    }
                    activity.acknowledge(receipt).await?;
                }
                Some(receipt) = judged.next() => activity.acknowledge(receipt?).await?,
            }
        }
    }

    /// A message from the exchange: what is wrong with one is told, and is no reason to do without the others.
    async fn judge(&self, body: &[u8]) -> Result<(), Broken> {
        let message = match Message::parse(body) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(%error, "a message on the exchange is none; it is dropped");
                return Ok(());
            }
        };
        let repository = message.repository().clone();
        match self.publish(message, None, Origin::Exchange).await {
            Ok(_) => Ok(()),
            Err(NotifyError::Refused(refusal)) => {
                tracing::warn!(%repository, "a message on the exchange is not believed: {}; {}", sentence(&refusal), refusal.hint());
                Ok(())
            }
            Err(NotifyError::Store(error)) => Err(error.into()),
        }
    }

    /// The revisions that are known here, 0 where none is.
    fn known(&self, of: BTreeSet<RepositoryName>) -> BTreeMap<RepositoryName, u64> {
        of.into_iter().map(|name| (name.clone(), self.last(&name).map_or(0, |last| last.revision))).collect()
    }

    /// What is known here and newer than what others have.
    fn newer(&self, than: &BTreeMap<RepositoryName, u64>) -> Vec<(RepositoryName, u64, String)> {
        let newer = |(name, have): (&RepositoryName, &u64)| {
            let last = self.last(name).filter(|last| last.revision > *have)?;
            Some((name.clone(), last.number, last.message.text().to_owned()))
        };
        than.iter().filter_map(newer).collect()
    }
}
