//! Settles a publish that ended in an error: the error does not tell whether it happened, the repository does.

use std::sync::Arc;

use crate::domain::names::RepositoryName;
use crate::domain::outcome::Outcome;
use crate::publisher::{Evidence, Published, Publisher, PublisherError};

/// What a publish that failed with `error` comes down to.
pub(super) fn settle(
    publisher: &Arc<dyn Publisher>,
    repository: &RepositoryName,
    key: &str,
    error: &PublisherError,
) -> Result<Published, Outcome> {
    match publisher.recover(repository, key) {
        Ok(Evidence::Published(revision)) => {
            tracing::warn!(%repository, tag = key, error = error as &dyn std::error::Error, "the publish reported an error, and was made");
            Ok(revision.into())
        }
        Ok(Evidence::NotPublished) => Err(super::failure::outcome(error)),
        Err(unreadable) => Err(Outcome::Unknown {
            reason: format!("{}; then {}", super::failure::chain(error), super::failure::chain(&unreadable)),
        }),
    }
}
