//! One entry, put together from its header and what extended headers said, and checked.

use super::error::{ArchiveError, Refusal, shown};
use super::header::RawHeader;
use super::pax::Pax;
use super::reader::{Pending, Reader};
use super::sparse::{Map, MapError};
use super::{ArchiveEntry, ArchiveItem};
use crate::domain::tree::{EntryKind, EntryMeta, EntryPath};

impl Reader<'_> {
    /// Checks an entry against the rules and the limits, and returns it with where its content lies.
    pub(super) fn entry(&mut self, header: &RawHeader, pending: Pending) -> Result<(ArchiveEntry, Map), ArchiveError> {
        let Pending { name, link, pax } = pending;
        let mut pax = pax.unwrap_or_else(|| self.global.clone());
        // The path of a sparse file is made up, for programs that do not know of them.
        if let Some(name) = pax.sparse.as_mut().and_then(|sparse| sparse.name.take()) {
            pax.path = Some(name);
        }
        let shown_name = shown(pax.path.as_ref().or(name.as_ref()).unwrap_or(&header.name));
        self.stream.set_place(&shown_name, true);
        let (entry, map) = self.build(header, name, link, &mut pax).map_err(|error| match error {
            MapError::Refusal(why) => ArchiveError::Entry { entry: shown_name, why },
            MapError::Archive(error) => error,
        })?;
        self.count(&map, pax.ignored_attributes)?;
        Ok((entry, map))
    }

    fn build(
        &mut self,
        header: &RawHeader,
        name: Option<Vec<u8>>,
        link: Option<Vec<u8>>,
        pax: &mut Pax,
    ) -> Result<(ArchiveEntry, Map), MapError> {
        let name = agreed(pax.path.take(), name, "name")?.unwrap_or_else(|| header.name.clone());
        let link = agreed(pax.linkpath.take(), link, "link target")?.unwrap_or_else(|| header.link.clone());
        if name.is_empty() {
            return Err(Refusal::NoName.into());
        }
        let path = EntryPath::new(&name).map_err(Refusal::Path)?;
        let meta = meta(header, pax)?;
        let stored = pax.size.or(header.size).ok_or(Refusal::Number("size"))?;
        // Before a map is read on the word of it.
        if stored > self.limits.file_bytes {
            return Err(self.stream.limit("bytes in one file", self.limits.file_bytes).into());
        }
        let (item, map) = match header.flag {
            // The seventh edition had no type for directories, only the slash at the end of their names.
            b'0' | 0 | b'7' if name.ends_with(b"/") => (self.directory(&path, stored)?, Map::solid(0)),
            b'0' | 0 | b'7' | b'S' => {
                let map = self.map(header, pax, stored)?;
                self.tree.file(&path)?;
                (ArchiveItem::Node(EntryKind::File { size: map.size }), map)
            }
            b'1' => {
                no_content("a hard link", stored)?;
                (ArchiveItem::HardLink { to: self.tree.hard_link(&path, &link)? }, Map::solid(0))
            }
            b'2' => {
                no_content("a symbolic link", stored)?;
                self.tree.symlink(&path, &link)?;
                (ArchiveItem::Node(EntryKind::Symlink { target: link }), Map::solid(0))
            }
            b'3' | b'4' | b'6' => {
                no_content("a device or named pipe", stored)?;
                self.tree.file(&path)?;
                (ArchiveItem::Node(special(header)?), Map::solid(0))
            }
            b'5' => (self.directory(&path, stored)?, Map::solid(0)),
            flag => return Err(Refusal::Kind(kind_of(flag)).into()),
        };
        Ok((ArchiveEntry { path, meta, item }, map))
    }

    /// Where the content of a file lies.
    fn map(&mut self, header: &RawHeader, pax: &mut Pax, stored: u64) -> Result<Map, MapError> {
        match (pax.sparse.take(), header.flag) {
            (Some(_), b'S') => Err(Refusal::Ambiguous("sparse map").into()),
            (Some(sparse), _) => Map::of_pax(sparse, stored, &mut self.stream),
            (None, b'S') => Map::of_gnu(header, stored, &mut self.stream),
            (None, _) => Ok(Map::solid(stored)),
        }
    }

    fn directory(&mut self, path: &EntryPath, stored: u64) -> Result<ArchiveItem, Refusal> {
        no_content("a directory", stored)?;
        self.tree.directory(path)?;
        Ok(ArchiveItem::Node(EntryKind::Directory))
    }

    fn count(&mut self, map: &Map, ignored_attributes: u64) -> Result<(), ArchiveError> {
        if map.size > self.limits.file_bytes {
            return Err(self.stream.limit("bytes in one file", self.limits.file_bytes));
        }
        self.summary.entries += 1;
        self.summary.bytes = self.summary.bytes.saturating_add(map.size);
        self.summary.ignored_attributes += ignored_attributes;
        // One name can imply two thousand directories, which have to be made as well.
        if self.summary.entries.max(self.tree.len()) > self.limits.entries {
            return Err(self.stream.limit("entries", self.limits.entries));
        }
        // Holes cost nothing in the archive, but everything to whoever stores them.
        self.stream.spend(map.size - map.stored)
    }
}

/// What both POSIX and GNU say, if they agree; programs differ in whom they believe.
fn agreed(pax: Option<Vec<u8>>, gnu: Option<Vec<u8>>, what: &'static str) -> Result<Option<Vec<u8>>, Refusal> {
    match (pax, gnu) {
        (Some(pax), Some(gnu)) if pax != gnu => Err(Refusal::Ambiguous(what)),
        (pax, gnu) => Ok(pax.or(gnu)),
    }
}

fn no_content(kind: &'static str, stored: u64) -> Result<(), Refusal> {
    if stored == 0 { Ok(()) } else { Err(Refusal::HasContent { kind }) }
}

fn special(header: &RawHeader) -> Result<EntryKind, Refusal> {
    let number = |number: Option<i128>| number.and_then(|number| u32::try_from(number).ok());
    let device = || number(header.major).zip(number(header.minor)).ok_or(Refusal::Number("device"));
    Ok(match header.flag {
        b'3' => device().map(|(major, minor)| EntryKind::CharacterDevice { major, minor })?,
        b'4' => device().map(|(major, minor)| EntryKind::BlockDevice { major, minor })?,
        _ => EntryKind::Fifo,
    })
}

fn meta(header: &RawHeader, pax: &mut Pax) -> Result<EntryMeta, Refusal> {
    let owner = |pax: Option<u64>, header: Option<i128>, what| {
        let number = pax.map(i128::from).or(header);
        number.and_then(|number| u32::try_from(number).ok()).ok_or(Refusal::Number(what))
    };
    let mtime = pax.mtime.or_else(|| header.mtime.and_then(|mtime| i64::try_from(mtime).ok()));
    Ok(EntryMeta {
        mode: header.mode.map(|mode| (mode & 0o7777) as u32).ok_or(Refusal::Number("mode"))?,
        mtime: mtime.ok_or(Refusal::Number("time"))?,
        uid: owner(pax.uid, header.uid, "owner")?,
        gid: owner(pax.gid, header.gid, "group")?,
        attributes: std::mem::take(&mut pax.attributes),
    })
}

/// What a type flag that is not taken stands for.
fn kind_of(flag: u8) -> String {
    match flag {
        b's' => "a socket".into(),
        b'M' => "the continuation of a file from another volume".into(),
        b'D' => "a directory of an incremental backup".into(),
        b'V' => "a volume label with content".into(),
        b'A' | b'E' => "a Solaris access control list or attribute".into(),
        _ => format!("of the unknown type {:?}", char::from(flag)),
    }
}
