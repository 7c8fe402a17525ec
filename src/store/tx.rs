//! What a use case can see ([`Db`]) and do ([`Tx`]) inside one transaction.

use std::ops::Deref;

use jiff::Timestamp;
use rusqlite::Connection;

use super::damage::Damage;
use super::error::StoreError;

/// A consistent state to read.
pub struct Db<'a> {
    pub(super) connection: &'a Connection,
    /// Whom damaged rows are told; nobody where a person looks at them anyway.
    damage: Option<&'a Damage>,
}

impl<'a> Db<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection, damage: None }
    }

    pub(super) fn noting(connection: &'a Connection, damage: &'a Damage) -> Self {
        Self { connection, damage: Some(damage) }
    }

    /// Goes on without a row that cannot be read, which is told once and counted; any other error is given back.
    pub fn pass_over(&self, error: StoreError) -> Result<(), StoreError> {
        match (self.damage, error) {
            (Some(damage), error) => damage.pass_over(error),
            (None, StoreError::Corrupt { .. }) => Ok(()),
            (None, error) => Err(error),
        }
    }

    /// What was read, or nothing where the row is passed over.
    pub(super) fn readable<T>(&self, read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) => self.pass_over(error).map(|()| None),
        }
    }
}

/// An open transaction. Reads what it wrote itself.
pub struct Tx<'a> {
    db: Db<'a>,
    pub(super) last_event: u64,
}

impl<'a> Tx<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { db: Db::new(connection), last_event: 0 }
    }

    pub(super) fn noting(connection: &'a Connection, damage: &'a Damage) -> Self {
        Self { db: Db::noting(connection, damage), last_event: 0 }
    }

    /// Number of the last event written here, 0 without one.
    pub(super) fn last_event(&self) -> u64 {
        self.last_event
    }
}

#[cfg(test)]
impl Tx<'_> {
    /// Changes rows as nothing of ours would.
    pub(crate) fn tamper(&mut self, sql: &str) -> Result<usize, StoreError> {
        Ok(self.db.connection.execute(sql, [])?)
    }
}

impl<'a> Deref for Tx<'a> {
    type Target = Db<'a>;
    fn deref(&self) -> &Db<'a> {
        &self.db
    }
}

/// A time as it is stored: microseconds since 1970.
pub(super) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

pub(super) fn timestamp(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|e| StoreError::corrupt("a time", e))
}

pub(super) fn to_json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::corrupt("a value to be written", e))
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::corrupt(what, e))
}
