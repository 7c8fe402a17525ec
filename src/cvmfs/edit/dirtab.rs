//! `.cvmfsdirtab`: rules that say at which directories nested catalogs begin (`cvmfs/path_filters/dirtab.cc`,
//! `cvmfs/pathspec`).
//!
//! One rule a line, absolute; `*` and `?` stay within a name. A line with `!` takes matches out again, and there `*`
//! crosses directories. Blank lines and lines with `#` mean nothing. `\` takes the meaning from the character behind it.

use super::super::Error;
use super::{MARKER, NewEntry, Objects, TreeEditor, join, shown};

/// The rules of one file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Dirtab {
    wanted: Vec<Pattern>,
    unwanted: Vec<Pattern>,
}

/// A pattern over whole paths, which begin with a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern(Vec<Part>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Byte(u8),
    /// One byte of a name.
    One,
    /// Any bytes of a name.
    Name,
    /// Any bytes.
    Any,
}

impl Dirtab {
    pub(super) fn parse(text: &[u8]) -> Result<Self, Error> {
        let mut dirtab = Self::default();
        for (number, line) in text.split(|b| *b == b'\n').enumerate() {
            let bad = |why: &str| Error::malformed(format!(".cvmfsdirtab, line {}", number + 1), why);
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            match line.strip_prefix(b"!") {
                Some(rule) => dirtab.unwanted.push(Pattern::parse(rule.trim_ascii(), Part::Any).map_err(bad)?),
                None if line.starts_with(b"/") => {
                    dirtab.wanted.push(Pattern::parse(line, Part::Name).map_err(bad)?);
                }
                None => return Err(bad("a rule begins with `/`")),
            }
        }
        Ok(dirtab)
    }

    /// Tells whether a nested catalog is to begin at a directory, given without its leading slash.
    pub(super) fn matches(&self, directory: &[u8]) -> bool {
        let path = [b"/", directory].concat();
        // A catalog begins at the root in any case.
        !directory.is_empty()
            && self.wanted.iter().any(|rule| rule.matches(&path))
            && !self.unwanted.iter().any(|rule| rule.matches(&path))
    }

    /// Tells how deep directories can be that match.
    fn depth(&self) -> usize {
        let depth = |rule: &Pattern| rule.0.iter().filter(|part| **part == Part::Byte(b'/')).count();
        self.wanted.iter().map(depth).max().unwrap_or(0)
    }
}

impl Pattern {
    fn parse(text: &[u8], star: Part) -> Result<Self, &'static str> {
        let mut parts = Vec::new();
        let mut bytes = text.iter().copied();
        while let Some(byte) = bytes.next() {
            let part = match byte {
                b'*' => star,
                b'?' => Part::One,
                b'\\' => match bytes.next() {
                    Some(escaped @ (b'*' | b'?' | b'\\')) => Part::Byte(escaped),
                    _ => return Err("a backslash stands before `*`, `?` or another backslash"),
                },
                // Slashes side by side, and those at the end, count once and not at all.
                b'/' if parts.last() == Some(&Part::Byte(b'/')) => continue,
                byte => Part::Byte(byte),
            };
            parts.push(part);
        }
        if parts.len() > 1 && parts.last() == Some(&Part::Byte(b'/')) {
            parts.pop();
        }
        Ok(Self(parts))
    }

    /// Goes back to the last star when a match fails behind it; a star across directories wins over one within a name.
    fn matches(&self, path: &[u8]) -> bool {
        let parts = &self.0;
        // The states that the pattern can be in after each byte: at most as many as it has parts.
        let mut states = vec![false; parts.len() + 1];
        states[0] = true;
        let spread = |states: &mut Vec<bool>| {
            for (at, part) in parts.iter().enumerate() {
                if states[at] && matches!(part, Part::Name | Part::Any) {
                    states[at + 1] = true;
                }
            }
        };
        spread(&mut states);
        for byte in path {
            let mut next = vec![false; parts.len() + 1];
            for (at, part) in parts.iter().enumerate().filter(|(at, _)| states[*at]) {
                match part {
                    Part::Byte(wanted) if wanted == byte => next[at + 1] = true,
                    Part::One if *byte != b'/' => next[at + 1] = true,
                    Part::Name if *byte != b'/' => next[at] = true,
                    Part::Any => next[at] = true,
                    _ => {}
                }
            }
            states = next;
            spread(&mut states);
        }
        states[parts.len()]
    }
}

impl TreeEditor {
    /// Sets the markers that the rules ask for, at new directories, or everywhere if the rules are new.
    pub(super) fn apply_dirtab(&mut self, objects: &mut dyn Objects, now: i64) -> Result<(), Error> {
        let new = std::mem::take(&mut self.new_directories);
        if new.is_empty() && !self.dirtab_changed {
            return Ok(());
        }
        let Some(dirtab) = self.dirtab(objects)? else { return Ok(()) };
        let candidates = if self.dirtab_changed { self.directories_down_to(dirtab.depth())? } else { new };
        for directory in candidates {
            if !dirtab.matches(&directory) {
                continue;
            }
            let is_directory = self.lookup(&directory)?.is_some_and(|entry| entry.is_directory());
            if is_directory && self.lookup(&join(&directory, MARKER))?.is_none() {
                self.put_marker(&directory, MARKER, objects, now)?;
            }
        }
        Ok(())
    }

    /// The rules, if there are any.
    pub(super) fn dirtab(&mut self, objects: &mut dyn Objects) -> Result<Option<Dirtab>, Error> {
        let Some(entry) = self.lookup(super::DIRTAB)?.filter(|entry| entry.is_file()) else { return Ok(None) };
        let chunks = self.chunks(super::DIRTAB, &entry)?;
        Dirtab::parse(&objects.read_small(&entry, &chunks)?).map(Some)
    }

    /// All directories that are so deep or less.
    fn directories_down_to(&mut self, depth: usize) -> Result<Vec<Vec<u8>>, Error> {
        let (mut level, mut found) = (vec![Vec::new()], Vec::new());
        for _ in 0..depth {
            let mut next = Vec::new();
            for directory in level {
                for entry in self.list(&directory)? {
                    let closed = super::Flags::BIND_MOUNTPOINT;
                    if entry.is_directory() && !entry.flags.has(closed) {
                        next.push(join(&directory, &entry.name));
                    }
                }
            }
            found.extend(next.iter().cloned());
            level = next;
        }
        Ok(found)
    }

    /// Puts an empty file in a directory, with the directory's owner.
    pub(super) fn put_marker(
        &mut self,
        directory: &[u8],
        name: &[u8],
        objects: &mut dyn Objects,
        now: i64,
    ) -> Result<(), Error> {
        let missing = || Error::Missing(format!("the directory /{}", shown(directory)));
        let owner = self.lookup(directory)?.ok_or_else(missing)?;
        let marker = NewEntry {
            kind: objects.empty_file()?,
            permissions: 0o644,
            mtime: now,
            mtime_ns: None,
            uid: owner.uid,
            gid: owner.gid,
            xattrs: super::Xattrs::new(),
        };
        self.put(&join(directory, name), &marker).map(drop).map_err(super::unexpected)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rules_match_whole_paths() {
        let dirtab =
            Dirtab::parse(b"# software\n/sw/*\n/data/run?/x*z\n  /a\\*b/  \n\n! /sw/.git\n!*/secret\n").unwrap();
        for (path, wanted) in [
            ("sw/tool", true),
            ("sw", false),
            ("sw/tool/1.0", false),
            ("sw/.git", false),
            ("sw/secret", false),
            ("data/run1/xyz", true),
            ("data/run1/xz", true),
            ("data/run12/xz", false),
            ("data/run/xz", false),
            ("data/run1/x/z", false),
            ("", false),
            ("a*b", true),
            ("aab", false),
        ] {
            assert_eq!(dirtab.matches(path.as_bytes()), wanted, "{path}");
        }
        assert_eq!(dirtab.depth(), 3);
    }

    #[test]
    fn rules_that_make_no_sense_are_refused_with_their_line() {
        for bad in ["/ok\nrelative", "/ok\n/a\\b", "/ok\n/a\\"] {
            let error = Dirtab::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("line 2"), "{error}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let rule = format!("/{}b", "*a".repeat(200));
        let dirtab = Dirtab::parse(rule.as_bytes()).unwrap();
        assert!(!dirtab.matches("a".repeat(2000).as_bytes()));
    }
}
