//! What keeps repositories from being served, and how each stands.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Row, params};

use super::error::StoreError;
use super::jobs::{JOB_COLUMNS, job_from_row};
use super::tx::{Db, Tx, micros, timestamp};
use crate::domain::hold::{Hold, HoldKind};
use crate::domain::ids::HoldId;
use crate::domain::job::Job;
use crate::domain::job::state::{JobState, StateKind};
use crate::domain::names::RepositoryName;

const COLUMNS: &str = "repository, kind, id, by, reason, since, until, lease_s";
/// Jobs that are looked through for one that was published: those before may all have changed nothing.
const LOOKED_THROUGH: usize = 1000;

/// A hold as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredHold {
    /// The repository.
    pub repository: RepositoryName,
    /// Who asked for it; a pause has one, too, which nobody knows.
    pub id: HoldId,
    /// Seconds without being renewed until it is over; 0 of one that need not be.
    pub lease_s: u32,
    /// What others see of it.
    pub hold: Hold,
}

fn hold_from_row(row: &Row<'_>) -> Result<StoredHold, StoreError> {
    let repository: String = row.get(0)?;
    let read = || {
        let what = "a hold";
        let kind: String = row.get(1)?;
        let until: Option<i64> = row.get(6)?;
        Ok(StoredHold {
            repository: RepositoryName::new(repository.clone()).map_err(|e| StoreError::corrupt(what, e))?,
            id: HoldId(row.get(2)?),
            lease_s: row.get(7)?,
            hold: Hold {
                kind: HoldKind::parse(&kind).ok_or_else(|| StoreError::corrupt(what, "it is of no known kind"))?,
                by: row.get(3)?,
                reason: row.get(4)?,
                since: timestamp(row.get(5)?)?,
                until: until.map(timestamp).transpose()?,
            },
        })
    };
    read().map_err(|error: StoreError| error.in_row(|| format!("a hold of repository {repository}")))
}

impl Db<'_> {
    /// The repositories that have a hold, also one that cannot be read: it was to keep something from happening.
    pub fn held(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT DISTINCT repository FROM holds")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// All holds, by repository.
    pub fn holds(&self) -> Result<Vec<StoredHold>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM holds ORDER BY repository, kind");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([])?;
        let mut holds = Vec::new();
        while let Some(row) = rows.next()? {
            holds.extend(self.readable(hold_from_row(row))?);
        }
        Ok(holds)
    }

    /// How many jobs of each repository stand in each state in which they have not ended.
    pub fn count_open(&self) -> Result<BTreeMap<String, BTreeMap<StateKind, u64>>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT repository, state, count(*) FROM jobs WHERE state IN
             ('waiting', 'awaiting_approval', 'queued', 'backoff', 'offered', 'running', 'recovering', 'needs_operator', 'distributing')
             GROUP BY repository, state",
        )?;
        let mut rows = statement.query([])?;
        let mut counts: BTreeMap<String, BTreeMap<StateKind, u64>> = BTreeMap::new();
        while let Some(row) = rows.next()? {
            if let Some(kind) = StateKind::parse(&row.get::<_, String>(1)?) {
                counts.entry(row.get(0)?).or_default().insert(kind, row.get(2)?);
            }
        }
        Ok(counts)
    }

    /// The newest job of a repository that was published, among the last thousand that succeeded and the last thousand that
    /// wait for their URLs.
    pub fn last_published(&self, repository: &RepositoryName) -> Result<Option<Job>, StoreError> {
        let is_published = |state: &JobState| state.published().is_some();
        let ended = self.newest(repository, StateKind::Succeeded, is_published)?;
        let waiting = self.newest(repository, StateKind::Distributing, is_published)?;
        Ok(ended.into_iter().chain(waiting).max_by_key(|job| job.seq))
    }

    /// The newest job of a repository that has failed.
    pub fn last_failed(&self, repository: &RepositoryName) -> Result<Option<Job>, StoreError> {
        self.newest(repository, StateKind::Failed, |_| true)
    }

    fn newest(
        &self,
        repository: &RepositoryName,
        kind: StateKind,
        wanted: impl Fn(&JobState) -> bool,
    ) -> Result<Option<Job>, StoreError> {
        // The others are rare, so that the index by repository would be read through to find one.
        let index = if kind != StateKind::Succeeded { "jobs_state" } else { "jobs_repository" };
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {JOB_COLUMNS} FROM jobs INDEXED BY {index} WHERE repository = ?1 AND state = ?2 ORDER BY seq DESC LIMIT ?3"
        ))?;
        let mut rows = statement.query(params![repository.as_str(), kind.as_str(), LOOKED_THROUGH])?;
        while let Some(row) = rows.next()? {
            if let Some(job) = self.readable(job_from_row(row))?.filter(|job| wanted(&job.progress.state)) {
                return Ok(Some(job));
            }
        }
        Ok(None)
    }
}

impl Tx<'_> {
    /// Stores a hold in place of the one of its kind that the repository has, if any.
    pub fn put_hold(&mut self, stored: &StoredHold) -> Result<(), StoreError> {
        let StoredHold { repository, id, lease_s, hold } = stored;
        let sql = format!("INSERT OR REPLACE INTO holds ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
        self.connection.prepare_cached(&sql)?.execute(params![
            repository.as_str(),
            hold.kind.as_str(),
            id.0,
            hold.by,
            hold.reason,
            micros(hold.since),
            hold.until.map(micros),
            lease_s,
        ])?;
        Ok(())
    }

    /// Ends one hold; tells whether it was there.
    pub fn remove_hold(&mut self, repository: &RepositoryName, id: HoldId) -> Result<bool, StoreError> {
        let mut statement = self.connection.prepare_cached("DELETE FROM holds WHERE repository = ?1 AND id = ?2")?;
        Ok(statement.execute(params![repository.as_str(), id.0])? > 0)
    }

    /// Ends a hold whose time is over, unless it was renewed meanwhile; tells whether it was ended.
    pub fn expire_hold(&mut self, stored: &StoredHold) -> Result<bool, StoreError> {
        let mut statement =
            self.connection.prepare_cached("DELETE FROM holds WHERE repository = ?1 AND id = ?2 AND until IS ?3")?;
        let until = stored.hold.until.map(micros);
        Ok(statement.execute(params![stored.repository.as_str(), stored.id.0, until])? > 0)
    }

    /// Ends all holds of a repository, also those that cannot be read; tells how many there were.
    pub fn remove_holds(&mut self, repository: &RepositoryName) -> Result<usize, StoreError> {
        let mut statement = self.connection.prepare_cached("DELETE FROM holds WHERE repository = ?1")?;
        Ok(statement.execute([repository.as_str()])?)
    }
}

/// The hold of a kind that a repository has, among those that can be read.
pub fn of_kind<'a>(holds: &'a [StoredHold], repository: &RepositoryName, kind: HoldKind) -> Option<&'a StoredHold> {
    holds.iter().find(|stored| stored.repository == *repository && stored.hold.kind == kind)
}
