//! Tokens: their hashes, never they themselves.

use jiff::Timestamp;
use rusqlite::{Row, params};

use super::error::StoreError;
use super::tx::{Db, Tx, from_json, micros, timestamp, to_json};
use crate::domain::access::{TokenDigest, TokenId, TokenName, TokenRecord};

const COLUMNS: &str = "id, name, roles, sha256, note, created_at, created_by, expires_at, revoked_at, last_used_at";

fn record_from_row(row: &Row<'_>) -> Result<TokenRecord, StoreError> {
    let id: String = row.get(0)?;
    let what = format!("token {id}");
    let corrupt = |why: &dyn std::fmt::Display| StoreError::corrupt(what.clone(), why);
    let name = |text: String| TokenName::try_from(text).map_err(|e| corrupt(&e));
    let time =
        |column: usize| -> Result<_, StoreError> { row.get::<_, Option<i64>>(column)?.map(timestamp).transpose() };
    let read = || {
        Ok(TokenRecord {
            name: name(row.get(1)?)?,
            roles: from_json(&what, &row.get::<_, String>(2)?)?,
            sha256: TokenDigest::new(row.get(3)?),
            note: row.get(4)?,
            created_at: time(5)?,
            created_by: row.get::<_, Option<String>>(6)?.map(name).transpose()?,
            expires_at: time(7)?,
            revoked_at: time(8)?,
            last_used_at: time(9)?,
            id: TokenId::new(&id).map_err(|e| corrupt(&e))?,
        })
    };
    read().map_err(|error: StoreError| error.in_row(|| what.clone()))
}

impl Db<'_> {
    /// All tokens, also those that are no longer good.
    pub fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!("SELECT {COLUMNS} FROM tokens ORDER BY id"))?;
        let mut rows = statement.query([])?;
        let mut records = Vec::new();
        while let Some(row) = rows.next()? {
            // Nobody is let in by one that cannot be read.
            records.extend(self.readable(record_from_row(row))?);
        }
        Ok(records)
    }

    /// What is wrong with tokens, a sentence each.
    pub(super) fn damaged_tokens(&self) -> Result<Vec<String>, StoreError> {
        let mut statement = self.connection.prepare(&format!("SELECT {COLUMNS} FROM tokens ORDER BY id"))?;
        let mut rows = statement.query([])?;
        let mut problems = Vec::new();
        while let Some(row) = rows.next()? {
            problems.extend(record_from_row(row).err().map(|error| error.to_string()));
        }
        Ok(problems)
    }

    /// The token of this id.
    pub fn token(&self, id: &TokenId) -> Result<Option<TokenRecord>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!("SELECT {COLUMNS} FROM tokens WHERE id = ?1"))?;
        let mut rows = statement.query([id.as_str()])?;
        rows.next()?.map(record_from_row).transpose()
    }
}

impl Tx<'_> {
    /// Stores a token whose id is new. Without a time of its making it was made `now`.
    pub fn insert_token(&mut self, now: Timestamp, token: &TokenRecord) -> Result<(), StoreError> {
        let sql = format!("INSERT INTO tokens ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");
        self.connection.prepare_cached(&sql)?.execute(params![
            token.id.as_str(),
            token.name.as_str(),
            to_json(&token.roles)?,
            token.sha256.as_bytes(),
            token.note,
            micros(token.created_at.unwrap_or(now)),
            token.created_by.as_ref().map(TokenName::as_str),
            token.expires_at.map(micros),
            token.revoked_at.map(micros),
            token.last_used_at.map(micros),
        ])?;
        Ok(())
    }

    /// Takes a token back, unless it was before.
    pub fn revoke_token(&mut self, now: Timestamp, id: &TokenId) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("UPDATE tokens SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL")?
            .execute(params![id.as_str(), micros(now)])?;
        Ok(())
    }

    /// Deletes tokens that were void before a moment, at most `limit`; tells which.
    pub fn prune_tokens(&mut self, before: Timestamp, limit: usize) -> Result<Vec<TokenId>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE revoked_at < ?1 OR expires_at < ?1 ORDER BY id LIMIT ?2) RETURNING id",
        )?;
        let mut rows = statement.query(params![micros(before), limit])?;
        let mut pruned = Vec::new();
        while let Some(row) = rows.next()? {
            let id: String = row.get(0)?;
            // One whose id is none is gone as well; nobody knows it.
            pruned.extend(TokenId::new(&id).ok());
        }
        Ok(pruned)
    }

    /// Notes when a token was used last.
    pub fn token_used(&mut self, id: &TokenId, at: Timestamp) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("UPDATE tokens SET last_used_at = ?2 WHERE id = ?1")?
            .execute(params![id.as_str(), micros(at)])?;
        Ok(())
    }
}
