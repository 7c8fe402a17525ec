//! What may stand on `cvmfs_server`'s command line: it hands some of its values to a shell.

use crate::domain::names::RepositoryName;
use crate::domain::tree::EntryPath;

/// A word of which no shell could make more than that word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word(String);

/// A value that cannot be a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot stand on cvmfs_server's command line: only A-Z a-z 0-9 . _ : - are allowed")]
pub(super) struct WordError(String);

impl Word {
    /// A value of ours.
    pub(super) fn new(text: &str) -> Result<Self, WordError> {
        if is_plain(text.as_bytes()) { Ok(Self(text.to_owned())) } else { Err(WordError(text.to_owned())) }
    }

    /// An option, such as `-f`.
    pub(super) fn option(letter: char) -> Self {
        Self(format!("-{letter}"))
    }

    /// A repository.
    pub(super) fn repository(name: &RepositoryName) -> Self {
        Self(name.as_str().to_owned())
    }

    /// A lease path in a repository; the path must be a [`speakable`] one.
    pub(super) fn lease(name: &RepositoryName, path: &EntryPath) -> Result<Self, WordError> {
        let text = String::from_utf8_lossy(path.as_bytes()).into_owned();
        if !is_speakable(path) {
            return Err(WordError(text));
        }
        Ok(Self(format!("{name}/{text}")))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The nearest ancestor of a path, or itself, that can be named on a command line.
pub(super) fn speakable(path: &EntryPath) -> EntryPath {
    let mut path = path.clone();
    while !is_speakable(&path) {
        path = path.parent().unwrap_or_else(EntryPath::base);
    }
    path
}

fn is_speakable(path: &EntryPath) -> bool {
    path.parts().all(is_plain)
}

/// Not an option either.
fn is_plain(text: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:-".contains(byte);
    !text.is_empty() && text[0] != b'-' && text.iter().all(is_plain)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_shell_reads_as_more_than_a_word_gets_through() {
        for good in ["cj-0192", "a.b_c:d-e", "X"] {
            assert_eq!(Word::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-f",
            "$(touch x)",
            "`id`",
            "a;b",
            "a b",
            "a\nb",
            "'",
            "\"",
            "a&",
            "a|b",
            "a>b",
            "*",
            "~",
            "a/b",
            "ä",
            "\\",
            "{a,b}",
            "#",
        ] {
            assert!(Word::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_lease_path_that_cannot_be_said_is_widened_to_one_that_can() {
        let path = |text: &str| EntryPath::new(text.as_bytes()).unwrap();
        for (given, want) in [("a/b", "a/b"), ("a/$(id)/b", "a"), ("a/b c", "a"), ("-rf/x", ""), ("ä", ""), ("", "")] {
            assert_eq!(speakable(&path(given)), path(want));
        }
        let name = RepositoryName::new("test.example.org").unwrap();
        assert_eq!(Word::lease(&name, &path("a/b")).unwrap().as_str(), "test.example.org/a/b");
        assert!(Word::lease(&name, &path("a/;id")).is_err());
    }
}
