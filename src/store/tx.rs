//! What a use case can see ([`Db`]) and do ([`Tx`]) inside one transaction.

use std::ops::Deref;

use jiff::Timestamp;
use rusqlite::Connection;

use super::error::StoreError;

/// A consistent state to read.
pub struct Db<'a> {
    pub(super) connection: &'a Connection,
}

impl<'a> Db<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection }
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

    /// Number of the last event written here, 0 without one.
    pub(super) fn last_event(&self) -> u64 {
        self.last_event
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
