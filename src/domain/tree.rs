//! Entries of a file tree as a payload describes them and a publisher stores them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Why a path was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path {shown:?} is refused: {why}")]
pub struct PathError {
    shown: String,
    why: &'static str,
}

/// A path relative to some base, as bytes: non-empty parts joined by `/`, none of them `.` or `..`.
///
/// The empty path is the base itself. Names are bytes, as in POSIX: newline and non-UTF-8 are legal, NUL is not.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// The base itself.
    pub fn base() -> Self {
        Self(Vec::new())
    }

    /// Checks a relative path. `./` prefixes and trailing slashes go, as archives write them; anything that is absolute
    /// or climbs is refused.
    pub fn new(path: &[u8]) -> Result<Self, PathError> {
        let refuse =
            |why| Err(PathError { shown: String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned(), why });
        if path.first() == Some(&b'/') {
            return refuse("it is absolute");
        }
        let mut clean = Vec::with_capacity(path.len());
        for part in path.split(|b| *b == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return refuse("it climbs with `..`"),
                _ if part.len() > 255 => return refuse("one of its parts is longer than 255 bytes"),
                _ if part.contains(&0) => return refuse("it contains a NUL byte"),
                _ => {}
            }
            if !clean.is_empty() {
                clean.push(b'/');
            }
            clean.extend_from_slice(part);
        }
        if clean.len() > 4000 {
            return refuse("it is longer than 4000 bytes");
        }
        Ok(Self(clean))
    }

    /// The bytes, without leading or trailing slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Tells whether this is the base itself.
    pub fn is_base(&self) -> bool {
        self.0.is_empty()
    }

    /// The parts, from the top.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|part| !part.is_empty())
    }

    /// `self/below`.
    pub fn join(&self, below: &Self) -> Self {
        match (self.is_base(), below.is_base()) {
            (true, _) => below.clone(),
            (_, true) => self.clone(),
            _ => Self([&self.0[..], b"/", &below.0[..]].concat()),
        }
    }

    /// The directory that holds it; `None` for the base.
    pub fn parent(&self) -> Option<Self> {
        if self.is_base() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(Self(self.0[..end].to_vec()))
    }

    /// Tells whether `self` is `other` or lies below it.
    pub fn is_within(&self, other: &Self) -> bool {
        other.is_base()
            || self.0 == other.0
            || (self.0.starts_with(&other.0) && self.0.get(other.0.len()) == Some(&b'/'))
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// Extended attributes, by name.
pub type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// What every entry carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryMeta {
    /// Permission bits with setuid, setgid and sticky (`0o7777`), without the file type.
    pub mode: u32,
    /// Seconds since 1970, may be negative.
    pub mtime: i64,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Extended attributes.
    pub attributes: Attributes,
}

/// What an entry is. The content of a file travels beside it, as a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory; its entries come separately.
    Directory,
    /// A regular file of this many bytes.
    File {
        /// Bytes of content.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// The target, as it stands in the link.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A device that is read and written byte by byte.
    CharacterDevice {
        /// Its driver.
        major: u32,
        /// Which of the driver's devices.
        minor: u32,
    },
    /// A device that is read and written block by block.
    BlockDevice {
        /// Its driver.
        major: u32,
        /// Which of the driver's devices.
        minor: u32,
    },
}

/// One path that a change set touches, for evidence and for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangedPath {
    /// New.
    Added(EntryPath),
    /// Replaced, in content or metadata.
    Modified(EntryPath),
    /// Gone, with all below it.
    Removed(EntryPath),
}

impl ChangedPath {
    /// The path.
    pub fn path(&self) -> &EntryPath {
        match self {
            Self::Added(path) | Self::Modified(path) | Self::Removed(path) => path,
        }
    }
}

impl fmt::Display for ChangedPath {
    /// `A /path`, `M /path` or `D /path`, in one line that can be read back: what is no printable UTF-8, and the backslash,
    /// is written as `\x` and two hexadecimal digits a byte.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, path) = match self {
            Self::Added(path) => ('A', path),
            Self::Modified(path) => ('M', path),
            Self::Removed(path) => ('D', path),
        };
        write!(f, "{word} /")?;
        for chunk in path.as_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() || c == '\\' {
                    let mut bytes = [0; 4];
                    c.encode_utf8(&mut bytes).bytes().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
                } else {
                    write!(f, "{c}")?;
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

impl FromStr for ChangedPath {
    type Err = PathError;

    /// Reads what its `Display` writes.
    fn from_str(line: &str) -> Result<Self, PathError> {
        let refuse = |why| PathError { shown: line.chars().take(200).collect(), why };
        let (word, shown) = line.split_once(" /").ok_or_else(|| refuse("it is no line such as `A /path`"))?;
        let mut parts = shown.split("\\x");
        let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
        for part in parts {
            let digits = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
            bytes.push(digits.ok_or_else(|| refuse("it has a backslash without two hexadecimal digits"))?);
            bytes.extend_from_slice(&part.as_bytes()[2..]);
        }
        let path = EntryPath::new(&bytes)?;
        match word {
            "A" => Ok(Self::Added(path)),
            "M" => Ok(Self::Modified(path)),
            "D" => Ok(Self::Removed(path)),
            _ => Err(refuse("it begins with none of A, M and D")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_leaves_its_base() {
        for (given, want) in [("./a/b/", "a/b"), ("", ""), (".", ""), ("a//b", "a/b"), ("...", "...")] {
            assert_eq!(EntryPath::new(given.as_bytes()).unwrap().as_bytes(), want.as_bytes());
        }
        for bad in ["/etc/passwd", "..", "a/../../b", "a/..", "a\0b"] {
            assert!(EntryPath::new(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_changed_path_is_one_line_that_can_be_read_back() {
        for (bytes, shown) in [
            (&b"a/b c"[..], "M /a/b c"),
            (b"", "M /"),
            (b"line\nA /forged", "M /line\\x0aA /forged"),
            (b"back\\x41", "M /back\\x5cx41"),
            (b"\xff\xc3\xa4\x7f", "M /\\xff\u{e4}\\x7f"),
            ("\u{9b}31m".as_bytes(), "M /\\xc2\\x9b31m"),
        ] {
            let change = ChangedPath::Modified(EntryPath::new(bytes).unwrap());
            assert_eq!(change.to_string(), shown);
            assert_eq!(shown.parse(), Ok(change));
        }
        assert_eq!("D /x".parse(), Ok(ChangedPath::Removed(EntryPath::new(b"x").unwrap())));
        for bad in ["", "A", "A x", "Z /x", "A /\\x4", "A /\\xzz", "A /../x"] {
            assert!(bad.parse::<ChangedPath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn within_compares_parts_not_text() {
        let path = |text: &str| EntryPath::new(text.as_bytes()).unwrap();
        assert!(path("a/b").is_within(&path("a")));
        assert!(path("a").is_within(&path("")));
        assert!(!path("ab").is_within(&path("a")));
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(path("")));
        assert_eq!(path("").parent(), None);
    }
}
