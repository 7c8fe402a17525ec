//! What this worker says about itself.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Worker;
use crate::domain::names::RepositoryName;
use crate::domain::worker::WorkerAbout;

/// How often it is looked which repositories are there.
const LOOK: Duration = Duration::from_secs(5);

/// The repositories that can be served; none where that cannot be told.
pub(super) type Served = Mutex<Option<Vec<RepositoryName>>>;

impl Worker {
    /// For the next heartbeat.
    pub(super) fn about(&self) -> WorkerAbout {
        WorkerAbout {
            repositories: self.served.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            publisher: Some(self.publisher.kind().to_owned()),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            slots: Some(self.settings.slots),
            draining: !self.draining.takes(),
            drained: self.draining.drained(),
        }
    }

    /// Whether a batch of this repository can be carried out here.
    pub(super) fn serves(&self, repository: &RepositoryName) -> bool {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.as_ref().is_none_or(|served| served.contains(repository))
    }

    /// Looks which repositories are there. Not within the heartbeat: a file system that hangs must not cost the claims.
    pub(super) async fn look(self: &Arc<Self>) {
        let served = match &self.settings.repositories {
            Some(named) => Some(named.clone()),
            None => {
                let publisher = Arc::clone(&self.publisher);
                let Ok(found) = tokio::task::spawn_blocking(move || publisher.repositories()).await else { return };
                found
            }
        };
        let mut known = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != served {
            *known = served;
            drop(known);
            self.beat.notify_one();
        }
    }

    /// Looks again and again: repositories come and go.
    pub(super) async fn keep_looking(self: Arc<Self>) -> Infallible {
        loop {
            tokio::time::sleep(LOOK).await;
            self.look().await;
        }
    }
}
