//! A revision that somebody names.

use super::super::Error;
use super::super::catalog::Catalog;
use super::super::hash::{ContentHash, ObjectKind};
use super::super::history::Tag;
use super::super::object;
use super::super::reader::Reader;

/// Finds a revision by a tag, a root hash or a number, in this order. The tag that comes back is without a name and a
/// description unless a tag was asked for.
pub(super) fn find(reader: &Reader, text: &str) -> Result<Tag, Error> {
    if let Some(tag) = reader.tag(text)? {
        // The catalog knows its own revision; what the tag says is taken, as all tools take it.
        look(reader, tag.root_hash)?;
        return Ok(tag);
    }
    if let Ok(hash) = ContentHash::parse(text) {
        return look(reader, hash);
    }
    let unknown =
        || Error::Missing(format!("revision {text} (no tag, root hash or number of a revision that is kept)"));
    let number: u64 = text.parse().map_err(|_| unknown())?;
    if let Some(tag) = reader.tags()?.into_iter().find(|tag| tag.revision == number) {
        return look(reader, tag.root_hash);
    }
    for revision in reader.revisions() {
        match revision {
            Ok(revision) if revision.revision == number && number > 0 => return look(reader, revision.root_hash),
            Ok(revision) if revision.revision < number => break,
            Ok(_) => {}
            Err(Error::Missing(_)) => break,
            Err(error) => return Err(error),
        }
    }
    Err(unknown())
}

/// What a root catalog says of itself.
pub(super) fn look(reader: &Reader, root_hash: ContentHash) -> Result<Tag, Error> {
    let copy = tempfile::NamedTempFile::new_in(reader.temporary())
        .map_err(Error::io(format!("make a file in {}", reader.temporary().display())))?;
    let size = object::unpack(reader.fetch(), &root_hash, ObjectKind::Catalog, copy.path())?;
    let catalog = Catalog::open(copy.path(), &root_hash)?;
    if !catalog.is_root()? {
        return Err(Error::Unsupported(format!("catalog {root_hash}, which is not a root,")));
    }
    Ok(Tag {
        name: String::new(),
        root_hash,
        size,
        revision: catalog.revision()?,
        timestamp: catalog.last_modified()?,
        description: String::new(),
    })
}
