//! Sparse files: which bytes of the file are in the archive, in the four ways that GNU tar has written it.

use super::header::{RawHeader, number};
use super::pax::parse_decimal;
use super::stream::{BLOCK, Stream};
use super::{ArchiveError, Refusal};

/// Most stretches of data that a map may have; 16 bytes of memory each.
const MAX_SEGMENTS: usize = 1 << 18;

/// A stretch of a file that is stored in the archive; what lies between them reads as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Which bytes of a file are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    /// Ascending, disjoint, none of them empty.
    pub(super) segments: Vec<Segment>,
    /// Bytes of the file, holes included.
    pub(super) size: u64,
    /// Bytes in the archive, without padding.
    pub(super) stored: u64,
}

impl Map {
    /// A file without holes.
    pub(super) fn solid(size: u64) -> Self {
        let segments = if size == 0 { Vec::new() } else { vec![Segment { offset: 0, length: size }] };
        Self { segments, size, stored: size }
    }

    /// Checks a map against the size of the file and of what is stored.
    fn new(pairs: &[Segment], size: u64, stored: u64) -> Result<Self, Refusal> {
        let mut segments = Vec::new();
        let (mut end, mut total) = (0u64, 0u64);
        for segment in pairs {
            if segment.offset < end {
                return Err(Refusal::Sparse("its parts overlap or are out of order"));
            }
            if total % BLOCK != 0 && segment.length > 0 {
                return Err(Refusal::Sparse("its parts do not begin at block boundaries"));
            }
            end = segment.offset.checked_add(segment.length).ok_or(Refusal::Sparse("its parts are too long"))?;
            total = total.checked_add(segment.length).ok_or(Refusal::Sparse("its parts are too long"))?;
            if segment.length > 0 {
                segments.push(*segment);
            }
        }
        if end > size {
            return Err(Refusal::Sparse("its parts reach beyond the end of the file"));
        }
        if total != stored {
            return Err(Refusal::Sparse("its parts do not add up to what is stored"));
        }
        Ok(Self { segments, size, stored })
    }

    /// Reads the map of GNU's own header (type `S`) and the blocks that continue it.
    pub(super) fn of_gnu(header: &RawHeader, stored: u64, stream: &mut Stream<'_>) -> Result<Self, MapError> {
        let block = &header.block;
        let mut pairs = Vec::new();
        take_fields(&block[386..482], &mut pairs)?;
        let mut extended = block[482] != 0;
        while extended {
            let more = stream.block()?;
            take_fields(&more[..504], &mut pairs)?;
            extended = more[504] != 0;
        }
        let size = number(&block[483..495]).and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or(Refusal::Sparse("its size is no number"))?;
        Ok(Self::new(&pairs, size, stored)?)
    }

    /// Reads the map that a pax header announces; in version 1.0 it stands before the content and is part of
    /// `stored`.
    pub(super) fn of_pax(pax: PaxSparse, stored: u64, stream: &mut Stream<'_>) -> Result<Self, MapError> {
        let size = pax.size.ok_or(Refusal::Sparse("its size is missing"))?;
        match (pax.major, pax.minor) {
            (Some(1), Some(0)) => {
                let (pairs, used) = in_front(stored, stream)?;
                Ok(Self::new(&pairs, size, stored - used)?)
            }
            (None | Some(0), None | Some(0 | 1)) if pax.offset.is_none() => Ok(Self::new(&pax.pairs, size, stored)?),
            _ => Err(Refusal::Sparse("its version is not known; only 0.0, 0.1 and 1.0 are").into()),
        }
    }
}

/// Why a map could not be had: the entry's fault, or the archive's.
pub(super) enum MapError {
    Refusal(Refusal),
    Archive(ArchiveError),
}

impl From<Refusal> for MapError {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<ArchiveError> for MapError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

fn push(pairs: &mut Vec<Segment>, offset: u64, length: u64) -> Result<(), Refusal> {
    if pairs.len() >= MAX_SEGMENTS {
        return Err(Refusal::Sparse("it has too many parts"));
    }
    pairs.push(Segment { offset, length });
    Ok(())
}

/// Pairs of 12-byte fields; unused ones are empty.
fn take_fields(fields: &[u8], pairs: &mut Vec<Segment>) -> Result<(), Refusal> {
    for pair in fields.chunks_exact(24) {
        if pair[0] == 0 || pair[12] == 0 {
            continue;
        }
        let field = |field: &[u8]| number(field).and_then(|value| u64::try_from(value).ok());
        let (Some(offset), Some(length)) = (field(&pair[..12]), field(&pair[12..])) else {
            return Err(Refusal::Sparse("it holds something that is no number"));
        };
        push(pairs, offset, length)?;
    }
    Ok(())
}

/// Version 1.0: decimal lines in front of the content, their number first, padded to a block. Returns the bytes used.
fn in_front(stored: u64, stream: &mut Stream<'_>) -> Result<(Vec<Segment>, u64), MapError> {
    let mut used = 0;
    let mut line = Vec::new();
    let mut expected: Option<u64> = None;
    let mut offset: Option<u64> = None;
    let mut pairs = Vec::new();
    loop {
        used += BLOCK;
        if used > stored {
            return Err(Refusal::Sparse("it is longer than what is stored").into());
        }
        for byte in stream.block()? {
            if byte != b'\n' {
                line.push(byte);
                if line.len() > 20 {
                    return Err(Refusal::Sparse("it holds something that is no number").into());
                }
                continue;
            }
            let value = parse_decimal(&line).ok_or(Refusal::Sparse("it holds something that is no number"))?;
            line.clear();
            match (expected, offset.take()) {
                (None, _) => expected = Some(value),
                (Some(_), None) => offset = Some(value),
                (Some(_), Some(offset)) => push(&mut pairs, offset, value)?,
            }
            if expected == Some(pairs.len() as u64) {
                return Ok((pairs, used));
            }
        }
    }
}

/// What a pax header says about a sparse file.
#[derive(Debug, Default, Clone)]
pub(super) struct PaxSparse {
    major: Option<u64>,
    minor: Option<u64>,
    /// The file's real name; the header's own one is made up.
    pub(super) name: Option<Vec<u8>>,
    size: Option<u64>,
    offset: Option<u64>,
    pairs: Vec<Segment>,
}

impl PaxSparse {
    /// Takes one record, its key without `GNU.sparse.`.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        const WRONG: &str = "an extended header has a sparse map that is wrong";
        let number = || parse_decimal(value).ok_or(WRONG);
        match key {
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"offset" if self.offset.is_none() => self.offset = Some(number()?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or(WRONG)?;
                push(&mut self.pairs, offset, number()?).map_err(|_| WRONG)?;
            }
            b"map" => {
                let numbers: Option<Vec<u64>> = value.split(|b| *b == b',').map(parse_decimal).collect();
                let numbers = numbers.filter(|numbers| numbers.len() % 2 == 0).ok_or(WRONG)?;
                for pair in numbers.chunks_exact(2) {
                    push(&mut self.pairs, pair[0], pair[1]).map_err(|_| WRONG)?;
                }
            }
            b"numblocks" => {}
            _ => return Err(WRONG),
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn map(pairs: &[(u64, u64)], size: u64, stored: u64) -> Result<Map, Refusal> {
        let pairs: Vec<_> = pairs.iter().map(|(offset, length)| Segment { offset: *offset, length: *length }).collect();
        Map::new(&pairs, size, stored)
    }

    #[test]
    fn a_map_must_add_up() {
        assert_eq!(map(&[(1024, 512), (4096, 5), (5000, 0)], 5000, 517).unwrap().segments.len(), 2);
        assert_eq!(map(&[], 1 << 40, 0).unwrap().segments, []);
        for (pairs, size, stored) in [
            (&[(0, 512), (0, 512)][..], 1024, 1024),
            (&[(512, 512), (0, 512)], 1024, 1024),
            (&[(0, 513)], 512, 513),
            (&[(0, 512)], 512, 511),
            (&[(0, 5), (512, 5)], 1024, 10),
            (&[(u64::MAX, 1)], u64::MAX, 1),
            (&[(1, u64::MAX)], u64::MAX, u64::MAX),
            (&[(600, 0)], 512, 0),
        ] {
            assert!(map(pairs, size, stored).is_err(), "{pairs:?} {size} {stored}");
        }
    }

    #[test]
    fn the_records_of_all_versions_are_understood_and_others_refused() {
        let mut sparse = PaxSparse::default();
        for (key, value) in [("numblocks", "1"), ("offset", "512"), ("numbytes", "3"), ("size", "600"), ("name", "x")] {
            sparse.take(key.as_bytes(), value.as_bytes()).unwrap();
        }
        assert_eq!((sparse.pairs.len(), sparse.size), (1, Some(600)));
        for (key, value) in
            [("map", "1,2,3"), ("map", ""), ("map", "1,-2"), ("numbytes", "1"), ("size", ""), ("x", "1")]
        {
            assert!(PaxSparse::default().take(key.as_bytes(), value.as_bytes()).is_err(), "{key}={value}");
        }
    }
}
