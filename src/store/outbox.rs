//! How far the log of events was told to others: the cursor, and what comes behind it.

use rusqlite::{OptionalExtension, Row, params};

use super::error::StoreError;
use super::jobs::event_from_row;
use super::tx::{Db, Tx};
use crate::domain::job::LoggedEvent;
use crate::domain::names::RepositoryName;

/// The row of `meta` that holds the cursor.
const CURSOR: &str = "events_told";
/// The row of `meta` with the number of the last notification that the exchange has.
const ACTIVITY: &str = "activity_told";

impl Db<'_> {
    /// The number of the last event that was told; nothing where none ever was.
    pub fn events_told(&self) -> Result<Option<u64>, StoreError> {
        self.cursor(CURSOR)
    }

    /// The number of the last notification that the exchange of notifications has; 0 where it has none.
    pub fn activity_told(&self) -> Result<u64, StoreError> {
        Ok(self.cursor(ACTIVITY)?.unwrap_or(0))
    }

    fn cursor(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
        Ok(statement.query_row([key], |row| row.get(0)).optional()?)
    }

    /// Events after number `after` of all jobs, in order, each with its job's repository; at most `limit`.
    pub fn events_to_tell(&self, after: u64, limit: usize) -> Result<Vec<(RepositoryName, LoggedEvent)>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT events.number, jobs.id, jobs.submission, events.at, events.event, events.state, jobs.repository
             FROM events JOIN jobs ON jobs.seq = events.job WHERE events.number > ?1 ORDER BY events.number LIMIT ?2",
        )?;
        let mut events = Vec::new();
        let mut after = after;
        // One that cannot be read must not hold up all that come behind it.
        loop {
            let mut rows = statement.query(params![after, limit])?;
            let before = after;
            while let Some(row) = rows.next()? {
                after = row.get(0)?;
                events.extend(self.readable(event_of_repository(row))?);
            }
            if !events.is_empty() || after == before {
                return Ok(events);
            }
        }
    }
}

fn event_of_repository(row: &Row<'_>) -> Result<(RepositoryName, LoggedEvent), StoreError> {
    let event = event_from_row(row)?;
    let what = || format!("the repository of event {}", event.number);
    let repository: String = row.get(6).map_err(|error| StoreError::from(error).in_row(what))?;
    Ok((RepositoryName::new(repository).map_err(|error| StoreError::corrupt(what(), error))?, event))
}

impl Tx<'_> {
    /// Notes up to which event all were told.
    pub fn set_events_told(&mut self, number: u64) -> Result<(), StoreError> {
        self.set_cursor(CURSOR, number)
    }

    /// Notes up to which notification the exchange has all.
    pub fn set_activity_told(&mut self, number: u64) -> Result<(), StoreError> {
        self.set_cursor(ACTIVITY, number)
    }

    fn set_cursor(&mut self, key: &str, number: u64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value")?
            .execute(params![key, number])?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::store::{Store, StoreError};

    #[tokio::test]
    async fn the_cursor_is_absent_then_kept() {
        let store = Store::in_memory().unwrap();
        assert_eq!(store.read(|db| db.events_told()).await.unwrap(), None);
        for number in [7, 9] {
            store.write(move |tx| tx.set_events_told(number)).await.unwrap();
        }
        let after = store.restarted().unwrap();
        let told =
            after.read(|db| Ok::<_, StoreError>((db.events_told()?, db.events_to_tell(0, 9)?.len()))).await.unwrap();
        assert_eq!(told, (Some(9), 0));
    }
}
