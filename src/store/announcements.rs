//! What was published and must still be announced: of each repository the newest.

use rusqlite::{Row, params};

use super::error::StoreError;
use super::tx::{Db, Tx};
use crate::domain::names::RepositoryName;
use crate::domain::signed::SignedParts;

/// A manifest that is to be announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueAnnouncement {
    /// The repository.
    pub repository: RepositoryName,
    /// The revision that the manifest claims.
    pub revision: u64,
    /// Manifest and proof.
    pub signed: SignedParts,
}

fn from_row(row: &Row<'_>) -> Result<DueAnnouncement, StoreError> {
    let name: String = row.get(0)?;
    let read = || {
        let repository =
            RepositoryName::new(name.clone()).map_err(|error| StoreError::corrupt("an announcement", error))?;
        let signed = SignedParts { manifest: row.get(2)?, certificate: row.get(3)?, whitelist: row.get(4)? };
        Ok(DueAnnouncement { repository, revision: row.get(1)?, signed })
    };
    read().map_err(|error: StoreError| error.in_row(|| format!("an announcement of repository {name}")))
}

impl Db<'_> {
    /// What is to be announced, by repository.
    pub fn due_announcements(&self) -> Result<Vec<DueAnnouncement>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT repository, revision, manifest, certificate, whitelist FROM announcements ORDER BY repository",
        )?;
        let mut rows = statement.query([])?;
        let mut due = Vec::new();
        while let Some(row) = rows.next()? {
            due.extend(self.readable(from_row(row))?);
        }
        Ok(due)
    }
}

impl Tx<'_> {
    /// Notes what is to be announced, unless that of a newer revision is already.
    pub fn announce_later(&mut self, due: &DueAnnouncement) -> Result<(), StoreError> {
        let SignedParts { manifest, certificate, whitelist } = &due.signed;
        self.connection
            .prepare_cached(
                "INSERT INTO announcements VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (repository) DO UPDATE SET
                 revision = excluded.revision, manifest = excluded.manifest, certificate = excluded.certificate,
                 whitelist = excluded.whitelist WHERE excluded.revision >= revision",
            )?
            .execute(params![due.repository.as_str(), due.revision, manifest, certificate, whitelist])?;
        Ok(())
    }

    /// Forgets what was announced, or never can be, unless there is something newer by now.
    pub fn forget_due_announcement(&mut self, repository: &RepositoryName, revision: u64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("DELETE FROM announcements WHERE repository = ?1 AND revision <= ?2")?
            .execute(params![repository.as_str(), revision])?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn due(revision: u64) -> DueAnnouncement {
        let signed = SignedParts {
            manifest: format!("S{revision}\n--\n").into_bytes(),
            certificate: b"certificate".to_vec(),
            whitelist: b"whitelist".to_vec(),
        };
        DueAnnouncement { repository: "a.example.org".parse().unwrap(), revision, signed }
    }

    #[tokio::test]
    async fn the_newest_of_each_repository_is_kept_until_it_was_announced() {
        let store = Store::in_memory().unwrap();
        for revision in [5, 7, 6] {
            store.write(move |tx| tx.announce_later(&due(revision))).await.unwrap();
        }
        assert_eq!(store.read(|db| db.due_announcements()).await.unwrap(), [due(7)]);
        let store = store.restarted().unwrap();
        store.write(|tx| tx.forget_due_announcement(&due(6).repository, 6)).await.unwrap();
        assert_eq!(store.read(|db| db.due_announcements()).await.unwrap(), [due(7)], "what is newer stays");
        store.write(|tx| tx.forget_due_announcement(&due(7).repository, 7)).await.unwrap();
        assert_eq!(store.read(|db| db.due_announcements()).await.unwrap(), []);
    }
}
