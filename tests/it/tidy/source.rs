//! A source file as the rules see it.

/// One file below `src`.
pub(super) struct Source {
    /// Relative to `src`, with `/`.
    pub(super) path: String,
    /// All of it.
    pub(super) text: String,
    /// Without comments and without everything from the first `#[cfg(test)]` on a module.
    pub(super) code: String,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let starts_tests = |i: &usize| {
            lines[*i].trim() == "#[cfg(test)]"
                && lines[i + 1..]
                    .iter()
                    .map(|line| line.trim())
                    .find(|line| !line.starts_with("#["))
                    .is_some_and(is_module)
        };
        let end = (0..lines.len()).find(starts_tests).unwrap_or(lines.len());
        let code: Vec<&str> = lines[..end].iter().map(|line| without_comment(line)).collect();
        Self { path: path.to_owned(), text: text.to_owned(), code: code.join("\n") }
    }

    /// A file that is nothing but tests.
    pub(super) fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name == "tests.rs" || name.ends_with("_tests.rs") || self.path.contains("/tests/")
    }

    /// The module of the crate's root that it belongs to: `store` for `store/jobs.rs`, `crash` for `crash.rs`.
    pub(super) fn layer(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// How many modules deep it is: 1 for `store/mod.rs`, 2 for `store/jobs.rs`.
    pub(super) fn depth(&self) -> usize {
        self.path.split('/').filter(|part| *part != "mod.rs").count()
    }

    /// Every module of the crate's root that the code names.
    pub(super) fn layers_used(&self) -> Vec<String> {
        let from_crate = self.code.match_indices("crate::").map(|(at, found)| (at, at + found.len()));
        let supers = "super::".repeat(self.depth());
        let from_super = self.code.match_indices(&supers).map(|(at, found)| (at, at + found.len()));
        let own_word = |at: usize| !self.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        let mut used: Vec<String> = from_crate
            .chain(from_super)
            .filter(|(at, _)| own_word(*at))
            .flat_map(|(_, end)| names(&self.code[end..]))
            .collect();
        used.sort();
        used.dedup();
        used
    }

    /// Tells whether the code contains `pattern` as words of its own.
    pub(super) fn says(&self, pattern: &str) -> bool {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        self.code.match_indices(pattern).any(|(at, found)| {
            let before = self.code[..at].ends_with(is_word) && pattern.starts_with(is_word);
            let after = self.code[at + found.len()..].starts_with(is_word) && pattern.ends_with(is_word);
            !before && !after
        })
    }
}

fn is_module(line: &str) -> bool {
    line.split_whitespace().any(|word| word == "mod")
}

/// Cuts a comment off; `//` inside a string, as in a URL, follows a colon or a quote.
fn without_comment(line: &str) -> &str {
    let starts = |(at, _): &(usize, &str)| !line[..*at].ends_with([':', '"', '/']);
    line.match_indices("//").find(starts).map_or(line, |(at, _)| &line[..at])
}

/// The first names of a path: one, or those of a `{…}` group.
fn names(text: &str) -> Vec<String> {
    let name = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let Some(group) = text.strip_prefix('{') else { return vec![name(text)] };
    let (mut depth, mut names, mut start) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && !c.is_whitespace() => {
                names.push(name(&group[at..]));
                start = false;
            }
            _ => {}
        }
    }
    names
}
