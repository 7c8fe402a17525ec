//! A revision that somebody names.

use super::super::Error;
use super::super::catalog::Catalog;
use super::super::hash::{ContentHash, ObjectKind};
use super::super::history::Tag;
use super::super::object;
use super::super::reader::Reader;

/// Finds a revision by a tag, a number or a root hash. What comes back is without a name and a description unless it was
/// found by a tag.
pub(super) fn find(reader: &Reader, text: &str) -> Result<Tag, Error> {
    let found = reader.resolve_revision(text)?;
    let catalog = look(reader, found.root_hash)?;
    Ok(found.tag.map(|name| reader.tag(&name)).transpose()?.flatten().unwrap_or(catalog))
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
