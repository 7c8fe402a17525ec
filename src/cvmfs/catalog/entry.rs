//! Rows of a catalog's main table.

use super::super::Error;
use super::super::database::{Text, bytes};
use super::super::hash::{Algorithm, ContentHash};
use super::super::xattr::Xattrs;

use super::PathHash;

/// The bits of a row's `flags` (`cvmfs/catalog_sql.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    /// A directory.
    pub const DIRECTORY: u32 = 1;
    /// A directory that another catalog continues.
    pub const NESTED_MOUNTPOINT: u32 = 2;
    /// Anything but a directory.
    pub const FILE: u32 = 4;
    /// A symbolic link, together with `FILE`.
    pub const SYMLINK: u32 = 8;
    /// A device, socket or FIFO, together with `FILE`.
    pub const SPECIAL: u32 = 16;
    /// The root of a nested catalog, in that catalog.
    pub const NESTED_ROOT: u32 = 32;
    /// A file in chunks.
    pub const CHUNKED: u32 = 64;
    /// A file whose content lies outside the repository.
    pub const EXTERNAL: u32 = 128;
    /// A directory at which another revision's root is mounted.
    pub const BIND_MOUNTPOINT: u32 = 0x4000;
    /// Not shown in listings.
    pub const HIDDEN: u32 = 0x8000;

    /// Read past the client's kernel cache.
    pub const DIRECT_IO: u32 = 0x10000;

    pub(super) const HASH_SHIFT: u32 = 8;
    const COMPRESSION_SHIFT: u32 = 11;

    /// The bits that say how objects are named and compressed.
    pub(crate) fn stored_as(algorithm: Algorithm, compression: Compression) -> u32 {
        let compression = match compression {
            Compression::Zlib => 0,
            Compression::None => 1,
        };
        (algorithm.flag_bits() << Self::HASH_SHIFT) | (compression << Self::COMPRESSION_SHIFT)
    }

    /// Tells whether any of these bits is set.
    pub fn has(self, bits: u32) -> bool {
        self.0 & bits != 0
    }
}

/// How a file's objects are compressed (`cvmfs/compression/compression.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A zlib stream.
    Zlib,
    /// Stored as they are.
    None,
}

/// One entry of a directory, or the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name; empty for the root of the repository.
    pub name: Vec<u8>,
    /// What it is.
    pub flags: Flags,
    /// File type and permissions, as `st_mode`.
    pub mode: u32,
    /// Bytes of content; 4096 for directories; the target's length for links.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// The nanoseconds of it, where they were kept.
    pub mtime_ns: Option<u32>,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Link count (low 32 bits) and hard-link group (high 32 bits).
    pub hardlinks: u64,
    /// The content of a file that is in one piece.
    pub hash: Option<ContentHash>,
    /// The target of a symbolic link, as it is stored: clients expand `$(VARIABLE)`.
    pub symlink: Vec<u8>,
    /// Extended attributes, packed.
    pub xattr: Option<Vec<u8>>,
}

impl Entry {
    /// Tells whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.flags.has(Flags::DIRECTORY)
    }

    /// Tells whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.flags.has(Flags::SYMLINK)
    }

    /// Tells whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.flags.has(Flags::FILE) && !self.flags.has(Flags::SYMLINK | Flags::SPECIAL)
    }

    /// Links to it; for a directory two and one for each directory in it.
    pub fn link_count(&self) -> u32 {
        self.hardlinks as u32
    }

    /// Which entries of the same directory are hard links of it; 0 for none.
    pub fn hardlink_group(&self) -> u32 {
        (self.hardlinks >> 32) as u32
    }

    /// The permission bits alone.
    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    /// How its objects are compressed; `None` for a method that this code does not know.
    pub fn compression(&self) -> Option<Compression> {
        match (self.flags.0 >> Flags::COMPRESSION_SHIFT) & 7 {
            0 => Some(Compression::Zlib),
            1 => Some(Compression::None),
            _ => None,
        }
    }

    /// The algorithm that names its objects.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.flags.algorithm()
    }

    /// Its extended attributes.
    pub fn xattrs(&self) -> Result<Xattrs, Error> {
        self.xattr.as_deref().map_or(Ok(Xattrs::new()), Xattrs::unpack)
    }

    /// The columns that [`Entry::from_row`] reads, for a catalog of a schema revision.
    pub(super) fn columns(schema_revision: u32) -> &'static str {
        if schema_revision >= 7 {
            "name, flags, mode, size, mtime, mtimens, uid, gid, hardlinks, hash, symlink, xattr"
        } else {
            "name, flags, mode, size, mtime, NULL, uid, gid, hardlinks, hash, symlink, xattr"
        }
    }

    pub(super) fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let xattr = bytes(row, 11)?;
        let mut entry = Self {
            name: bytes(row, 0)?,
            flags: Flags(row.get(1)?),
            mode: row.get(2)?,
            size: row.get::<_, i64>(3)?.cast_unsigned(),
            mtime: row.get(4)?,
            mtime_ns: row.get(5)?,
            uid: row.get::<_, i64>(6)? as u32,
            gid: row.get::<_, i64>(7)? as u32,
            hardlinks: row.get::<_, i64>(8)?.cast_unsigned(),
            hash: None,
            symlink: bytes(row, 10)?,
            xattr: (!xattr.is_empty()).then_some(xattr),
        };
        let digest = bytes(row, 9)?;
        if let (false, Some(algorithm)) = (digest.is_empty(), entry.algorithm()) {
            entry.hash = ContentHash::from_digest(algorithm, &digest).ok();
        }
        Ok(entry)
    }

    /// Writes it as a row. A row of the same path is changed in place, since clients make inodes from row ids.
    pub(super) fn store(
        &self,
        connection: &rusqlite::Connection,
        key: PathHash,
        parent: PathHash,
    ) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached(
            "INSERT INTO catalog (md5path_1, md5path_2, parent_1, parent_2, hardlinks, hash, size, mode, mtime, \
             mtimens, flags, name, symlink, uid, gid, xattr) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) \
             ON CONFLICT (md5path_1, md5path_2) DO UPDATE SET hardlinks = ?5, hash = ?6, size = ?7, mode = ?8, \
             mtime = ?9, mtimens = ?10, flags = ?11, name = ?12, symlink = ?13, uid = ?14, gid = ?15, xattr = ?16",
        )?;
        statement.execute(rusqlite::params![
            key.0,
            key.1,
            parent.0,
            parent.1,
            self.hardlinks.cast_signed(),
            self.hash.map(|hash| *hash.digest()),
            self.size.cast_signed(),
            self.mode,
            self.mtime,
            self.mtime_ns,
            self.flags.0,
            Text(&self.name),
            Text(&self.symlink),
            self.uid,
            self.gid,
            self.xattr,
        ])?;
        Ok(())
    }
}
