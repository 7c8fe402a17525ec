//! What this worker says about itself.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Worker;
use crate::domain::names::RepositoryName;
use crate::domain::worker::WorkerAbout;

/// How often it is looked which repositories are there.
const LOOK: Duration = Duration::from_secs(5);

/// How often the publisher repairs what was left.
const TIDY: Duration = Duration::from_secs(30);

/// The repositories that can be served; none where that cannot be told.
pub(super) type Served = Mutex<Option<Vec<RepositoryName>>>;

impl Worker {
    /// For the next heartbeat.
    pub(super) fn about(&self) -> WorkerAbout {
        WorkerAbout {
            repositories: self.served.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            publisher: Some(self.publisher.kind().to_owned()),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            slots: Some(self.slots.number()),
            draining: !self.draining.takes(),
            drained: self.draining.drained(),
            whitelists: self.whitelists(),
            faults: self.faults.all(),
        }
    }

    /// Whether a batch of this repository can be carried out here.
    pub(super) fn serves(&self, repository: &RepositoryName) -> bool {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.as_ref().is_none_or(|served| served.contains(repository))
    }

    /// Looks which repositories are there. Not within the heartbeat: a file system that hangs must not cost the claims.
    pub(super) async fn look(self: &Arc<Self>) {
        let (worker, named) = (Arc::clone(self), self.adjustable().repositories);
        let looking = tokio::task::spawn_blocking(move || {
            let mut served = named.or_else(|| worker.publisher.repositories())?;
            // Others may be able to, meanwhile.
            served.retain(|repository| {
                let fault = worker.publisher.fault(repository);
                let is_fit = fault.is_none();
                worker
                    .faults
                    .note(repository.to_string(), fault.map(|fault| format!("repository {repository}: {fault}")));
                is_fit
            });
            Some(served)
        });
        let Ok(served) = looking.await else { return };
        let mut known = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != served {
            *known = served;
            drop(known);
            self.beat.notify_one();
        }
    }

    /// Has the publisher repair what can be repaired, again and again.
    pub(super) async fn keep_tidy(self: Arc<Self>) -> Infallible {
        loop {
            let publisher = Arc::clone(&self.publisher);
            // One that panics is called again.
            let _ = tokio::task::spawn_blocking(move || publisher.tidy()).await;
            self.look().await;
            tokio::time::sleep(TIDY).await;
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
