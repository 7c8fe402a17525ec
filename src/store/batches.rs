//! Batches: reservations, the outbox of offers, claims.

use jiff::Timestamp;
use rusqlite::{Row, params};

use super::error::StoreError;
use super::tx::{Db, Tx, from_json, micros, to_json};
use crate::domain::batch::Batch;
use crate::domain::ids::BatchId;
use crate::domain::names::{LeasePath, RepositoryName};

const COLUMNS: &str = "id, fleet, repository, lease_path, jobs, generation, detail";

fn batch_from_row(row: &Row<'_>) -> Result<Batch, StoreError> {
    let id = BatchId(row.get(0)?);
    read_batch(id, row).map_err(|error| error.in_row(|| format!("batch {id}")))
}

fn read_batch(id: BatchId, row: &Row<'_>) -> Result<Batch, StoreError> {
    let what = format!("batch {id}");
    let repository: String = row.get(2)?;
    let lease_path: String = row.get(3)?;
    Ok(Batch {
        id,
        fleet: row.get(1)?,
        repository: RepositoryName::new(repository).map_err(|e| StoreError::corrupt(&what, e))?,
        lease_path: lease_path.parse().map_err(|e| StoreError::corrupt(&what, e))?,
        jobs: from_json(&what, &row.get::<_, String>(4)?)?,
        generation: row.get(5)?,
        state: from_json(&what, &row.get::<_, String>(6)?)?,
    })
}

impl Db<'_> {
    /// The batch of this id.
    pub fn batch(&self, id: BatchId) -> Result<Option<Batch>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!("SELECT {COLUMNS} FROM batches WHERE id = ?1"))?;
        let mut rows = statement.query([id.0])?;
        rows.next()?.map(batch_from_row).transpose()
    }

    /// All batches that are not settled and can be read. One that cannot keeps its lease path reserved: nobody knows what
    /// became of it.
    pub fn live_batches(&self) -> Result<Vec<Batch>, StoreError> {
        self.batches("state <> 'settled'", [])
    }

    /// A fleet's batches that are to be sent, oldest first.
    pub fn unsent_batches(&self, fleet: &str) -> Result<Vec<Batch>, StoreError> {
        self.batches("fleet = ?1 AND state = 'unsent' ORDER BY id", [fleet])
    }

    /// The lease paths that live batches of a repository reserve.
    pub fn reserved(&self, repository: &RepositoryName) -> Result<Vec<LeasePath>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT lease_path FROM batches WHERE repository = ?1 AND state <> 'settled'")?;
        let mut rows = statement.query([repository.as_str()])?;
        let mut reserved = Vec::new();
        while let Some(row) = rows.next()? {
            // Where the path cannot be read, it may be any.
            let path: Option<String> = row.get(0).ok();
            reserved.push(path.and_then(|path| path.parse().ok()).unwrap_or_else(LeasePath::root));
        }
        Ok(reserved)
    }

    /// How many batches of a fleet wait for a worker.
    pub fn count_offers(&self, fleet: &str) -> Result<usize, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT count(*) FROM batches WHERE fleet = ?1 AND state IN ('unsent', 'offered')")?;
        Ok(statement.query_row([fleet], |row| row.get(0))?)
    }

    /// How many batches of a repository wait for a worker.
    pub fn count_offers_of(&self, repository: &RepositoryName) -> Result<usize, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT count(*) FROM batches WHERE repository = ?1 AND state IN ('unsent', 'offered') AND state <> 'settled'")?;
        Ok(statement.query_row([repository.as_str()], |row| row.get(0))?)
    }

    fn batches(&self, condition: &str, params: impl rusqlite::Params) -> Result<Vec<Batch>, StoreError> {
        let mut statement =
            self.connection.prepare_cached(&format!("SELECT {COLUMNS} FROM batches WHERE {condition}"))?;
        let mut rows = statement.query(params)?;
        let mut batches = Vec::new();
        while let Some(row) = rows.next()? {
            batches.extend(self.readable(batch_from_row(row))?);
        }
        Ok(batches)
    }
}

impl Tx<'_> {
    /// Stores a new batch: from here on its lease path is reserved.
    pub fn insert_batch(&mut self, now: Timestamp, batch: &Batch) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO batches (id, fleet, repository, lease_path, jobs, generation, state, detail, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        statement.execute(params![
            batch.id.0,
            batch.fleet,
            batch.repository.as_str(),
            batch.lease_path.as_str(),
            to_json(&batch.jobs)?,
            batch.generation,
            batch.state.as_str(),
            to_json(&batch.state)?,
            micros(now),
        ])?;
        Ok(())
    }

    /// Stores what changed about a batch: its generation and state.
    pub fn update_batch(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("UPDATE batches SET generation = ?2, state = ?3, detail = ?4 WHERE id = ?1")?;
        statement.execute(params![batch.id.0, batch.generation, batch.state.as_str(), to_json(&batch.state)?])?;
        Ok(())
    }

    /// Stores what a batch has become by being claimed: its jobs and lease path are final from here on.
    pub fn update_members(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut statement =
            self.connection.prepare_cached("UPDATE batches SET lease_path = ?2, jobs = ?3 WHERE id = ?1")?;
        statement.execute(params![batch.id.0, batch.lease_path.as_str(), to_json(&batch.jobs)?])?;
        Ok(())
    }

    /// Takes live batches that cannot be read out of what is offered and counted as such, so that they use up no fleet's
    /// credit; their lease paths stay reserved. Tells how many were found now.
    pub fn set_unreadable_batches_aside(&mut self) -> Result<usize, StoreError> {
        let mut statement = self.connection.prepare(&format!(
            "SELECT {COLUMNS} FROM batches WHERE state NOT LIKE 'damaged%' AND state <> 'settled'"
        ))?;
        let mut rows = statement.query([])?;
        let mut damaged = Vec::new();
        while let Some(row) = rows.next()? {
            if self.readable(batch_from_row(row))?.is_none() {
                damaged.push(row.get::<_, Vec<u8>>(0)?);
            }
        }
        for id in &damaged {
            self.connection.execute("UPDATE batches SET state = 'damaged: ' || state WHERE id = ?1", [id])?;
        }
        Ok(damaged.len())
    }

    /// Writes something that nobody reads. It must be another value each time: SQLite writes no page that stays as it is.
    pub(super) fn touch(&mut self) -> Result<(), StoreError> {
        let sql = "INSERT INTO meta VALUES ('probe', 1) ON CONFLICT (key) DO UPDATE SET value = value + 1";
        self.connection.execute(sql, [])?;
        Ok(())
    }

    /// Tells whether this leadership is still the one that counts.
    pub fn is_epoch(&self, epoch: u64) -> Result<bool, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT value = ?1 FROM meta WHERE key = 'epoch'")?;
        Ok(statement.query_row([epoch], |row| row.get(0))?)
    }
}
