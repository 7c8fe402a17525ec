//! What was published is announced: noted in the commit that records the publish, told after it, and forgotten once it was told.
//! So neither the end of a worker nor that of a server loses an announcement, and none comes before its job's success.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::PoisonError;
use std::time::Duration;

use crate::app::notifications::{Notifications, NotifyError};
use crate::app::{AppError, Engine};
use crate::broker::{Link, Status};
use crate::causes::sentence;
use crate::domain::names::RepositoryName;
use crate::domain::notification::{Origin, Proof};
use crate::domain::signed::{SignedManifest, SignedParts};
use crate::notify::verify::Refusal;
use crate::store::{DueAnnouncement, StoreError, Tx};

/// First pause after something could not be announced; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Why publishes are not announced, by repository.
pub(super) type Unannounced = BTreeMap<RepositoryName, (u64, String)>;

impl Engine {
    /// Tells whoever announces that there is something.
    pub(super) fn something_to_announce(&self) {
        self.announcements.send_replace(());
    }

    /// Announces what was published, also what an earlier life was to announce. Never ends by itself.
    pub async fn drive_announcements(&self, notifications: &Notifications) -> Infallible {
        let mut changed = self.announcements.subscribe();
        let mut pause = FIRST_PAUSE;
        loop {
            changed.mark_unchanged();
            match self.announce_due(notifications).await {
                Ok(true) => {
                    pause = FIRST_PAUSE;
                    // The sender lives as long as we do.
                    let _ = changed.changed().await;
                    continue;
                }
                Ok(false) => {}
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot read what is to be announced; trying again"
                ),
            }
            let _ = tokio::time::timeout(pause, changed.changed()).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// How the exchange of notifications stands, for whoever drives it.
    pub fn exchange(&self) -> &Status {
        self.exchange.get_or_init(Status::default)
    }

    /// Whether notifications are exchanged with other servers; nothing where they never are.
    pub fn exchanges(&self) -> Option<bool> {
        Some(self.exchange.get()?.snapshot().link == Link::Up)
    }

    /// What is wrong with notifications, a sentence each.
    pub fn notify_faults(&self) -> Vec<String> {
        let now = self.exchange.get().map(Status::snapshot);
        let exchange = now.filter(|now| matches!(now.link, Link::Down | Link::Blocked)).map(|now| {
            format!("notifications are not exchanged with other servers: {}", now.reason.unwrap_or_default())
        });
        exchange.into_iter().chain(self.unannounced()).collect()
    }

    /// The publishes that could not be announced until now, a sentence each.
    pub fn unannounced(&self) -> Vec<String> {
        let unannounced = self.unannounced.lock().unwrap_or_else(PoisonError::into_inner);
        let sentence = |(repository, (revision, why)): (&RepositoryName, &(u64, String))| {
            format!("revision {revision} of {repository} is published and not announced: {why}")
        };
        unannounced.iter().map(sentence).collect()
    }

    /// Announces all that is due; false where something is left for later.
    async fn announce_due(&self, notifications: &Notifications) -> Result<bool, StoreError> {
        let mut is_all = true;
        for due in self.store.read(|db| db.due_announcements()).await? {
            let DueAnnouncement { repository, revision, signed } = due;
            let SignedParts { manifest, certificate, whitelist } = signed;
            crate::crash::point("announce.before");
            let proof = Proof { whitelist, certificate };
            let told = notifications.announce(repository.clone(), &manifest, Some(&proof), Origin::Job).await;
            let refusal = match told {
                Ok(_) => None,
                Err(NotifyError::Refused(refusal)) => Some(refusal),
                Err(NotifyError::Store(error)) => return Err(error),
            };
            crate::crash::point("announce.told");
            let is_over = refusal.as_ref().is_none_or(Refusal::is_final);
            self.note_unannounced(&repository, revision, refusal, is_over);
            if is_over {
                self.store.write(move |tx| tx.forget_due_announcement(&repository, revision)).await?;
            } else {
                is_all = false;
            }
        }
        Ok(is_all)
    }

    /// Tells once what is wrong, and when it is good again.
    fn note_unannounced(&self, repository: &RepositoryName, revision: u64, refusal: Option<Refusal>, is_over: bool) {
        let mut unannounced = self.unannounced.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(refusal) = refusal else {
            unannounced.remove(repository);
            return;
        };
        let why = format!("{}; {}", sentence(&refusal), refusal.hint());
        let is_new = unannounced.get(repository).is_none_or(|(_, before)| *before != why);
        if is_new && is_over {
            tracing::error!(%repository, revision, "a publish is not announced: {why}");
        } else if is_new {
            tracing::warn!(%repository, revision, "a publish cannot be announced yet; trying again: {why}");
        }
        unannounced.insert(repository.clone(), (revision, why));
    }
}

/// Notes what a worker gave with the news of a publish. What cannot be a manifest is left out: whatever is wrong with it is no
/// reason to refuse the news.
pub(super) fn note(
    tx: &mut Tx<'_>,
    repository: &RepositoryName,
    signed: Option<&SignedManifest>,
) -> Result<(), AppError> {
    let Some(signed) = signed else { return Ok(()) };
    let due = signed.decode().and_then(|signed| {
        // SQLite's numbers end there.
        let revision = signed.revision().filter(|revision| i64::try_from(*revision).is_ok())?;
        Some(DueAnnouncement { repository: repository.clone(), revision, signed })
    });
    match due {
        Some(due) => Ok(tx.announce_later(&due)?),
        None => {
            tracing::warn!(%repository, "a worker gave what is no manifest with the news of a publish, which is not announced");
            Ok(())
        }
    }
}
