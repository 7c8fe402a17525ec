//! Looks at jobs and events; changes nothing.

use crate::app::repositories::holds;
use crate::app::resolve::unclear;
use crate::app::{AppError, Engine, job_or_not_found};
use crate::domain::access::TokenName;
use crate::domain::ids::{JobId, SubmissionId};
use crate::domain::job::LoggedEvent;
use crate::domain::job::state::StateKind;
use crate::domain::protocol::{JobList, JobView};
use crate::store::{Db, JobFilter};

/// Most jobs on a page.
pub const MAX_PAGE: usize = 1000;

impl Engine {
    /// One job.
    pub async fn job(&self, id: JobId) -> Result<JobView, AppError> {
        let (dispatcher, now) = (std::sync::Arc::clone(&self.dispatcher), self.clock.now());
        let read = move |db: &Db<'_>| {
            let mut job = JobView::from(job_or_not_found(db, id)?);
            job.ahead = db.ahead(id)?;
            if job.state == StateKind::Queued {
                let repository = &job.spec.publish().repository;
                let held = holds(&dispatcher, repository, &db.holds()?, now);
                job.held = held.iter().map(|hold| format!("repository {repository} is {hold}")).collect();
                if !dispatcher.repositories().contains_key(repository) {
                    let why = "is not in the server's configuration any more; the job waits until it is again";
                    job.held.push(format!("repository {repository} {why}"));
                }
            }
            job.unclear = unclear(db, &job.status)?;
            Ok::<JobView, AppError>(job)
        };
        let mut job = self.store.read(read).await?;
        self.add_progress(std::slice::from_mut(&mut job));
        self.add_replicas(&mut job);
        Ok(job)
    }

    /// Name of the token that submitted a job; it never changes.
    pub async fn owner(&self, id: JobId) -> Result<Option<TokenName>, AppError> {
        self.store.read(move |db| Ok(job_or_not_found(db, id)?.owner)).await
    }

    /// A page of jobs, newest first. `cursor`: what the page before gave.
    pub async fn list(&self, filter: JobFilter, cursor: Option<u64>, limit: usize) -> Result<JobList, AppError> {
        let mut list = self
            .store
            .read(move |db| {
                let (jobs, next_cursor) = db.list(&filter, cursor, limit.clamp(1, MAX_PAGE))?;
                Ok::<_, AppError>(JobList { jobs: jobs.into_iter().map(Into::into).collect(), next_cursor })
            })
            .await?;
        self.add_progress(&mut list.jobs);
        Ok(list)
    }

    /// Events after number `after`, of one job, one submission or all, in order, at most `limit`.
    pub async fn events(
        &self,
        job: Option<JobId>,
        submission: Option<SubmissionId>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<LoggedEvent>, AppError> {
        self.store
            .read(move |db| {
                if let Some(id) = job {
                    job_or_not_found(db, id)?;
                }
                Ok(db.events(job, submission, after, limit)?)
            })
            .await
    }

    /// How many jobs stand in each state; states without any are left out.
    pub async fn count_by_state(&self) -> Result<Vec<(StateKind, u64)>, AppError> {
        self.store.read(|db| Ok(db.count_by_state()?)).await
    }
}
