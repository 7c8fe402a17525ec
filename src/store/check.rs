//! Checks what the database must always be: every job's row is the sum of its events.

use rusqlite::params;

use super::error::StoreError;
use super::jobs::{JOB_COLUMNS, job_from_row};
use super::tx::{Db, from_json};
use crate::domain::ids::JobId;
use crate::domain::job::event::JobEvent;
use crate::domain::job::{Job, replay};

impl Db<'_> {
    /// Hands every job to `visit`, oldest first, with its events in their order. Holds one job at a time.
    pub fn for_each_job<E: From<StoreError>>(
        &self,
        mut visit: impl FnMut(Job, Vec<JobEvent>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut after = 0;
        while let Some(job) = self.job_after(after)? {
            after = job.seq;
            let events = self.events_of(after)?;
            visit(job, events)?;
        }
        Ok(())
    }

    /// The jobs whose row is not the sum of their events, each with what is wrong, in words. None is as it must be.
    pub fn damaged_jobs(&self) -> Result<Vec<String>, StoreError> {
        let mut damaged = Vec::new();
        self.for_each_job::<StoreError>(|job, events| {
            match replay(&events) {
                Ok(progress) if progress.as_ref() == Some(&job.progress) => {}
                Ok(_) => damaged.push(format!("job {}: its row is not the sum of its events", job.id())),
                Err(error) => damaged.push(format!("job {}: {error}", job.id())),
            }
            let column = self.job_state(job.id())?.map(|(_, state)| state);
            if column != Some(job.progress.state.kind()) {
                damaged.push(format!("job {}: its state column is not its state", job.id()));
            }
            Ok(())
        })?;
        Ok(damaged)
    }

    /// All that happened to a job, in order.
    pub fn story(&self, id: JobId) -> Result<Vec<JobEvent>, StoreError> {
        self.job_state(id)?.map_or(Ok(Vec::new()), |(seq, _)| self.events_of(seq))
    }

    fn job_after(&self, seq: u64) -> Result<Option<Job>, StoreError> {
        let sql = format!("SELECT {JOB_COLUMNS} FROM jobs WHERE seq > ?1 ORDER BY seq LIMIT 1");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([seq])?;
        rows.next()?.map(job_from_row).transpose()
    }

    fn events_of(&self, seq: u64) -> Result<Vec<JobEvent>, StoreError> {
        let mut statement =
            self.connection.prepare_cached("SELECT number, event FROM events WHERE job = ?1 ORDER BY number")?;
        let mut rows = statement.query(params![seq])?;
        let mut events = Vec::new();
        while let Some(row) = rows.next()? {
            let number: u64 = row.get(0)?;
            events.push(from_json(&format!("event {number}"), &row.get::<_, String>(1)?)?);
        }
        Ok(events)
    }
}
