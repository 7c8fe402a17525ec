//! From header blocks to entries: what belongs together, and where the archive ends.

use std::io::Read;

use super::error::ArchiveError;
use super::header::RawHeader;
use super::limits::ArchiveLimits;
use super::pax::Pax;
use super::sparse::Map;
use super::stream::Stream;
use super::tree::Tree;
use super::{ArchiveEntry, Summary};
use crate::domain::tree::EntryPath;

/// Most bytes of one extended header: names and extended attributes fit many times, a memory bomb does not.
const MAX_EXTENSION: u64 = 1 << 20;

/// Entries of an archive, one after the other. The content of each must be read before the next is asked for.
pub(super) struct Reader<'a> {
    pub(super) stream: Stream<'a>,
    pub(super) limits: ArchiveLimits,
    pub(super) tree: Tree,
    /// What global headers said, for all entries that follow.
    pub(super) global: Pax,
    pub(super) summary: Summary,
    first: bool,
}

/// What extended headers said about the entry that follows them.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) name: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) pax: Option<Pax>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.link.is_none() && self.pax.is_none()
    }
}

impl<'a> Reader<'a> {
    pub(super) fn open(
        source: impl Read + 'a,
        limits: ArchiveLimits,
        base: &EntryPath,
        absolute_root: &str,
    ) -> Result<Self, ArchiveError> {
        let stream = Stream::open(source, limits)?;
        let tree = Tree::new(base, absolute_root);
        Ok(Self { stream, limits, tree, global: Pax::default(), summary: Summary::default(), first: true })
    }

    /// The next entry and where its content lies; `None` after the end, which has then been checked to its last byte.
    pub(super) fn next(&mut self) -> Result<Option<(ArchiveEntry, Map)>, ArchiveError> {
        let mut pending = Pending::default();
        while let Some(header) = self.header()? {
            match header.flag {
                b'L' => {
                    let name = until_nul_at_end(self.extension(&header)?);
                    once(&mut pending.name, name).map_err(|()| self.bad("two long names for one entry"))?;
                }
                b'K' => {
                    let link = until_nul_at_end(self.extension(&header)?);
                    once(&mut pending.link, link).map_err(|()| self.bad("two long link targets for one entry"))?;
                }
                b'x' | b'X' => {
                    let bytes = self.extension(&header)?;
                    let pax = Pax::parse(&self.global, &bytes).map_err(|why| self.bad(why))?;
                    once(&mut pending.pax, pax).map_err(|()| self.bad("two extended headers for one entry"))?;
                }
                b'g' => {
                    let bytes = self.extension(&header)?;
                    self.global = Pax::parse(&self.global, &bytes).map_err(|why| self.bad(why))?;
                    if self.global.is_about_one_entry() {
                        return Err(self.bad("a global header gives a name, size or map to all entries"));
                    }
                }
                // The label of a volume, as `tar -V` writes it.
                b'V' if pending.is_empty() && header.size == Some(0) => {}
                _ => return self.entry(&header, pending).map(Some),
            }
        }
        if !pending.is_empty() {
            return Err(self.bad("it describes an entry that does not follow"));
        }
        self.tree.finish().map_err(|(link, why)| ArchiveError::Entry { entry: link.to_string(), why })?;
        self.stream.finish()?;
        Ok(None)
    }

    /// The next header block; `None` for the end mark.
    fn header(&mut self) -> Result<Option<RawHeader>, ArchiveError> {
        let mut block = [0; 512];
        let filled = self.stream.fill(&mut block)?;
        let first = std::mem::replace(&mut self.first, false);
        if filled < block.len() {
            return Err(match (first, filled) {
                (true, 0) => ArchiveError::NotTar { found: "it is empty" },
                (true, _) => ArchiveError::NotTar { found: "it is too short for one" },
                (false, _) => ArchiveError::Truncated { place: self.stream.place() },
            });
        }
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        match RawHeader::decode(block) {
            Some(header) => Ok(Some(header)),
            None if first => Err(ArchiveError::NotTar { found: "its first block is no header of an entry" }),
            None => Err(self.bad("its checksum is wrong")),
        }
    }

    /// The content of an extended header.
    fn extension(&mut self, header: &RawHeader) -> Result<Vec<u8>, ArchiveError> {
        match header.size {
            None => Err(self.bad("its size is no number")),
            Some(size) if size > MAX_EXTENSION => Err(self.stream.limit("bytes in an extended header", MAX_EXTENSION)),
            Some(size) => self.stream.blocks(size),
        }
    }

    fn bad(&self, why: &'static str) -> ArchiveError {
        ArchiveError::Header { place: self.stream.place(), why }
    }
}

/// Keeps what may come only once.
fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), ()> {
    if slot.replace(value).is_some() { Err(()) } else { Ok(()) }
}

/// GNU ends long names with a NUL, others do not.
fn until_nul_at_end(mut bytes: Vec<u8>) -> Vec<u8> {
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}
