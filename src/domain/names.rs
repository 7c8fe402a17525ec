//! Names that people and other systems give to things, valid by construction.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a name was refused. The message names the offending value, the rule and, where there is one, the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a fully qualified repository name.
    #[error(
        "repository name {0:?} is not valid: use a fully qualified name such as software.example.org \
         (2 to 60 bytes of a-z 0-9 - _ and dots, at least one dot, no part empty or starting with a dash)"
    )]
    Repository(String),
    /// Not a path inside a repository.
    #[error("lease path {path:?} is not valid: {why}")]
    LeasePath {
        /// What was given.
        path: String,
        /// Which rule it breaks.
        why: &'static str,
    },
}

/// A fully qualified repository name, such as `software.example.org`.
///
/// Safe as a directory name, a URL segment and a word of a command line.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryName(String);

impl RepositoryName {
    /// Checks a name. At most 60 bytes, as `cvmfs_server mkfs` allows.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        let part_is_valid = |part: &str| {
            !part.is_empty()
                && !part.starts_with('-')
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        };
        let valid = name.len() <= 60 && name.contains('.') && name.split('.').all(part_is_valid);
        if valid { Ok(Self(name)) } else { Err(NameError::Repository(name)) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A path inside a repository that a job may write under: `/` or `/a/b`, normalised, without `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LeasePath(String);

impl LeasePath {
    /// Longest path accepted, in bytes (the client's own limit for a path is `PATH_MAX`, 4096).
    pub const MAX_BYTES: usize = 1024;

    /// Checks and normalises a path: a missing leading `/` is added, doubled and trailing slashes go.
    pub fn new(path: &str) -> Result<Self, NameError> {
        let refuse = |why| Err(NameError::LeasePath { path: path.chars().take(200).collect(), why });
        if path.len() > Self::MAX_BYTES {
            return refuse("it is longer than 1024 bytes");
        }
        if path.chars().any(char::is_control) {
            return refuse("it contains a control character");
        }
        let mut normalised = String::with_capacity(path.len() + 1);
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if part == "." || part == ".." {
                return refuse("`.` and `..` are not allowed; write the path out from the repository's root");
            }
            if part.len() > 255 {
                return refuse("one of its parts is longer than 255 bytes");
            }
            normalised.push('/');
            normalised.push_str(part);
        }
        if normalised.is_empty() {
            normalised.push('/');
        }
        Ok(Self(normalised))
    }

    /// The whole repository.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// The path as text, with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path without its leading slash: empty for the root.
    pub fn relative(&self) -> &str {
        &self.0[1..]
    }

    /// Tells whether two leases exclude each other *as the gateway compares them*.
    ///
    /// The gateway's test is SQL's `LIKE` with one path as a prefix of the other: of the texts, not of the components, so that
    /// `/rel-1` excludes `/rel-10`; whatever the case of letters; and `_` and `%` in a path match anything. Comparing more
    /// finely here would only move the conflict to the publish.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.0.chars(), other.0.chars());
        if self.0 == "/" || other.0 == "/" {
            return true;
        }
        loop {
            let (Some(a), Some(b)) = (ours.next(), theirs.next()) else { return true };
            if a == '%' || b == '%' {
                return true;
            }
            if a != b && a != '_' && b != '_' && !a.to_lowercase().eq(b.to_lowercase()) {
                return false;
            }
        }
    }

    /// Tells whether a path is this one or lies below it, component by component.
    pub fn contains(&self, path: &Self) -> bool {
        let below = path.0.strip_prefix(self.0.as_str());
        self.0 == "/" || below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The deepest path that contains both.
    pub fn common_parent(&self, other: &Self) -> Self {
        let parts = |path: &Self| path.relative().split('/').map(str::to_owned).collect::<Vec<_>>();
        let (ours, theirs) = (parts(self), parts(other));
        let shared = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
        Self(format!("/{}", ours[..shared].join("/")))
    }
}

macro_rules! text_name {
    ($name:ident, $parse:expr) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                $parse(&text)
            }
        }
        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                $parse(text)
            }
        }
    };
}

text_name!(RepositoryName, |text: &str| RepositoryName::new(text));
text_name!(LeasePath, LeasePath::new);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_name_is_a_safe_word() {
        for good in ["software.example.org", "a.b", "eessi.io", "x-1_2.example.org"] {
            assert!(RepositoryName::new(good).is_ok(), "{good}");
        }
        let long = format!("{}.org", "a".repeat(60));
        for bad in [
            "", "-h", "nodots", "a..b", ".a.b", "a.b.", "a/b.c", "../x.y", "A.b", "a.-b", "a b.c", "a.b\n", "ü.de",
            &long,
        ] {
            assert!(RepositoryName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_lease_path_is_normalised_and_never_climbs() {
        for (given, want) in
            [("", "/"), ("/", "/"), ("a", "/a"), ("//a///b/", "/a/b"), ("/ä b/c", "/ä b/c"), ("/a/...", "/a/...")]
        {
            assert_eq!(LeasePath::new(given).unwrap().as_str(), want);
        }
        for bad in ["/..", "/a/../b", "/./a", "/../other.repo/x", "/a\nb", "/a\0b"] {
            assert!(LeasePath::new(bad).is_err(), "{bad:?}");
        }
        assert!(LeasePath::new(&"/a".repeat(600)).is_err());
        assert!(LeasePath::new(&"a".repeat(256)).is_err());
    }

    #[test]
    fn leases_overlap_as_the_gateway_compares_them() {
        let overlaps = |a, b| LeasePath::new(a).unwrap().overlaps(&LeasePath::new(b).unwrap());
        assert!(overlaps("/", "/a"));
        assert!(overlaps("/rel-1", "/rel-10"));
        assert!(overlaps("/REL-1/x", "/rel-1"));
        assert!(!overlaps("/a", "/b"));
        assert!(!overlaps("/rel-2", "/rel-10"));
        assert!(overlaps("/rel_1", "/rel-1/x"), "an underscore matches any character");
        assert!(overlaps("/a%", "/abc/d") && overlaps("/ab", "/%"), "a percent sign matches any text");
        assert!(!overlaps("/a_c", "/ab/d"));
    }

    #[test]
    fn paths_contain_each_other_by_component() {
        let path = |text| LeasePath::new(text).unwrap();
        assert!(
            path("/").contains(&path("/a")) && path("/a").contains(&path("/a")) && path("/a").contains(&path("/a/b"))
        );
        assert!(!path("/a").contains(&path("/ab")) && !path("/a/b").contains(&path("/a")));
        for (a, b, want) in [
            ("/a/b", "/a/c", "/a"),
            ("/a/b", "/a/b/c", "/a/b"),
            ("/ab", "/ac", "/"),
            ("/", "/x", "/"),
            ("/x", "/x", "/x"),
        ] {
            assert_eq!(path(a).common_parent(&path(b)), path(want));
            assert_eq!(path(b).common_parent(&path(a)), path(want));
        }
    }
}
