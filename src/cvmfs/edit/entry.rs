//! What can be put into a tree.

use super::super::catalog::{Chunk, Compression, Content, Entry, Flags};
use super::super::xattr::Xattrs;
use super::super::{Error, hash};

/// What a new entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewKind {
    /// A directory.
    Directory,
    /// A file whose content is stored already.
    File {
        /// Where.
        content: Content,
        /// Bytes of content.
        size: u64,
        /// How the objects are compressed.
        compression: Compression,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharacterDevice {
        /// Its number, as `makedev` packs it.
        device: u64,
    },
    /// A block device.
    BlockDevice {
        /// Its number, as `makedev` packs it.
        device: u64,
    },
}

/// An entry to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// What it is.
    pub kind: NewKind,
    /// Permission bits, `0o7777`.
    pub permissions: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// The nanoseconds of it, if they are to be kept.
    pub mtime_ns: Option<u32>,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

impl NewEntry {
    /// As a row of a catalog, the first link to it.
    pub(super) fn row(&self, name: &[u8]) -> Entry {
        let (file_type, flags, size) = match &self.kind {
            NewKind::Directory => (0o040_000, Flags::DIRECTORY, 4096),
            NewKind::File { size, content, compression } => {
                (0o100_000, Flags::FILE | Flags::of_content(content, *compression), *size)
            }
            NewKind::Symlink { target } => (0o120_000, Flags::FILE | Flags::SYMLINK, target.len() as u64),
            NewKind::Fifo => (0o010_000, Flags::FILE | Flags::SPECIAL, 0),
            NewKind::Socket => (0o140_000, Flags::FILE | Flags::SPECIAL, 0),
            // The number of a device stands where files have their size (`DirectoryEntry::rdev`).
            NewKind::CharacterDevice { device } => (0o020_000, Flags::FILE | Flags::SPECIAL, *device),
            NewKind::BlockDevice { device } => (0o060_000, Flags::FILE | Flags::SPECIAL, *device),
        };
        // Links have no permissions of their own: this is what `lstat` says of them.
        let permissions = if flags & Flags::SYMLINK != 0 { 0o777 } else { self.permissions & 0o7777 };
        Entry {
            name: name.to_vec(),
            flags: Flags(flags),
            mode: file_type | permissions,
            size,
            mtime: self.mtime,
            mtime_ns: self.mtime_ns,
            uid: self.uid,
            gid: self.gid,
            hardlinks: if flags == Flags::DIRECTORY { 2 } else { 1 },
            hash: match &self.kind {
                NewKind::File { content: Content::Whole(hash), .. } => Some(*hash),
                _ => None,
            },
            symlink: if let NewKind::Symlink { target } = &self.kind { target.clone() } else { Vec::new() },
            xattr: self.xattrs.pack(),
        }
    }

    /// The chunks of its content.
    pub(super) fn chunks(&self) -> &[Chunk] {
        match &self.kind {
            NewKind::File { content: Content::Chunks(chunks), .. } => chunks,
            _ => &[],
        }
    }

    /// What can be written of an entry that is there, to write it elsewhere or with other metadata; `chunks` are a
    /// file's. The nested catalog that may begin there is not part of it.
    pub fn of(entry: &Entry, chunks: Vec<Chunk>) -> Result<Self, Error> {
        let unknown = || Error::Unsupported(format!("an entry with the flags {:#x}", entry.flags.0));
        if entry.flags.has(Flags::EXTERNAL) {
            return Err(Error::Unsupported("copying a file whose content lies outside the repository".into()));
        }
        let kind = match entry.mode & 0o170_000 {
            0o040_000 => NewKind::Directory,
            0o120_000 => NewKind::Symlink { target: entry.symlink.clone() },
            0o010_000 => NewKind::Fifo,
            0o140_000 => NewKind::Socket,
            0o020_000 => NewKind::CharacterDevice { device: entry.size },
            0o060_000 => NewKind::BlockDevice { device: entry.size },
            0o100_000 => NewKind::File {
                content: match entry.hash {
                    Some(hash) => Content::Whole(hash),
                    None => Content::Chunks(chunks),
                },
                size: entry.size,
                compression: entry.compression().ok_or_else(unknown)?,
            },
            _ => return Err(unknown()),
        };
        Ok(Self {
            kind,
            permissions: entry.permissions(),
            mtime: entry.mtime,
            mtime_ns: entry.mtime_ns,
            uid: entry.uid,
            gid: entry.gid,
            xattrs: entry.xattrs()?,
        })
    }
}

impl Flags {
    fn of_content(content: &Content, compression: Compression) -> u32 {
        let algorithm = match content {
            Content::Whole(hash) => Some(hash.algorithm()),
            Content::Chunks(chunks) => chunks.first().map(|chunk| chunk.hash.algorithm()),
        };
        let algorithm = algorithm.unwrap_or(hash::Algorithm::Sha1);
        let chunked = if matches!(content, Content::Chunks(_)) { Self::CHUNKED } else { 0 };
        chunked | Self::stored_as(algorithm, compression)
    }
}
