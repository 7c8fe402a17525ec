//! Jobs, their dependencies and their events.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, params};

use super::error::StoreError;
use super::tx::{Db, Tx, from_json, micros, timestamp, to_json};
use crate::domain::access::TokenName;
use crate::domain::ids::{JobId, SubmissionId};
use crate::domain::job::event::JobEvent;
use crate::domain::job::spec::{Condition, JobSpec, Source};
use crate::domain::job::state::{JobState, Progress, StateKind, next};
use crate::domain::job::{Job, LoggedEvent};
use crate::domain::names::RepositoryName;
use crate::domain::plan::ReadyJob;
use crate::domain::share::{PLACES_PER_PRIORITY, Pending};
use crate::planted::{self, Bug};

/// The columns that [`job_from_row`] reads.
pub(super) const JOB_COLUMNS: &str =
    "jobs.seq, jobs.submission, jobs.spec, jobs.progress, jobs.created_at, jobs.updated_at, jobs.owner";

/// A job that comes in.
#[derive(Debug, Clone, Copy)]
pub struct NewJob<'a> {
    /// The request it came in.
    pub submission: SubmissionId,
    /// Name of the token that submits it.
    pub owner: Option<&'a TokenName>,
    /// What is asked.
    pub spec: &'a JobSpec,
    /// Bytes of its payload, as far as they are known.
    pub bytes: u64,
    /// Its place in the order of the jobs that are ready, if it is.
    pub rank: i64,
}

pub(super) fn job_from_row(row: &Row<'_>) -> Result<Job, StoreError> {
    let seq: u64 = row.get(0)?;
    read_job(seq, row).map_err(|error| error.in_row(|| format!("job number {seq}")))
}

fn read_job(seq: u64, row: &Row<'_>) -> Result<Job, StoreError> {
    let what = || format!("job number {seq}");
    Ok(Job {
        seq,
        submission: SubmissionId(row.get(1)?),
        owner: row
            .get::<_, Option<String>>(6)?
            .map(TokenName::try_from)
            .transpose()
            .map_err(|e| StoreError::corrupt(what(), e))?,
        spec: from_json(&what(), row.get_ref(2)?.as_str().map_err(|e| StoreError::corrupt(what(), e))?)?,
        progress: from_json(&what(), row.get_ref(3)?.as_str().map_err(|e| StoreError::corrupt(what(), e))?)?,
        created_at: timestamp(row.get(4)?)?,
        updated_at: timestamp(row.get(5)?)?,
    })
}

impl Db<'_> {
    /// The job of this id.
    pub fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let sql = format!("SELECT {JOB_COLUMNS} FROM jobs WHERE id = ?1");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([id.0])?;
        rows.next()?.map(job_from_row).transpose()
    }

    /// The state of the job of this id, and its number.
    pub fn job_state(&self, id: JobId) -> Result<Option<(u64, StateKind)>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT seq, state FROM jobs WHERE id = ?1")?;
        let found: Option<(u64, String)> =
            statement.query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        found.map(|(seq, word)| Ok((seq, state_kind(seq, &word)?))).transpose()
    }

    /// The dependencies of a job: id, condition and present state of each.
    pub fn dependencies(&self, job: u64) -> Result<Vec<(JobId, Condition, StateKind)>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT jobs.id, dependencies.condition, jobs.state, jobs.seq FROM dependencies
             JOIN jobs ON jobs.seq = dependencies.depends_on WHERE dependencies.job = ?1 ORDER BY jobs.seq",
        )?;
        let mut rows = statement.query([job])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let condition: String = row.get(1)?;
            let state: String = row.get(2)?;
            found.push((JobId(row.get(0)?), from_json("a dependency", &condition)?, state_kind(row.get(3)?, &state)?));
        }
        Ok(found)
    }

    /// The jobs that name this one as a dependency and stand in the given state, oldest first.
    pub fn dependents(&self, job: u64, state: StateKind) -> Result<Vec<JobId>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT jobs.id FROM dependencies JOIN jobs ON jobs.seq = dependencies.job
             WHERE dependencies.depends_on = ?1 AND jobs.state = ?2 ORDER BY jobs.seq",
        )?;
        let rows = statement.query_map(params![job, state.as_str()], |row| Ok(JobId(row.get(0)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The place of a job in the order of those that are ready; 0 of one that never was.
    pub fn rank(&self, job: u64) -> Result<i64, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT rank FROM jobs WHERE seq = ?1")?;
        Ok(statement.query_row([job], |row| row.get(0))?)
    }

    /// The rank of the first job of a repository that is ready.
    pub fn first_ready(&self, repository: &RepositoryName) -> Result<Option<i64>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT rank FROM jobs WHERE repository = ?1 AND state = 'queued' ORDER BY rank, seq LIMIT 1",
        )?;
        Ok(statement.query_row([repository.as_str()], |row| row.get(0)).optional()?)
    }

    /// The jobs of a repository that are ready, by their rank, at most `limit`; without those that `is_damaged` knows.
    pub fn ready(
        &self,
        repository: &RepositoryName,
        limit: usize,
        mut is_damaged: impl FnMut(JobId) -> bool,
    ) -> Result<Vec<ReadyJob>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {READY_COLUMNS} FROM jobs WHERE repository = ?1 AND state = 'queued' ORDER BY rank, seq"
        ))?;
        let mut rows = statement.query(params![repository.as_str()])?;
        let mut ready = Vec::new();
        while ready.len() < limit
            && let Some(row) = rows.next()?
        {
            let id = JobId(row.get(0)?);
            if !is_damaged(id) {
                ready.extend(self.readable(ready_job(row))?);
            }
        }
        Ok(ready)
    }

    /// How many jobs of its repository go before this one, where it is ready.
    pub fn ahead(&self, id: JobId) -> Result<Option<u64>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT (SELECT count(*) FROM jobs AS other WHERE other.repository = jobs.repository AND other.state = 'queued'
                     AND (other.rank, other.seq) < (jobs.rank, jobs.seq))
             FROM jobs WHERE id = ?1 AND state = 'queued'",
        )?;
        Ok(statement.query_row([id.0], |row| row.get(0)).optional()?)
    }

    /// What [`Db::ready`] tells of one job, whether it is ready or not.
    pub fn as_ready(&self, id: JobId) -> Result<Option<ReadyJob>, StoreError> {
        let mut statement =
            self.connection.prepare_cached(&format!("SELECT {READY_COLUMNS} FROM jobs WHERE id = ?1"))?;
        let mut rows = statement.query([id.0])?;
        Ok(rows.next()?.map(|row| self.readable(ready_job(row))).transpose()?.flatten())
    }

    /// For each repository and submitter what has become ready and not ended; see [`crate::domain::share`].
    pub fn pending(&self) -> Result<Vec<(String, Pending)>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT repository, submitter, min(CASE WHEN state = 'queued' THEN rank + ?1 * priority END), max(rank + ?1 * priority)
             FROM jobs WHERE state IN ('queued', 'backoff', 'offered', 'running', 'recovering', 'needs_operator')
             GROUP BY repository, submitter",
        )?;
        let rows = statement.query_map([PLACES_PER_PRIORITY], |row| {
            let pending = Pending { submitter: row.get(1)?, first_queued: row.get(2)?, last: row.get(3)? };
            Ok((row.get(0)?, pending))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The jobs that wait for their URLs, oldest first, at most `limit`.
    pub fn distributing(&self, limit: usize) -> Result<Vec<Job>, StoreError> {
        let sql = format!("SELECT {JOB_COLUMNS} FROM jobs WHERE state = 'distributing' ORDER BY seq LIMIT ?1");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([limit])?;
        let mut jobs = Vec::new();
        while let Some(row) = rows.next()? {
            jobs.extend(self.readable(job_from_row(row))?);
        }
        Ok(jobs)
    }

    /// The jobs that no worker has and whose deadline is over.
    pub fn past_deadline(&self, now: Timestamp, limit: usize) -> Result<Vec<JobId>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id FROM jobs WHERE deadline IS NOT NULL AND deadline <= ?1
             AND state IN ('waiting', 'awaiting_approval', 'queued', 'backoff', 'offered') ORDER BY deadline LIMIT ?2",
        )?;
        let rows = statement.query_map(params![micros(now), limit], |row| Ok(JobId(row.get(0)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The jobs whose back-off is over.
    ///
    /// One that would last longer than `longest_s` seconds from now is over as well: the clock was set back meanwhile.
    pub fn due(&self, now: Timestamp, longest_s: i64, limit: usize) -> Result<Vec<JobId>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id FROM jobs WHERE due_at IS NOT NULL AND (due_at <= ?1 OR due_at > ?2) ORDER BY due_at LIMIT ?3",
        )?;
        let latest = micros(now).saturating_add(longest_s.saturating_mul(1_000_000));
        let rows = statement.query_map(params![micros(now), latest, limit], |row| Ok(JobId(row.get(0)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Events after number `after`, of one job, one submission or all, in order, at most `limit`.
    pub fn events(
        &self,
        job: Option<JobId>,
        submission: Option<SubmissionId>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<LoggedEvent>, StoreError> {
        let filter = match (job, submission) {
            (Some(_), _) => "events.job = (SELECT seq FROM jobs WHERE id = ?3)",
            (None, Some(_)) => "events.job IN (SELECT seq FROM jobs WHERE submission = ?3)",
            (None, None) => "?3 IS NULL",
        };
        let sql = format!(
            "SELECT events.number, jobs.id, jobs.submission, events.at, events.event, events.state
             FROM events JOIN jobs ON jobs.seq = events.job WHERE events.number > ?1 AND {filter} ORDER BY events.number LIMIT ?2"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let id = job.map(|id| id.0).or(submission.map(|id| id.0));
        let mut events = Vec::new();
        let mut after = after;
        // Only those that can be read count: an answer without any says that there are none.
        loop {
            let mut rows = statement.query(params![after, limit, id])?;
            let before = after;
            while let Some(row) = rows.next()? {
                after = row.get(0)?;
                events.extend(self.readable(event_from_row(row))?);
            }
            if !events.is_empty() || after == before {
                return Ok(events);
            }
        }
    }

    /// How many jobs stand in each state.
    pub fn count_by_state(&self) -> Result<Vec<(StateKind, u64)>, StoreError> {
        self.counted("SELECT state, count(*) FROM jobs GROUP BY state")
    }

    /// How many jobs stand in each state in which they have not ended. Those that have ended cost nothing.
    pub fn count_unfinished(&self) -> Result<Vec<(StateKind, u64)>, StoreError> {
        self.counted(
            "SELECT state, count(*) FROM jobs WHERE state IN
             ('waiting', 'awaiting_approval', 'queued', 'backoff', 'offered', 'running', 'recovering', 'needs_operator')
             GROUP BY state",
        )
    }

    fn counted(&self, sql: &str) -> Result<Vec<(StateKind, u64)>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        let mut counts = Vec::new();
        while let Some(row) = rows.next()? {
            // Jobs in no known state are told by check-db.
            if let Some(kind) = row.get::<_, String>(0).ok().and_then(|word| StateKind::parse(&word)) {
                counts.push((kind, row.get(1)?));
            }
        }
        Ok(counts)
    }
}

impl Tx<'_> {
    /// Stores a new job with its first event. Its dependencies must be stored already.
    pub fn insert_job(&mut self, now: Timestamp, job: &NewJob<'_>, first: &JobEvent) -> Result<StateKind, StoreError> {
        let progress = next(None, first)?;
        let NewJob { submission, owner, spec, bytes, rank } = *job;
        let publish = spec.publish();
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO jobs (id, submission, name, repository, lease_path, priority, submitter, spec, state, progress, created_at, updated_at, owner, alone, bytes, deadline, rank)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, ?12, ?13, ?14, ?15, ?16)",
        )?;
        let seq = row_number(statement.insert(params![
            spec.id.0,
            submission.0,
            spec.name,
            publish.repository.as_str(),
            publish.lease_path.as_str(),
            spec.priority,
            spec.submitter,
            to_json(spec)?,
            progress.state.kind().as_str(),
            to_json(&progress)?,
            micros(now),
            owner.map(TokenName::as_str),
            spec.goes_alone(),
            i64::try_from(bytes).unwrap_or(i64::MAX),
            spec.deadline.map(micros),
            rank,
        ])?)?;
        drop(statement);
        for (key, value) in &spec.labels {
            self.connection
                .prepare_cached("INSERT INTO labels (key, value, job) VALUES (?1, ?2, ?3)")?
                .execute(params![key, value, seq])?;
        }
        if let Some(Source::Blob { digest }) = publish.payload.source() {
            self.connection
                .prepare_cached("INSERT INTO blob_refs (digest, job) VALUES (?1, ?2)")?
                .execute(params![digest.to_string(), seq])?;
        }
        for dependency in &spec.dependencies {
            let mut statement = self
                .connection
                .prepare_cached("INSERT INTO dependencies (job, depends_on, condition) VALUES (?1, (SELECT seq FROM jobs WHERE id = ?2), ?3)")?;
            statement.execute(params![seq, dependency.job_id.0, to_json(&dependency.condition)?])?;
        }
        self.append_event(seq, now, first, progress.state.kind())?;
        Ok(progress.state.kind())
    }

    /// Gives a job its place in the order of those that are ready.
    pub fn set_rank(&mut self, job: u64, rank: i64) -> Result<(), StoreError> {
        self.connection.prepare_cached("UPDATE jobs SET rank = ?2 WHERE seq = ?1")?.execute(params![job, rank])?;
        Ok(())
    }

    /// Lets an event happen to a job: row and event in one. Returns the job as it is then.
    pub fn apply(&mut self, now: Timestamp, mut job: Job, event: &JobEvent) -> Result<Job, StoreError> {
        job.progress = next(Some(&job.progress), event)?;
        job.updated_at = now;
        let due = match &job.progress.state {
            JobState::Backoff { until, .. } => Some(micros(*until)),
            _ => None,
        };
        let kind = job.progress.state.kind();
        self.connection
            .prepare_cached("UPDATE jobs SET state = ?2, progress = ?3, due_at = ?4, updated_at = ?5 WHERE seq = ?1")?
            .execute(params![job.seq, kind.as_str(), to_json(&job.progress)?, due, micros(now)])?;
        if !(planted::is(Bug::ForgetsAnEvent) && matches!(event, JobEvent::BackoffEnded)) {
            self.append_event(job.seq, now, event, kind)?;
        }
        Ok(job)
    }

    fn append_event(&mut self, job: u64, now: Timestamp, event: &JobEvent, state: StateKind) -> Result<(), StoreError> {
        let number = self
            .connection
            .prepare_cached("INSERT INTO events (job, at, event, state) VALUES (?1, ?2, ?3, ?4)")?
            .insert(params![job, micros(now), to_json(event)?, state.as_str()])?;
        self.last_event = row_number(number)?;
        Ok(())
    }
}

/// The columns that [`ready_job`] reads.
const READY_COLUMNS: &str = "id, seq, rank, lease_path, progress, alone, bytes";

/// Reads number, job, submission, time, event and state.
pub(super) fn event_from_row(row: &Row<'_>) -> Result<LoggedEvent, StoreError> {
    let number: u64 = row.get(0)?;
    let what = || format!("event {number}");
    let read = || -> Result<LoggedEvent, StoreError> {
        let state: String = row.get(5)?;
        Ok(LoggedEvent {
            number,
            job_id: JobId(row.get(1)?),
            submission_id: SubmissionId(row.get(2)?),
            at: timestamp(row.get(3)?)?,
            event: from_json(&what(), &row.get::<_, String>(4)?)?,
            state: StateKind::parse(&state)
                .ok_or_else(|| StoreError::corrupt(what(), format!("unknown state {state:?}")))?,
        })
    };
    read().map_err(|error| error.in_row(what))
}

fn ready_job(row: &Row<'_>) -> Result<ReadyJob, StoreError> {
    let seq: u64 = row.get(1)?;
    let what = || format!("job number {seq}");
    let lease_path: String = row.get(3)?;
    let progress: Progress = from_json(&what(), row.get_ref(4)?.as_str().map_err(|e| StoreError::corrupt(what(), e))?)?;
    Ok(ReadyJob {
        id: JobId(row.get(0)?),
        rank: row.get(2)?,
        lease_path: lease_path.parse().map_err(|e| StoreError::corrupt(what(), e))?,
        next_attempt: progress.attempt + 1,
        together: progress.together(row.get(5)?),
        bytes: row.get(6)?,
    })
}

fn state_kind(seq: u64, word: &str) -> Result<StateKind, StoreError> {
    StateKind::parse(word)
        .ok_or_else(|| StoreError::corrupt(format!("job number {seq}"), format!("unknown state {word:?}")))
}

fn row_number(rowid: i64) -> Result<u64, StoreError> {
    u64::try_from(rowid).map_err(|e| StoreError::corrupt("a row number", e))
}
