//! How repositories stand.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::app::dispatch::Dispatcher;
use crate::app::{AppError, Engine, readable_job};
use crate::domain::hold::Hold;
use crate::domain::job::state::{JobState, StateKind};
use crate::domain::names::RepositoryName;
use crate::domain::repository::{LastFailure, LastSuccess, LiveBatch, RepositoryList, RepositoryView};
use crate::store::Db;
use crate::store::repositories::StoredHold;

impl Engine {
    /// All repositories that jobs are accepted for.
    pub async fn repository_list(&self) -> Result<RepositoryList, AppError> {
        let (dispatcher, now) = (std::sync::Arc::clone(&self.dispatcher), self.clock.now());
        let read = move |db: &Db<'_>| {
            let (stored, mut counts) = (db.holds()?, db.count_open()?);
            let mut batches: BTreeMap<RepositoryName, Vec<LiveBatch>> = BTreeMap::new();
            for (repository, batch) in all_live_batches(db)? {
                batches.entry(repository).or_default().push(batch);
            }
            let repositories = dispatcher.repositories();
            let views = repositories.keys().map(|name| RepositoryView {
                batches: batches.remove(name).unwrap_or_default(),
                jobs: counts.remove(name.as_str()).unwrap_or_default(),
                ..bare(&dispatcher, name, &stored, now)
            });
            Ok::<_, AppError>(RepositoryList { repositories: views.collect() })
        };
        self.store.read(read).await
    }

    /// One repository.
    pub async fn repository(&self, name: RepositoryName) -> Result<RepositoryView, AppError> {
        if !self.repositories().contains_key(&name) {
            return Err(AppError::NotFound { what: "repository", id: name.to_string() });
        }
        let (dispatcher, now) = (std::sync::Arc::clone(&self.dispatcher), self.clock.now());
        self.store.read(move |db| view(db, &dispatcher, &name, now)).await
    }
}

/// How one repository stands, with its last jobs.
pub(super) fn view(
    db: &Db<'_>,
    dispatcher: &Dispatcher,
    name: &RepositoryName,
    now: Timestamp,
) -> Result<RepositoryView, AppError> {
    let last_success = db.last_published(name)?.and_then(|job| {
        let (revision, root_hash) = job.progress.state.published()?;
        let root_hash = root_hash.to_owned();
        Some(LastSuccess { job_id: job.spec.id, revision, root_hash, at: job.updated_at })
    });
    let last_failure = db.last_failed(name)?.and_then(|job| match job.progress.state {
        JobState::Failed { failure, .. } => {
            Some(LastFailure { job_id: job.spec.id, code: failure.code, message: failure.message, at: job.updated_at })
        }
        _ => None,
    });
    Ok(RepositoryView {
        batches: live_batches(db, name)?,
        jobs: db.count_open()?.remove(name.as_str()).unwrap_or_default(),
        last_success,
        last_failure,
        ..bare(dispatcher, name, &db.holds()?, now)
    })
}

/// The batches of a repository that are not settled.
pub(super) fn live_batches(db: &Db<'_>, repository: &RepositoryName) -> Result<Vec<LiveBatch>, AppError> {
    Ok(all_live_batches(db)?.into_iter().filter(|(of, _)| of == repository).map(|(_, batch)| batch).collect())
}

fn all_live_batches(db: &Db<'_>) -> Result<Vec<(RepositoryName, LiveBatch)>, AppError> {
    let mut found = Vec::new();
    for batch in db.live_batches()? {
        let since = match batch.jobs.first() {
            Some(first) => readable_job(db, first.job_id)?.map(|job| job.updated_at),
            None => None,
        };
        let live = LiveBatch {
            batch_id: batch.id,
            state: batch.state.as_str().to_owned(),
            node: batch.state.node().map(str::to_owned),
            jobs: batch.jobs.len(),
            lease_path: batch.lease_path,
            since,
        };
        found.push((batch.repository, live));
    }
    Ok(found)
}

/// What is known without looking at jobs.
fn bare(dispatcher: &Dispatcher, name: &RepositoryName, stored: &[StoredHold], now: Timestamp) -> RepositoryView {
    let rules = dispatcher.repositories().get(name).cloned().unwrap_or_default();
    RepositoryView {
        repository: name.clone(),
        workers: dispatcher.workers.serving(&rules.fleet, name),
        holds: holds(dispatcher, name, stored, now),
        fleet: rules.fleet,
        gateway: rules.gateway,
        batch_root: rules.batch_root,
        // A directory is none that others could ask.
        url: rules
            .url
            .and_then(|url| url.parse().ok())
            .filter(|url: &url::Url| matches!(url.scheme(), "http" | "https")),
        batches: Vec::new(),
        jobs: BTreeMap::<StateKind, u64>::new(),
        last_success: None,
        last_failure: None,
    }
}

/// Why nothing of a repository is offered.
pub(super) fn holds(
    dispatcher: &Dispatcher,
    name: &RepositoryName,
    stored: &[StoredHold],
    now: Timestamp,
) -> Vec<Hold> {
    let said = stored.iter().filter(|stored| stored.repository == *name).map(|stored| stored.hold.clone());
    let repositories = dispatcher.repositories();
    let windows = repositories.get(name).map_or(&[][..], |rules| &rules.maintenance);
    said.chain(windows.iter().filter_map(|window| window.hold(now))).collect()
}
