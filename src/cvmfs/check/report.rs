//! What a check finds.

use std::fmt;

use super::super::hash::{ContentHash, ObjectKind};

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Works today.
    Warning,
    /// Clients or tools fail over it, or show something wrong.
    Error,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $code:literal $severity:ident,)*) => {
        /// What is wrong, as a stable name for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// How bad it is.
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }
        }
    };
}

codes! {
    /// The manifest's revision is not its root catalog's.
    ManifestRevision "manifest-revision" Error,
    /// The whitelist's time is over.
    WhitelistExpired "whitelist-expired" Error,
    /// The whitelist's time is over within a week.
    WhitelistExpiresSoon "whitelist-expires-soon" Warning,
    /// An object that the manifest names is not linked from the base.
    AlternativePath "alternative-path" Error,
    /// The metainfo cannot be read.
    MetainfoUnreadable "metainfo-unreadable" Error,
    /// The metainfo is no JSON.
    MetainfoText "metainfo-text" Warning,
    /// There is no reflog, though the manifest has its hash.
    ReflogMissing "reflog-missing" Warning,
    /// There is a reflog, though the manifest has no hash of it.
    ReflogUnvouched "reflog-unvouched" Error,
    /// The reflog has another hash than the manifest says.
    ReflogHash "reflog-hash" Error,
    /// The reflog cannot be read, or is another repository's.
    ReflogUnreadable "reflog-unreadable" Error,
    /// The reflog lacks an object that the manifest names.
    ReflogIncomplete "reflog-incomplete" Error,
    /// The history cannot be read.
    HistoryUnreadable "history-unreadable" Error,
    /// Branches and tags do not fit.
    HistoryBranch "history-branch" Error,
    /// A tag does not fit its root catalog, or the manifest.
    TagWrong "tag-wrong" Error,
    /// A tag's root catalog is not there.
    TagCatalog "tag-catalog" Error,

    /// A catalog is missing, has other bytes than its name says, or is no catalog.
    CatalogUnreadable "catalog-unreadable" Error,
    /// A catalog's file has another size than its reference says.
    CatalogSize "catalog-size" Error,
    /// SQLite finds a catalog's file damaged.
    CatalogDamaged "catalog-damaged" Error,
    /// A catalog states another path than it is mounted at.
    RootPrefix "root-prefix" Error,
    /// A catalog's own root is missing, no directory, or marked wrongly.
    RootEntry "root-entry" Error,
    /// The directory at which a nested catalog is mounted and the root of that differ.
    TransitionDiffers "transition-differs" Error,
    /// The reference to the catalog before cannot be read.
    PreviousRevision "previous-revision" Error,
    /// A counter is missing or is not what the rows say.
    Statistics "statistics" Error,
    /// A nested catalog is mounted and not listed.
    NestedUnlisted "nested-unlisted" Error,
    /// A nested catalog is listed and not mounted.
    NestedUnmounted "nested-unmounted" Error,
    /// A reference to a nested catalog makes no sense.
    NestedMalformed "nested-malformed" Error,
    /// A bind mount point and its reference do not fit.
    BindMountpoint "bind-mountpoint" Error,
    /// Entries below a mount point stand in the outer catalog.
    MountpointNotEmpty "mountpoint-not-empty" Error,
    /// A file `.cvmfscatalog` where no catalog begins.
    MarkerAstray "marker-astray" Error,
    /// No file `.cvmfscatalog` where a nested catalog begins.
    MarkerMissing "marker-missing" Error,

    /// A row holds values of a wrong type.
    RowUnreadable "row-unreadable" Error,
    /// An entry that no directory leads to.
    Dangling "dangling-entry" Error,
    /// An entry is stored under another hash than its path's.
    PathHash "path-hash" Error,
    /// A name that no file can have.
    Name "name" Error,
    /// A mode that is no file's, or another than the flags say.
    Mode "mode" Error,
    /// Flags that exclude each other.
    Flags "flags" Error,
    /// Nanoseconds that are not below a second.
    Nanoseconds "nanoseconds" Error,
    /// A size that nothing has.
    Size "size" Error,
    /// A link count of zero.
    LinkCountZero "link-count-zero" Error,
    /// A directory's link count is not that of the directories in it.
    DirectoryLinks "directory-link-count" Error,
    /// A hard link without group, a directory with one, or a group in several directories.
    HardlinkGroup "hard-link-group" Error,
    /// The link count of hard links is not their number.
    HardlinkCount "hard-link-count" Error,
    /// Hard links of the same file differ.
    HardlinkDiffers "hard-link-differs" Error,
    /// A file without content.
    HashMissing "hash-missing" Error,
    /// A digest of another length than 20 bytes.
    HashMalformed "hash-malformed" Error,
    /// A hash at something that has no content.
    HashUnexpected "hash-unexpected" Error,
    /// A hash algorithm that does not exist.
    HashAlgorithm "hash-algorithm" Error,
    /// A compression that does not exist.
    Compression "compression" Error,
    /// A link without target, a target that no link can have, or a target at something else.
    SymlinkTarget "symlink-target" Error,
    /// The size of a link is not its target's length.
    SymlinkSize "symlink-size" Error,
    /// Extended attributes that cannot be unpacked.
    Xattr "xattr" Error,
    /// A file in chunks has none.
    ChunksMissing "chunks-missing" Error,
    /// Chunks leave a gap or overlap.
    ChunksMisaligned "chunks-misaligned" Error,
    /// Chunks have another size than their file.
    ChunksSize "chunks-size" Error,
    /// Chunks of no file in chunks.
    ChunksOrphaned "chunks-orphaned" Error,

    /// An object is not there.
    ObjectMissing "object-missing" Error,
    /// An object's bytes have another hash than its name, or do not decompress.
    ObjectCorrupt "object-corrupt" Error,
    /// An object's content has another size than its file or chunk.
    ObjectSize "object-size" Error,
    /// An object could not be read.
    ObjectUnreadable "object-unreadable" Error,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a problem is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// One of the files at the base, or what the manifest names: `manifest`, `reflog`, …
    Base(&'static str),
    /// A catalog.
    Catalog {
        /// Where it is mounted, without leading slash.
        path: Vec<u8>,
        /// Its object.
        hash: ContentHash,
    },
    /// An entry.
    Entry {
        /// Its path, without leading slash.
        path: Vec<u8>,
    },
    /// An object.
    Object {
        /// Its name.
        hash: ContentHash,
        /// What it is.
        kind: ObjectKind,
        /// An entry that refers to it.
        path: Vec<u8>,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base(what) => f.write_str(what),
            Self::Catalog { path, hash } => write!(f, "catalog {hash} at {}", shown(path)),
            Self::Entry { path } => write!(f, "{}", shown(path)),
            Self::Object { hash, kind, path } => write!(f, "{} (of {})", hash.object_path(*kind), shown(path)),
        }
    }
}

/// A path for people.
pub(super) fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path).escape_debug())
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, for programs.
    pub code: Code,
    /// What, for people.
    pub message: String,
}

impl Problem {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]", self.place, self.message, self.code)
    }
}

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Catalogs.
    pub catalogs: u64,
    /// Entries, each transition between catalogs twice.
    pub entries: u64,
    /// Objects of files and chunks, each once.
    pub objects: u64,
    /// Bytes of their content, uncompressed.
    pub bytes: u64,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The problems, sorted by place.
    pub problems: Vec<Problem>,
    /// Further problems, which are only counted.
    pub omitted: u64,
    /// What was looked at.
    pub summary: Summary,
}

impl Report {
    /// Tells whether nothing is wrong, warnings aside.
    pub fn is_clean(&self) -> bool {
        self.omitted == 0 && self.problems.iter().all(|problem| problem.severity() == Severity::Warning)
    }

    /// Tells whether a problem of this kind was found.
    pub fn has(&self, code: Code) -> bool {
        self.problems.iter().any(|problem| problem.code == code)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        if self.omitted > 0 {
            writeln!(f, "… and {} more", self.omitted)?;
        }
        let Summary { catalogs, entries, objects, bytes } = self.summary;
        write!(f, "{catalogs} catalogs, {entries} entries, {objects} objects, {bytes} bytes")
    }
}
