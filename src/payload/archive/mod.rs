//! Reading tarballs: streamed, validated, delivered entry by entry, never unpacked to disk.
//!
//! The framing is our own, on top of the `tar` crate's view of a header block: a program that reads on behalf of others
//! must bound what extended headers and sparse maps make it remember, must notice an archive that is cut off, and must
//! not read an archive in another way than GNU tar does. Where tar programs disagree, the archive is refused.
//!
//! Left out: user and group names (the numbers count).

mod content;
mod entry;
mod error;
mod header;
mod limits;
mod pax;
mod reader;
mod sparse;
mod stream;
#[cfg(test)]
mod tests;
mod tree;

use std::io::Read;

use self::content::Content;
pub use self::error::{ArchiveError, Place, ReadError, Refusal};
pub use self::limits::ArchiveLimits;
use self::reader::Reader;
use crate::domain::tree::{EntryKind, EntryMeta, EntryPath};

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveEntry {
    /// Its path, relative to the directory where the archive goes. That directory itself can come too, as `./`.
    pub path: EntryPath,
    /// Mode, time and owner as the archive has them.
    pub meta: EntryMeta,
    /// What it is.
    pub item: ArchiveItem,
}

/// What an entry of an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveItem {
    /// A file, directory or symbolic link.
    Node(EntryKind),
    /// Another name for a file that was delivered before. No content comes with it.
    HardLink {
        /// That file's path, relative like the entry's own.
        to: EntryPath,
    },
}

/// What an archive held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Entries delivered.
    pub entries: u64,
    /// Bytes of content delivered, holes of sparse files included.
    pub bytes: u64,
    /// Extended attributes that were left out: CernVM-FS keeps 255 of each entry, with at most 255 bytes each.
    pub ignored_attributes: u64,
}

/// Reads an archive, plain or packed with gzip, zstd or xz, and hands its entries to `sink` in their order.
///
/// The archive goes to `base` in a repository that clients see at `absolute_root` (such as
/// `/cvmfs/software.example.org`); symbolic links may point nowhere else. The reader that `sink` gets is the content of
/// a file, and empty for anything else; what it leaves unread is passed over. When a path comes twice, both are
/// delivered and the last counts.
///
/// Only when this returns a summary was the archive whole: some defects show at its end. On an error, drop everything
/// that was delivered.
pub fn read<E>(
    source: impl Read,
    limits: &ArchiveLimits,
    base: &EntryPath,
    absolute_root: &str,
    sink: &mut dyn FnMut(ArchiveEntry, &mut dyn Read) -> Result<(), E>,
) -> Result<Summary, ReadError<E>> {
    let mut reader = Reader::open(source, *limits, base, absolute_root)?;
    while let Some((entry, map)) = reader.next()? {
        let path = entry.path.clone();
        let mut content = Content::new(&mut reader.stream, map);
        let taken = sink(entry, &mut content);
        // First, since the receiver's own error is then no more than an echo of it.
        if let Some(failure) = content.failure() {
            return Err(failure.into());
        }
        taken.map_err(|source| ReadError::Sink { entry: path, source })?;
        content.finish()?;
    }
    Ok(reader.summary)
}
