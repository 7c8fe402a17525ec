//! The chain of revisions: each root catalog names the one before it.

use super::Error;
use super::hash::ContentHash;
use super::reader::Reader;

/// One revision of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionInfo {
    /// Its number. The chain of a repository made by CernVM-FS's own tools ends with 0, an empty catalog that no manifest
    /// ever named.
    pub revision: u64,
    /// The root catalog.
    pub root_hash: ContentHash,
    /// When it was made, seconds since 1970.
    pub last_modified: i64,
    /// The root catalog before it.
    pub previous: Option<ContentHash>,
}

/// Walks from a revision to the first one. It ends early, with an error, at a catalog that is gone (garbage collection).
pub struct Revisions<'r> {
    reader: &'r Reader,
    next: Option<ContentHash>,
}

impl<'r> Revisions<'r> {
    pub(super) fn new(reader: &'r Reader, from: ContentHash) -> Self {
        Self { reader, next: Some(from) }
    }

    fn load(&self, root_hash: ContentHash) -> Result<RevisionInfo, Error> {
        let catalog = self.reader.catalog(&root_hash)?;
        Ok(RevisionInfo {
            revision: catalog.revision()?,
            root_hash,
            last_modified: catalog.last_modified()?,
            previous: catalog.previous_revision()?,
        })
    }
}

impl Iterator for Revisions<'_> {
    type Item = Result<RevisionInfo, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let root_hash = self.next.take()?;
        let loaded = self.load(root_hash);
        if let Ok(info) = &loaded {
            self.next = info.previous;
        }
        Some(loaded)
    }
}
