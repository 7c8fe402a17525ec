//! The part of the shell's language that configuration files are written in: assignments, quotes and comments.

use std::collections::BTreeMap;

use super::super::Error;

/// A value as it stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    /// Only a shell could tell what it is.
    Computed,
}

/// The assignments of a file; of several to one name the last counts.
#[derive(Debug, Clone)]
pub(super) struct Assignments {
    what: String,
    values: BTreeMap<String, Value>,
}

impl Assignments {
    /// Reads a file's text; `what` names the file in errors. A line that is more than an assignment is refused if it
    /// could change one of `names`, and else ignored.
    pub(super) fn parse(what: &str, text: &str, names: &[&str]) -> Result<Self, Error> {
        let mut values = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once('=').filter(|(name, _)| is_name(name)) {
                Some((name, value)) => drop(values.insert(name.to_owned(), evaluate(value))),
                None if sources(line) || names.iter().any(|name| line.contains(name)) => {
                    let why = format!("line {} is more than an assignment: {line:?}", number + 1);
                    return Err(Error::malformed(what, why));
                }
                None => {}
            }
        }
        Ok(Self { what: what.to_owned(), values })
    }

    /// A value; `None` if it is not set, or empty. One that only a shell could compute is refused.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Error> {
        match self.values.get(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(Value::Computed) => {
                Err(self.bad(name, "only a shell could compute its value: write the value itself"))
            }
        }
    }

    /// Tells whether a switch is on: `true`, and nothing else, as the scripts compare it.
    pub(super) fn is_true(&self, name: &str) -> Result<bool, Error> {
        Ok(self.text(name)? == Some("true"))
    }

    /// A whole number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        let number = |text: &str| text.parse().map_err(|_| self.bad(name, &format!("{text:?} is no whole number")));
        self.text(name)?.map(number).transpose()
    }

    /// An error about one of the names.
    pub(super) fn bad(&self, name: &str, why: &str) -> Error {
        Error::malformed(format!("{name} in {}", self.what), why)
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Tells whether a line reads another file.
fn sources(line: &str) -> bool {
    line.starts_with(". ") || line.starts_with("source ")
}

/// The value of an assignment, up to a blank or a comment.
fn evaluate(text: &str) -> Value {
    let mut value = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => loop {
                match chars.next() {
                    Some('\'') => break,
                    Some(c) => value.push(c),
                    None => return Value::Computed,
                }
            },
            '"' => loop {
                match chars.next() {
                    Some('"') => break,
                    Some('$' | '`') | None => return Value::Computed,
                    Some('\\') => match chars.next() {
                        Some(c @ ('$' | '`' | '"' | '\\')) => value.push(c),
                        Some(c) => value.extend(['\\', c]),
                        None => return Value::Computed,
                    },
                    Some(c) => value.push(c),
                }
            },
            '\\' => match chars.next() {
                Some(c) => value.push(c),
                None => return Value::Computed,
            },
            // What stands behind them is another command, or makes this one.
            '$' | '`' | ';' | '&' | '|' | '(' | ')' | '<' | '>' => return Value::Computed,
            c if c.is_whitespace() => {
                let rest = chars.as_str().trim_start();
                // `NAME=value command` sets it for the command alone.
                return if rest.is_empty() || rest.starts_with('#') { Value::Text(value) } else { Value::Computed };
            }
            c => value.push(c),
        }
    }
    Value::Text(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn text(line: &str) -> Option<String> {
        Assignments::parse("test", line, &["KEY"]).unwrap().text("KEY").unwrap().map(str::to_owned)
    }

    #[test]
    fn values_are_what_a_shell_makes_of_them() {
        for (line, value) in [
            ("KEY=plain", Some("plain")),
            ("  export KEY=plain   # a comment", Some("plain")),
            ("KEY=\"3 days ago\"", Some("3 days ago")),
            ("KEY='$literal;`'", Some("$literal;`")),
            ("KEY=a\"b c\"'d e'f", Some("ab cd ef")),
            ("KEY=\"a\\\"b\\n\"", Some("a\"b\\n")),
            ("KEY=a\\ b", Some("a b")),
            ("KEY=a#b", Some("a#b")),
            ("KEY=\"\"", None),
            ("KEY=", None),
            ("# KEY=x", None),
            ("KEY=1\nKEY=2", Some("2")),
            ("OTHER=1", None),
        ] {
            assert_eq!(text(line).as_deref(), value, "{line}");
        }
    }

    #[test]
    fn what_only_a_shell_could_tell_is_refused_where_it_is_used() {
        for line in ["KEY=$HOME", "KEY=\"`date`\"", "KEY=a;b", "KEY='open", "KEY=\"open", "KEY=a command", "KEY=a&&b"] {
            let parsed = Assignments::parse("test", line, &["KEY"]).unwrap();
            assert!(parsed.text("KEY").unwrap_err().to_string().contains("KEY in test"), "{line}");
            assert_eq!(parsed.text("OTHER").unwrap(), None);
        }
        for line in ["[ -e /x ] && KEY=1", "if true; then KEY=1; fi", ". /etc/other", "source other"] {
            assert!(Assignments::parse("test", line, &["KEY"]).is_err(), "{line}");
        }
        assert!(Assignments::parse("test", "ulimit -n 100", &["KEY"]).is_ok());
    }
}
