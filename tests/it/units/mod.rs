//! The units of `systemd/`, judged by systemd itself where it is installed, and compared with the program.

mod accounts;
mod agreement;
mod privileges;
mod root;
mod verified;

use std::path::{Path, PathBuf};

pub(crate) use privileges::forbidden;
pub(crate) use root::{Root, UNITS, no_systemd};

/// Where the units are.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("systemd/{name}: {error}"))
}

/// `Key=value` of a unit or drop-in, in order, with the section that it is in.
#[derive(Debug, PartialEq, Eq)]
struct Directive {
    section: String,
    key: String,
    value: String,
}

fn directives(text: &str) -> Vec<Directive> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(name) => section = name.to_owned(),
            None => {
                let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("no directive: {line:?}"));
                found.push(Directive { section: section.clone(), key: key.to_owned(), value: value.to_owned() });
            }
        }
    }
    found
}

/// The values of a directive, in order.
fn values(text: &str, key: &str) -> Vec<String> {
    directives(text).into_iter().filter(|directive| directive.key == key).map(|directive| directive.value).collect()
}

/// A drop-in of `systemd/examples`, and the units that its first line says it is for.
struct Example {
    name: String,
    text: String,
    units: Vec<String>,
}

fn examples() -> Vec<Example> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder().join("examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let text = text(&format!("examples/{name}"));
        let first = text.lines().next().unwrap_or_default();
        let units: Vec<_> = first
            .split(|c: char| c.is_whitespace() || "/,".contains(c))
            .map(|word| word.strip_suffix(".d").unwrap_or(word))
            .filter(|word| word.ends_with(".service") || word.ends_with(".socket"))
            .map(str::to_owned)
            .collect();
        assert!(!units.is_empty(), "the first line of {name} names no unit: {first}");
        found.push(Example { name, text, units });
    }
    assert!(found.len() >= 5, "too few examples: {}", found.len());
    found
}
