//! What of the settings can change while the server runs, and what follows from a change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::app::rabbitmq::fleets;
use crate::app::{AppError, Engine, withdraw_offer};
use crate::domain::batch::BatchState;
use crate::domain::fleet::Repositories;
use crate::domain::job::state::StateKind;
use crate::domain::names::RepositoryName;
use crate::domain::plan::BatchLimits;
use crate::domain::visible::VisibleUrls;
use crate::store::StoreError;

/// What jobs are accepted for and how they are put together. What is accepted already is never lost by a change: jobs of a
/// repository that is not configured any more wait until it is again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The repositories that jobs are accepted for.
    pub repositories: Arc<Repositories>,
    /// How large a batch may become.
    pub batches: BatchLimits,
    /// How long a lost batch may stay unreadable before a person is asked.
    pub recovery_limit: Duration,
    /// Whether a job's submitter is the name of the token that submitted it, whatever the job says.
    pub submitter_is_owner: bool,
    /// The URLs that jobs may have asked for their revision.
    pub visible_urls: VisibleUrls,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Jobs that no worker has.
    pub queued: u64,
    /// Jobs that a worker has, or had when it was lost.
    pub running: u64,
    /// Jobs that a person must settle.
    pub needs_operator: u64,
}

impl Engine {
    /// What is in force.
    pub fn rules(&self) -> Arc<Rules> {
        self.dispatcher.rules()
    }

    /// Puts other rules in force: offers that nobody has claimed are withdrawn where the rules of their repository changed, and
    /// everything is planned anew. What workers have goes on to its end.
    ///
    /// Where this cannot be stored the rules are in force all the same, and the next tick goes on.
    pub async fn set_rules(&self, rules: Rules) -> Result<(), AppError> {
        let now = Arc::clone(&rules.repositories);
        let before = self.dispatcher.set_rules(rules);
        let changed = changed(&before.repositories, &now);
        self.dispatcher.workers.configured(&now);
        self.fleets.send_if_modified(|there| {
            let wanted = fleets(&now);
            let is_other = *there != wanted;
            *there = wanted;
            is_other
        });
        let fleet = |repositories: &Repositories, name| repositories.get(name).map(|rules| rules.fleet.clone());
        if changed.iter().any(|name| fleet(&before.repositories, name) != fleet(&now, name)) {
            // Ranks are compared within a fleet.
            self.dispatcher.restore_shares(self.store.read(|db| Ok::<_, AppError>(db.pending()?)).await?);
        }
        self.live().unsettled.get_or_insert_default().extend(changed);
        self.withdraw_unsettled().await
    }

    /// Withdraws what a change of the rules made wrong, where that could not be stored before.
    pub(super) async fn withdraw_unsettled(&self) -> Result<(), AppError> {
        let Some(changed) = self.live().unsettled.take() else { return Ok(()) };
        let result = self.withdraw_changed(changed.clone()).await;
        if result.is_err() {
            self.live().unsettled.get_or_insert_default().extend(changed);
        }
        Ok(result?)
    }

    /// Withdraws offers that nobody has claimed, of these repositories, of those that moved to another fleet, and of those that
    /// are not configured any more, and plans everything. What cannot be read is set aside.
    pub(super) async fn withdraw_changed(&self, changed: BTreeSet<RepositoryName>) -> Result<(), StoreError> {
        self.dispatcher.plan_everything();
        let withdrawn = self
            .write(move |tx, now, dispatcher| {
                tx.set_unreadable_batches_aside()?;
                let repositories = dispatcher.repositories();
                for mut batch in tx.live_batches()? {
                    let rules = repositories.get(&batch.repository);
                    let is_right = rules.is_some_and(|rules| rules.fleet == batch.fleet);
                    let is_open = matches!(batch.state, BatchState::Unsent | BatchState::Offered { .. });
                    if !is_open || is_right && !changed.contains(&batch.repository) {
                        continue;
                    }
                    withdraw_offer(tx, now, dispatcher, &mut batch)?;
                    let why = match rules {
                        None => "its repository is not configured any more",
                        Some(_) if !is_right => "its repository moved to another fleet",
                        Some(_) => "the rules of its repository changed",
                    };
                    tracing::info!(batch.id = %batch.id, repository = %batch.repository, "{why}; the offer is withdrawn");
                }
                Ok(())
            })
            .await;
        match withdrawn {
            Err(AppError::Store(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// How many jobs have not ended; reads an entry of an index for each of them.
    pub async fn load(&self) -> Result<Load, AppError> {
        let counts = self.store.read(|db| Ok::<_, AppError>(db.count_unfinished()?)).await?;
        let sum = |kinds: &[StateKind]| counts.iter().filter(|(kind, _)| kinds.contains(kind)).map(|(_, n)| n).sum();
        Ok(Load {
            running: sum(&[StateKind::Running, StateKind::Recovering]),
            needs_operator: sum(&[StateKind::NeedsOperator]),
            queued: sum(&[
                StateKind::Waiting,
                StateKind::AwaitingApproval,
                StateKind::Queued,
                StateKind::Backoff,
                StateKind::Offered,
            ]),
        })
    }

    /// How many workers were heard of and are not silent.
    pub fn living_workers(&self) -> usize {
        self.dispatcher.workers.living()
    }

    /// How many jobs of repositories that are not configured wait, by the repository's name.
    pub async fn stranded(&self) -> Result<BTreeMap<String, u64>, AppError> {
        let known = self.repositories();
        let open = self.store.read(|db| Ok::<_, AppError>(db.count_open()?)).await?;
        let is_known = |name: &str| RepositoryName::new(name).is_ok_and(|name| known.contains_key(&name));
        let counted = open.into_iter().map(|(name, counts)| (name, counts.values().sum()));
        Ok(counted.filter(|(name, _)| !is_known(name)).collect())
    }
}

/// The repositories that came, went, or have other rules.
fn changed(before: &Repositories, now: &Repositories) -> BTreeSet<RepositoryName> {
    let all = before.keys().chain(now.keys());
    all.filter(|name| before.get(*name) != now.get(*name)).cloned().collect()
}
