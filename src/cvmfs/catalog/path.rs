//! Path hashes, by which catalogs find their rows.

use md5::{Digest, Md5};

/// The MD5 of a full path (`/sw/tool`; the root is the empty string), as the two signed integers of a row's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathHash(pub(crate) i64, pub(crate) i64);

impl PathHash {
    /// What the root's row has as its parent.
    pub const NONE: Self = Self(0, 0);

    /// Hashes a path given without its leading slash.
    pub fn of(path: &[u8]) -> Self {
        let mut md5 = Md5::new();
        if !path.is_empty() {
            md5.update(b"/");
            md5.update(path);
        }
        let digest: [u8; 16] = md5.finalize().into();
        let number = u128::from_le_bytes(digest);
        Self(number as u64 as i64, (number >> 64) as u64 as i64)
    }
}

/// `directory/name`, or `name` in the root.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// The directory that a path lies in, and its name there; `None` for the root.
pub(crate) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => Some((&path[..at], &path[at + 1..])),
        None if path.is_empty() => None,
        None => Some((b"", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_real_tools() {
        assert_eq!(PathHash::of(b""), PathHash(338333539836370388, 9098107892288553193));
        assert_eq!(PathHash::of(b"sw/tool"), PathHash(-8311435441440904204, -3495199851693105674));
    }

    #[test]
    fn a_path_is_split_at_its_last_slash() {
        assert_eq!(split(b"a/b/c"), Some((&b"a/b"[..], &b"c"[..])));
        assert_eq!(split(b"a"), Some((&b""[..], &b"a"[..])));
        assert_eq!(split(b""), None);
    }
}
