//! What was published is announced: noted in the commit that records the publish, told after it, and forgotten once it was told.

use crate::app::{AppError, Engine};
use crate::domain::names::RepositoryName;
use crate::domain::signed::SignedManifest;
use crate::store::{DueAnnouncement, Tx};

impl Engine {
    /// Tells whoever announces that there is something.
    pub(super) fn something_to_announce(&self) {
        self.announcements.send_replace(());
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
        Some(DueAnnouncement { repository: repository.clone(), revision: signed.revision()?, signed })
    });
    match due {
        Some(due) => Ok(tx.announce_later(&due)?),
        None => {
            tracing::warn!(%repository, "a worker gave what is no manifest with the news of a publish, which is not announced");
            Ok(())
        }
    }
}
