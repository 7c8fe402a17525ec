//! Why an archive is refused.

use crate::domain::tree::{EntryPath, PathError};

/// Why reading an archive ended early: the archive's fault or the receiver's.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// The archive is refused.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Whoever receives the entries said no.
    #[error("cannot take entry {entry:?} of the archive")]
    Sink {
        /// The entry that was offered.
        entry: EntryPath,
        /// What the receiver said.
        #[source]
        source: E,
    },
}

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Something else than a tarball.
    #[error("not a tar archive: {found}; give a .tar, plain or compressed with gzip, zstd or xz")]
    NotTar {
        /// What it is instead.
        found: &'static str,
    },
    /// The bytes of the archive could not be read.
    #[error("cannot read the archive {place}")]
    Source {
        /// Where in the archive.
        place: Place,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The compression around the archive is broken, or cut off.
    #[error("the archive's {format} stream is damaged or cut off {place}: make or upload it again")]
    Compression {
        /// gzip, zstd or xz.
        format: &'static str,
        /// Where in the archive.
        place: Place,
        /// What the decoder said.
        #[source]
        source: std::io::Error,
    },
    /// The archive ends before its end mark.
    #[error("the archive is cut off {place}: make or upload it again")]
    Truncated {
        /// Where in the archive.
        place: Place,
    },
    /// A header that cannot be understood.
    #[error("the archive has a bad header {place}: {why}")]
    Header {
        /// Where in the archive.
        place: Place,
        /// What is wrong.
        why: &'static str,
    },
    /// Something follows the end mark, which other programs ignore or not, as they please.
    #[error("the archive has data after its end {place}: concatenated archives are not read, make one of them")]
    TrailingData {
        /// Where in the archive.
        place: Place,
    },
    /// An entry that is not allowed.
    #[error("the archive's entry {entry:?} is refused: {why}")]
    Entry {
        /// The entry's name as it stands in the archive, shortened.
        entry: String,
        /// Which rule it breaks.
        why: Refusal,
    },
    /// More than is accepted.
    #[error("the archive exceeds the limit of {limit} {what} {place}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// The limit that was set.
        limit: u64,
        /// Where in the archive.
        place: Place,
    },
}

impl ArchiveError {
    /// Tells whether trying again later, unchanged, can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Source { .. } => true,
            Self::NotTar { .. }
            | Self::Compression { .. }
            | Self::Truncated { .. }
            | Self::Header { .. }
            | Self::TrailingData { .. }
            | Self::Entry { .. }
            | Self::Limit { .. } => false,
        }
    }
}

/// Which rule an entry breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its name is not a path below the directory where the archive goes.
    #[error("{0}")]
    Path(PathError),
    /// No name, or only dots, and not a directory.
    #[error("it has no name of its own")]
    NoName,
    /// A kind that CernVM-FS payloads have no use for.
    #[error("it is {0}; only files, directories, links, named pipes and devices are taken")]
    Kind(String),
    /// A symbolic link that points out of the directory where the archive goes.
    #[error("it is a symbolic link to {target:?}, which leads out of the directory that the archive goes to")]
    LinkOutside {
        /// The link's target.
        target: String,
    },
    /// A symbolic link that leads nowhere by construction.
    #[error("it is a symbolic link whose target {0}")]
    LinkTarget(&'static str),
    /// A symbolic link that climbs with `..` out of another one.
    #[error("it is a symbolic link that climbs with `..` through {through:?}, itself a symbolic link")]
    ClimbsThroughLink {
        /// The other link.
        through: EntryPath,
    },
    /// Something below a symbolic link.
    #[error("it lies below {link:?}, which is a symbolic link in the same archive")]
    ThroughLink {
        /// The link.
        link: EntryPath,
    },
    /// Two entries that cannot both be.
    #[error("{path:?} is a directory and something else in the same archive")]
    Collision {
        /// The path that is claimed twice.
        path: EntryPath,
    },
    /// A hard link to something that cannot be linked to.
    #[error("it is a hard link to {target:?}, {why}")]
    HardLink {
        /// The link's target.
        target: String,
        /// Why that does not do.
        why: &'static str,
    },
    /// A number that is out of range or none.
    #[error("its {0} is not a number that can be stored")]
    Number(&'static str),
    /// Content where tar programs disagree whether there is any.
    #[error("it is {kind} and yet says it has content, which tar programs read in different ways")]
    HasContent {
        /// A directory, a symbolic link, a hard link.
        kind: &'static str,
    },
    /// Its name or target is given twice, differently.
    #[error("its {0} is given twice, differently")]
    Ambiguous(&'static str),
    /// A sparse file whose map makes no sense.
    #[error("it is a sparse file whose map is wrong: {0}")]
    Sparse(&'static str),
}

/// Where in an archive something went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The last entry begun, as it is named in the archive; `None` at the beginning.
    pub entry: Option<String>,
    /// Tells whether it was within that entry's content, and not after it.
    pub within: bool,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.entry, self.within) {
            (None, _) => f.write_str("at its beginning"),
            (Some(entry), true) => write!(f, "in entry {entry:?}"),
            (Some(entry), false) => write!(f, "after entry {entry:?}"),
        }
    }
}

/// Bytes from an archive as they may be shown.
pub(super) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_an_error_reads_well() {
        let place = |entry: Option<&str>, within| Place { entry: entry.map(Into::into), within }.to_string();
        assert_eq!(place(None, false), "at its beginning");
        assert_eq!(place(Some("a/b"), true), "in entry \"a/b\"");
        assert_eq!(place(Some("a/b"), false), "after entry \"a/b\"");
    }
}
