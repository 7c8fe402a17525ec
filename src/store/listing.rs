//! Searching for jobs.

use rusqlite::types::Value;

use super::error::StoreError;
use super::jobs::{JOB_COLUMNS, job_from_row};
use super::tx::Db;
use crate::domain::ids::SubmissionId;
use crate::domain::job::Job;
use crate::domain::job::state::StateKind;
use crate::domain::names::RepositoryName;

/// Which jobs are wanted; what is absent does not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// In one of these states; empty for all.
    pub states: Vec<StateKind>,
    /// Of this repository.
    pub repository: Option<RepositoryName>,
    /// Of this name.
    pub name: Option<String>,
    /// Of this submission.
    pub submission: Option<SubmissionId>,
    /// Of this submitter.
    pub submitter: Option<String>,
    /// With all of these labels.
    pub labels: Vec<(String, String)>,
}

impl Db<'_> {
    /// The newest jobs that match, at most `limit`, older than number `before` where given; with the number to go on from.
    pub fn list(
        &self,
        filter: &JobFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<Job>, Option<u64>), StoreError> {
        let mut conditions = Vec::new();
        let mut values: Vec<Value> = Vec::new();
        // Each `?` is a parameter of its own; values come in the same order.
        let mut add = |condition: &str, given: &[Value]| {
            conditions.push(condition.to_owned());
            values.extend_from_slice(given);
        };
        let text = |text: &str| Value::Text(text.to_owned());
        if let Some(before) = before {
            add("jobs.seq < ?", &[Value::Integer(i64::try_from(before).unwrap_or(i64::MAX))]);
        }
        if let Some(repository) = &filter.repository {
            add("jobs.repository = ?", &[text(repository.as_str())]);
        }
        if let Some(name) = &filter.name {
            add("jobs.name = ?", &[text(name)]);
        }
        if let Some(submitter) = &filter.submitter {
            add("jobs.submitter = ?", &[text(submitter)]);
        }
        if let Some(submission) = filter.submission {
            add("jobs.submission = ?", &[Value::Blob(submission.0.as_bytes().to_vec())]);
        }
        for (key, value) in &filter.labels {
            let condition =
                "EXISTS (SELECT 1 FROM labels WHERE labels.key = ? AND labels.value = ? AND labels.job = jobs.seq)";
            add(condition, &[text(key), text(value)]);
        }
        if !filter.states.is_empty() {
            let words: Vec<_> = filter.states.iter().map(|state| format!("'{}'", state.as_str())).collect();
            conditions.push(format!("jobs.state IN ({})", words.join(", ")));
        }
        let filter = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
        let sql = format!("SELECT {JOB_COLUMNS} FROM jobs WHERE {filter} ORDER BY jobs.seq DESC LIMIT {}", limit + 1);
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(values))?;
        let mut jobs = Vec::new();
        let (mut looked_at, mut next) = (0, None);
        while let Some(row) = rows.next()? {
            looked_at += 1;
            if looked_at > limit {
                return Ok((jobs, next));
            }
            next = Some(row.get(0)?);
            jobs.extend(self.readable(job_from_row(row))?);
        }
        Ok((jobs, None))
    }
}
