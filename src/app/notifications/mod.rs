//! Notifications: what is announced, to whom, and in which order.
//!
//! Whatever brings a message, it is verified, must be newer than its repository's last one, is stored, and only then told.
//! Independent of [`Engine`](super::Engine): a server of notifications alone has none.

mod exchange;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod watching;

#[cfg(test)]
pub(crate) use tests::{unverified, unverified_message};

use std::sync::Arc;

use tokio::sync::watch;

use super::clock::Clock;
use crate::domain::names::RepositoryName;
use crate::domain::notification::{Accepted, Announcement, Message, Origin, Proof};
pub use crate::notify::figures::{Counted, Dialect, Fate, Figures};
use crate::notify::hub::Hub;
pub use crate::notify::hub::Subscription;
pub use crate::notify::verify::Refusal;
use crate::notify::verify::Verifier;
use crate::store::{Store, StoreError};

/// Why a message was not accepted. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// It cannot be believed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Our side.
    #[error("the database could not do it")]
    Store(#[from] StoreError),
}

/// The one way in for messages, and the way out for all who wait for them.
pub struct Notifications {
    store: Store,
    hub: Arc<Hub>,
    verifier: Verifier,
    clock: Arc<dyn Clock>,
    figures: Arc<Figures>,
}

impl Notifications {
    /// Starts with the messages that are stored.
    pub async fn start(store: Store, verifier: Verifier, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let last = store.read(|db| db.notifications()).await?;
        Ok(Self { store, hub: Arc::new(Hub::new(last)), verifier, clock, figures: Arc::default() })
    }

    /// Verifies a message, stores it and tells it, if its revision is above its repository's last one.
    ///
    /// A revision that is not is accepted just as well where it was published later and nothing vouches for the last
    /// message any more: then the repository was made anew under its name.
    pub async fn publish(
        &self,
        message: Message,
        proof: Option<&Proof>,
        origin: Origin,
    ) -> Result<Accepted<Arc<Announcement>>, NotifyError> {
        let accepted = self.accept(message, proof, origin).await;
        self.figures.message(match &accepted {
            Ok(Accepted::Told(_)) => Fate::Told,
            Ok(Accepted::NotNewer { .. }) => Fate::NotNewer,
            Err(NotifyError::Refused(_)) => Fate::Refused,
            Err(NotifyError::Store(_)) => Fate::NotStored,
        });
        accepted
    }

    async fn accept(
        &self,
        message: Message,
        proof: Option<&Proof>,
        origin: Origin,
    ) -> Result<Accepted<Arc<Announcement>>, NotifyError> {
        let known = self.last(message.repository());
        if let Some(known) = &known
            && known.message.manifest() == message.manifest()
        {
            return Ok(Accepted::NotNewer { last: known.revision });
        }
        let now = self.clock.now();
        let verified = self.verifier.verify(&message, proof, now.as_second()).await?;
        let revision = verified.revision;
        // The message that stands in the way and must not. Another may have come since, which may.
        let void = match known.filter(|known| known.revision >= revision) {
            Some(known) if self.verifier.is_void(&known.message, verified).await => Some(known.number),
            _ => None,
        };
        // A task of its own: whoever asked may go in the middle, and what is stored must be told.
        let telling =
            tokio::spawn(take(self.store.clone(), Arc::clone(&self.hub), now, revision, origin, message, void));
        Ok(telling.await.unwrap_or(Err(StoreError::Stopped))?)
    }

    /// Announces the manifest of a repository: the bytes of `.cvmfspublished`.
    pub async fn announce(
        &self,
        repository: RepositoryName,
        manifest: &[u8],
        proof: Option<&Proof>,
        origin: Origin,
    ) -> Result<Accepted<Arc<Announcement>>, NotifyError> {
        let timestamp = self.clock.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        self.publish(Message::about(repository, manifest, &timestamp), proof, origin).await
    }

    /// A subscription to no repository yet. Of each that is added it has the last message at once.
    pub fn subscribe(&self) -> Subscription {
        Subscription::new(Arc::clone(&self.hub))
    }

    /// The last message of a repository.
    pub fn last(&self, repository: &RepositoryName) -> Option<Arc<Announcement>> {
        self.hub.last(repository)
    }

    /// The number of the last message of all: when it rises, [`since`](Self::since) has something. For whoever passes all of
    /// them on.
    pub fn told(&self) -> watch::Receiver<u64> {
        self.hub.told()
    }

    /// The repositories' last messages that have a higher number than this, in the order of their numbers.
    pub fn since(&self, number: u64) -> Vec<Arc<Announcement>> {
        self.hub.since(number)
    }

    /// How many wait for messages, each counted once for each of its repositories.
    pub fn subscribers(&self) -> usize {
        self.hub.subscribers()
    }

    /// The repositories that something is known of.
    pub fn announced(&self) -> usize {
        self.hub.since(0).len()
    }

    /// What was done since the process began.
    pub fn figures(&self) -> &Arc<Figures> {
        &self.figures
    }

    /// Where a repository's files are, as the settings say.
    pub fn url(&self, repository: &RepositoryName) -> Option<String> {
        self.verifier.url(repository)
    }
}

/// Stores a message and tells it, if its revision is above the last one, or the last one is `void`.
async fn take(
    store: Store,
    hub: Arc<Hub>,
    now: jiff::Timestamp,
    revision: u64,
    origin: Origin,
    message: Message,
    void: Option<u64>,
) -> Result<Accepted<Arc<Announcement>>, StoreError> {
    let message = Arc::new(message);
    let stored = Arc::clone(&message);
    let number = store
        .write(move |tx| match tx.announced(stored.repository())? {
            Some((number, last)) if last >= revision && void != Some(number) => {
                Ok::<_, StoreError>(Accepted::NotNewer { last })
            }
            _ => tx.put_notification(now, revision, origin, &stored).map(Accepted::Told),
        })
        .await?;
    Ok(match number {
        Accepted::NotNewer { last } => Accepted::NotNewer { last },
        Accepted::Told(number) => {
            let message = Arc::unwrap_or_clone(message);
            tracing::info!(repository = %message.repository(), revision, origin = origin.as_str(), "announced");
            let announcement = Arc::new(Announcement { number, revision, origin, message });
            hub.tell(Arc::clone(&announcement));
            Accepted::Told(announcement)
        }
    })
}
