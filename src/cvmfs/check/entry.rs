//! One entry by itself.

use super::super::catalog::{Entry, Flags, Row};
use super::super::xattr::Xattrs;
use super::report::Code;

/// What the mode says that an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
    Symlink,
    Pipe,
    Device,
}

impl Kind {
    fn of(mode: u32) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o040_000 => Self::Directory,
            0o100_000 => Self::File,
            0o120_000 => Self::Symlink,
            0o010_000 | 0o140_000 => Self::Pipe,
            0o020_000 | 0o060_000 => Self::Device,
            _ => return None,
        })
    }

    /// The flags that go with it, of those that tell kinds apart.
    fn flags(self) -> u32 {
        match self {
            Self::Directory => Flags::DIRECTORY,
            Self::File => Flags::FILE,
            Self::Symlink => Flags::FILE | Flags::SYMLINK,
            Self::Pipe | Self::Device => Flags::FILE | Flags::SPECIAL,
        }
    }
}

const KINDS: u32 = Flags::DIRECTORY | Flags::FILE | Flags::SYMLINK | Flags::SPECIAL;
const OF_FILES: u32 = Flags::CHUNKED | Flags::EXTERNAL | Flags::DIRECT_IO;
const OF_DIRECTORIES: u32 = Flags::NESTED_MOUNTPOINT | Flags::NESTED_ROOT | Flags::BIND_MOUNTPOINT;

/// A name as long as Linux allows.
const LONGEST_NAME: usize = 255;

/// Tells what is wrong with a row, whatever stands around it. The root of the repository has no name.
pub(super) fn examine(row: &Row, is_root: bool, say: &mut dyn FnMut(Code, String)) {
    let entry = &row.entry;
    if !is_root {
        name(&entry.name, say);
    }
    if entry.link_count() == 0 {
        say(Code::LinkCountZero, "its link count is 0".into());
    }
    if entry.mtime_ns.is_some_and(|nanoseconds| nanoseconds >= 1_000_000_000) {
        say(Code::Nanoseconds, "the nanoseconds of its mtime are a second or more".into());
    }
    if entry.size > i64::MAX.cast_unsigned() {
        say(Code::Size, format!("its size is {}", entry.size.cast_signed()));
    }
    if !matches!(row.digest_bytes, 0 | 20) {
        say(Code::HashMalformed, format!("its hash has {} bytes, not 20", row.digest_bytes));
    }
    if row.has_xattr && entry.xattr.as_deref().is_none_or(|packed| Xattrs::unpack(packed).is_err()) {
        say(Code::Xattr, "its extended attributes cannot be unpacked".into());
    }
    let kind = Kind::of(entry.mode).filter(|_| entry.mode >> 16 == 0);
    let Some(kind) = kind else {
        return say(Code::Mode, format!("its mode is {:#o}", entry.mode));
    };
    if entry.flags.0 & KINDS != kind.flags() {
        say(Code::Mode, format!("its mode, {:#o}, and its flags, {:#x}, disagree", entry.mode, entry.flags.0));
    }
    flags(entry, kind, say);
    content(row, kind, say);
}

fn name(name: &[u8], say: &mut dyn FnMut(Code, String)) {
    let why = match name {
        b"" => "it has no name",
        b"." | b".." => "its name stands for a directory",
        name if name.contains(&b'/') => "its name has a slash in it",
        name if name.contains(&0) => "its name has a zero byte in it",
        name if name.len() > LONGEST_NAME => "its name is longer than 255 bytes",
        _ => return,
    };
    say(Code::Name, why.into());
}

fn flags(entry: &Entry, kind: Kind, say: &mut dyn FnMut(Code, String)) {
    let flags = entry.flags;
    if kind != Kind::File && flags.has(OF_FILES) {
        say(Code::Flags, format!("its flags, {:#x}, are for regular files", flags.0));
    }
    if kind != Kind::Directory && flags.has(OF_DIRECTORIES) {
        say(Code::Flags, format!("its flags, {:#x}, are for directories", flags.0));
    }
    if (flags.0 & OF_DIRECTORIES).count_ones() > 1 {
        say(Code::Flags, format!("its flags, {:#x}, name more than one transition between catalogs", flags.0));
    }
    if entry.algorithm().is_none() {
        say(Code::HashAlgorithm, format!("its flags, {:#x}, name no hash algorithm", flags.0));
    }
    if entry.compression().is_none() {
        say(Code::Compression, format!("its flags, {:#x}, name no compression", flags.0));
    }
}

fn content(row: &Row, kind: Kind, say: &mut dyn FnMut(Code, String)) {
    let entry = &row.entry;
    if kind == Kind::File {
        let has_hash = entry.hash.is_some_and(|hash| !hash.is_null());
        // A digest of a wrong length was told of already.
        if !has_hash && matches!(row.digest_bytes, 0 | 20) && !entry.flags.has(Flags::CHUNKED) {
            say(Code::HashMissing, "it has neither a hash nor chunks".into());
        }
    } else if row.digest_bytes > 0 && entry.hash.is_none_or(|hash| !hash.is_null()) {
        say(Code::HashUnexpected, "it has a hash, as only regular files do".into());
    }
    if kind == Kind::Directory && entry.hardlink_group() != 0 {
        say(Code::HardlinkGroup, "it is a directory in a group of hard links".into());
    }
    if kind == Kind::Pipe && entry.size != 0 {
        say(Code::Size, format!("its size is {}, though it has no content", entry.size));
    }
    match (kind, entry.symlink.as_slice()) {
        (Kind::Symlink, b"") => say(Code::SymlinkTarget, "it points nowhere".into()),
        (Kind::Symlink, target) => {
            if target.contains(&0) {
                say(Code::SymlinkTarget, "its target has a zero byte in it".into());
            }
            if entry.size != target.len() as u64 {
                say(Code::SymlinkSize, format!("its size is {}, its target has {} bytes", entry.size, target.len()));
            }
        }
        (_, b"") => {}
        _ => say(Code::SymlinkTarget, "it has a target, as only symbolic links do".into()),
    }
}
