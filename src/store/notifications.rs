//! The last message of each repository.

use rusqlite::{OptionalExtension, Row, params};

use super::error::StoreError;
use super::tx::{Db, Tx, micros};
use crate::domain::names::RepositoryName;
use crate::domain::notification::{Announcement, Message, Origin};

fn from_row(row: &Row<'_>) -> Result<Announcement, StoreError> {
    let repository: String = row.get(0)?;
    let read = || {
        let what = "a notification";
        let (origin, message): (String, String) = (row.get(3)?, row.get(4)?);
        let message = Message::parse(message.as_bytes()).map_err(|error| StoreError::corrupt(what, error))?;
        if message.repository().as_str() != repository {
            return Err(StoreError::corrupt(what, "it is about another repository"));
        }
        Ok(Announcement {
            number: row.get(1)?,
            revision: row.get(2)?,
            origin: Origin::parse(&origin).ok_or_else(|| StoreError::corrupt(what, "it has no known origin"))?,
            message,
        })
    };
    read().map_err(|error: StoreError| match error {
        StoreError::Corrupt { why, .. } => {
            StoreError::Corrupt { what: format!("the last notification of repository {repository}"), why }
        }
        error => error,
    })
}

impl Db<'_> {
    /// The last message of every repository that has one, in the order of their numbers.
    pub fn notifications(&self) -> Result<Vec<Announcement>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT repository, number, revision, origin, message FROM notifications ORDER BY number",
        )?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.extend(self.readable(from_row(row))?);
        }
        Ok(found)
    }

    /// What is wrong with the messages that are stored, a sentence each.
    pub(super) fn damaged_notifications(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT repository, number, revision, origin, message FROM notifications";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        let mut problems = Vec::new();
        while let Some(row) = rows.next()? {
            problems.extend(from_row(row).err().map(|error| error.to_string()));
        }
        Ok(problems)
    }

    /// Number and revision of a repository's last message.
    pub fn announced(&self, repository: &RepositoryName) -> Result<Option<(u64, u64)>, StoreError> {
        let mut statement =
            self.connection.prepare_cached("SELECT number, revision FROM notifications WHERE repository = ?1")?;
        Ok(statement.query_row([repository.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    }
}

impl Tx<'_> {
    /// Stores a message in place of its repository's last one.
    pub fn put_notification(
        &mut self,
        now: jiff::Timestamp,
        revision: u64,
        origin: Origin,
        message: &Message,
    ) -> Result<u64, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO notifications (repository, number, revision, origin, at, message)
             VALUES (?1, (SELECT coalesce(max(number), 0) + 1 FROM notifications), ?2, ?3, ?4, ?5) RETURNING number",
        )?;
        let values = params![message.repository().as_str(), revision, origin.as_str(), micros(now), message.text()];
        Ok(statement.query_row(values, |row| row.get(0))?)
    }
}
