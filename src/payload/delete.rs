//! The paths of a delete job, checked before a transaction is opened.

use crate::domain::names::LeasePath;
use crate::domain::tree::{EntryPath, PathError};

/// Why a list of paths to delete was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// A delete job that deletes nothing is taken for a mistake.
    #[error("the list of paths to delete is empty: name at least one path")]
    Empty,
    /// Not a path.
    #[error("cannot delete {path:?}")]
    Path {
        /// What was given, shortened.
        path: String,
        /// Why.
        #[source]
        source: PathError,
    },
    /// The whole repository.
    #[error("cannot delete {path:?}: it is the repository's root; name what is to go below it")]
    Root {
        /// What was given, shortened.
        path: String,
    },
    /// Outside of what the job may write.
    #[error(
        "cannot delete {path:?}: it is outside of the lease path {lease_path}; submit a job with a lease path above it"
    )]
    OutsideLease {
        /// What was given, shortened.
        path: String,
        /// What the job may write.
        lease_path: LeasePath,
    },
}

/// Checks the paths that a delete job names and returns them relative to the repository's root: sorted, each once, and
/// without those below another one, since that goes as a whole.
///
/// Paths count from the repository's root, with or without a leading slash (`/a/b` is `a/b`), and must be the lease
/// path or lie below it. `.` and empty parts go; `..` is refused.
pub fn delete_list<P: AsRef<[u8]>>(
    lease_path: &LeasePath,
    paths: impl IntoIterator<Item = P>,
) -> Result<Vec<EntryPath>, DeleteError> {
    let lease = checked(lease_path.as_str().as_bytes())?;
    let mut checked_paths = Vec::new();
    for given in paths {
        let given = given.as_ref();
        let path = checked(given)?;
        if path.is_base() {
            return Err(DeleteError::Root { path: shown(given) });
        }
        if !path.is_within(&lease) {
            return Err(DeleteError::OutsideLease { path: shown(given), lease_path: lease_path.clone() });
        }
        checked_paths.push(path);
    }
    if checked_paths.is_empty() {
        return Err(DeleteError::Empty);
    }
    // By parts and not by bytes: `a-b` sorts between `a` and `a/b` as bytes, which would hide `a/b` from `a`.
    checked_paths.sort_by(|a, b| a.parts().cmp(b.parts()));
    checked_paths.dedup_by(|below, above| below.is_within(above));
    Ok(checked_paths)
}

fn checked(path: &[u8]) -> Result<EntryPath, DeleteError> {
    let relative = path.iter().position(|b| *b != b'/').map_or(&path[..0], |start| &path[start..]);
    EntryPath::new(relative).map_err(|source| DeleteError::Path { path: shown(path), source })
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn list(lease: &str, paths: &[&str]) -> Result<Vec<String>, DeleteError> {
        let list = delete_list(&LeasePath::new(lease).unwrap(), paths)?;
        Ok(list.iter().map(EntryPath::to_string).collect())
    }

    #[test]
    fn paths_count_from_the_root_with_or_without_a_slash() {
        assert_eq!(list("/a", &["/a/b", "a/c/", "//a/./d"]).unwrap(), ["a/b", "a/c", "a/d"]);
        assert_eq!(list("/a", &["/a"]).unwrap(), ["a"]);
    }

    #[test]
    fn what_goes_with_another_path_is_named_once() {
        assert_eq!(list("/", &["a/b", "a-b", "a", "a", "a/b/c", "b/c", "b"]).unwrap(), ["a", "a-b", "b"]);
    }

    #[test]
    fn nothing_outside_of_the_lease_is_deleted() {
        for (lease, path) in [("/a", "/b"), ("/a", "ab"), ("/a/b", "/a"), ("/rel-1", "/rel-10")] {
            assert!(matches!(list(lease, &[path]), Err(DeleteError::OutsideLease { .. })), "{lease} {path}");
        }
        for path in ["/a/../b", "..", "/a/\0", &"/a".repeat(3000)] {
            assert!(matches!(list("/a", &[path]), Err(DeleteError::Path { .. })), "{path:?}");
        }
    }

    #[test]
    fn neither_everything_nor_nothing_is_deleted() {
        for path in ["", "/", "///", ".", "/./"] {
            assert!(matches!(list("/", &[path]), Err(DeleteError::Root { .. })), "{path:?}");
        }
        assert_eq!(list("/a", &[]), Err(DeleteError::Empty));
    }

    #[test]
    fn names_that_are_not_text_can_be_deleted() {
        let list = delete_list(&LeasePath::root(), [b"a/\xff\xfe"]).unwrap();
        assert_eq!(list[0].as_bytes(), b"a/\xff\xfe");
    }
}
