//! Repositories that others publish: what the watcher finds is announced.

use std::convert::Infallible;

use super::Notifications;
use crate::causes::sentence;
use crate::domain::names::RepositoryName;
use crate::domain::notification::Origin;
use crate::notify::watch::Watcher;

impl Notifications {
    /// Announces what a watcher finds. Never ends by itself.
    pub async fn watch(&self, repository: &RepositoryName, mut watcher: Watcher) -> Infallible {
        let place = watcher.place().to_string();
        let mut trouble: Option<String> = None;
        loop {
            let now = match watcher.next().await {
                Ok(manifest) => match self.announce(repository.clone(), &manifest, None, Origin::Watched).await {
                    Ok(_) => None,
                    Err(error) => {
                        // Its whitelist may be signed anew, its key may come.
                        watcher.forget();
                        Some(sentence(&error))
                    }
                },
                Err(error) => Some(sentence(&error)),
            };
            match &now {
                Some(why) if trouble.as_ref() != Some(why) => {
                    tracing::warn!(%repository, place, "it is watched, and not announced; trying again: {why}");
                }
                None if trouble.is_some() => tracing::info!(%repository, place, "it is watched, and announced again"),
                _ => {}
            }
            trouble = now;
        }
    }
}
