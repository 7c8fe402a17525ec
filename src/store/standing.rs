//! How jobs stand, without their specs: thousands at once, for whoever waits for them.

use rusqlite::{Row, params};

use super::error::StoreError;
use super::tx::{Db, from_json};
use crate::domain::ids::{JobId, SubmissionId};
use crate::domain::job::state::Progress;
use crate::domain::standing::JobStanding;

impl Db<'_> {
    /// How all jobs of a submission stand, in the order in which they were accepted.
    pub fn standings_of(&self, submission: SubmissionId) -> Result<Vec<JobStanding>, StoreError> {
        let sql = "SELECT id, name, progress FROM jobs WHERE submission = ?1 ORDER BY seq";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![submission.0])?;
        let mut standings = Vec::new();
        while let Some(row) = rows.next()? {
            standings.push(standing(row)?);
        }
        Ok(standings)
    }

    /// How these jobs stand, in this order; those that are not known are left out.
    pub fn standings(&self, jobs: &[JobId]) -> Result<Vec<JobStanding>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT id, name, progress FROM jobs WHERE id = ?1")?;
        let mut standings = Vec::with_capacity(jobs.len());
        for id in jobs {
            let mut rows = statement.query([id.0])?;
            standings.extend(rows.next()?.map(standing).transpose()?);
        }
        Ok(standings)
    }
}

fn standing(row: &Row<'_>) -> Result<JobStanding, StoreError> {
    let job_id = JobId(row.get(0)?);
    let what = format!("job {job_id}");
    let text = row.get_ref(2)?.as_str().map_err(|e| StoreError::corrupt(&what, e))?;
    let Progress { state, attempt, .. } = from_json(&what, text)?;
    Ok(JobStanding {
        job_id,
        name: row.get(1)?,
        state: state.kind(),
        status: state,
        attempt,
        progress: None,
        ahead: None,
        held: Vec::new(),
    })
}
