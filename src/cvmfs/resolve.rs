//! Revisions by what people call them.

use super::Error;
use super::hash::ContentHash;
use super::reader::Reader;

/// A revision that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionRef {
    /// Its number.
    pub revision: u64,
    /// Its root catalog.
    pub root_hash: ContentHash,
    /// The tag that it was found by.
    pub tag: Option<String>,
}

impl Reader {
    /// Finds a revision by the name of a tag, by its number, or by the hash of its root catalog. Tags come first; a number
    /// is looked for among the tags, and then in the chain of revisions as far as garbage collection left it.
    pub fn resolve_revision(&self, text: &str) -> Result<RevisionRef, Error> {
        let tags = self.tags()?;
        if let Some(tag) = tags.iter().find(|tag| tag.name == text) {
            let tag = tag.clone();
            return Ok(RevisionRef { revision: tag.revision, root_hash: tag.root_hash, tag: Some(tag.name) });
        }
        if let Ok(root_hash) = ContentHash::parse(text) {
            let revision = self.catalog(&root_hash)?.revision()?;
            return Ok(RevisionRef { revision, root_hash, tag: None });
        }
        let unknown = || Error::Missing(format!("a tag, revision or root catalog {text:?}"));
        let Ok(revision) = text.parse::<u64>() else { return Err(unknown()) };
        if let Some(tag) = tags.iter().find(|tag| tag.revision == revision) {
            return Ok(RevisionRef { revision, root_hash: tag.root_hash, tag: None });
        }
        for info in self.revisions() {
            let info = info?;
            if info.revision == revision {
                return Ok(RevisionRef { revision, root_hash: info.root_hash, tag: None });
            }
            // The chain counts down.
            if info.revision < revision {
                break;
            }
        }
        Err(unknown())
    }
}
