//! The rules, each a function from a source to what is wrong with it.

use super::source::Source;

/// What each module of the crate's root may use besides itself. `*` is everything.
const LAYERS: &[(&str, &[&str])] = &[
    ("causes", &[]),
    ("crash", &[]),
    ("cvmfs", &[]),
    ("domain", &[]),
    ("file_lock", &[]),
    ("mountinfo", &[]),
    ("planted", &[]),
    ("processes", &[]),
    ("socket_file", &[]),
    ("config", &["domain"]),
    ("store", &["domain", "crash", "file_lock", "planted"]),
    ("broker", &["domain", "crash"]),
    ("client", &["domain", "crash"]),
    ("notify", &["domain", "cvmfs"]),
    ("payload", &["domain", "crash", "mountinfo", "processes"]),
    ("publisher", &["domain", "causes", "crash", "cvmfs", "mountinfo", "processes"]),
    ("app", &["domain", "causes", "crash", "planted", "store", "broker", "notify"]),
    ("replicas", &["domain", "cvmfs"]),
    ("worker", &["domain", "crash", "file_lock", "socket_file", "broker", "client", "publisher", "payload"]),
    ("http", &["domain", "causes", "app", "broker", "store"]),
    ("cli", &["*"]),
    ("lib", &["*"]),
    ("main", &["cli"]),
];

/// What the domain must not say: I/O, clocks, randomness, async, logging.
const IMPURE: &[&str] = &[
    "fs",
    "net",
    "io",
    "env",
    "process",
    "thread",
    "Instant",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "now_v7",
    "new_v4",
    "getrandom",
    "rand",
    "tokio",
    "tracing",
    "rusqlite",
    "reqwest",
    "nix",
    "async",
    "await",
    "println",
    "eprintln",
    "dbg",
];

/// Longest source file, in lines.
const MAX_LINES: usize = 600;

pub(super) fn layer_violations(source: &Source) -> Vec<String> {
    let layer = source.layer();
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return vec![format!("{}: {layer} is in no layer; add it to the table and to ARCHITECTURE.md", source.path)];
    };
    let is_layer = |used: &String| LAYERS.iter().any(|(name, _)| name == used);
    source
        .layers_used()
        .into_iter()
        .filter(|used| is_layer(used) && used != layer && !allowed.contains(&used.as_str()) && !allowed.contains(&"*"))
        .map(|used| format!("{}: {layer} must not use {used}", source.path))
        .collect()
}

pub(super) fn purity_violations(source: &Source) -> Vec<String> {
    if source.layer() != "domain" {
        return Vec::new();
    }
    IMPURE
        .iter()
        .filter(|word| source.says(word))
        .map(|word| format!("{}: the domain is pure and must not use {word}", source.path))
        .collect()
}

pub(super) fn style_violations(source: &Source) -> Vec<String> {
    let mut violations = Vec::new();
    let lines = source.text.lines().count();
    if lines > MAX_LINES {
        violations.push(format!("{}: {lines} lines; at most {MAX_LINES}", source.path));
    }
    for (number, line) in (1..).zip(source.text.lines()) {
        let says = |word: &str| Source::new("", &line.replace("//", "")).says(word);
        if says("todo!") || says("unimplemented!") || says("FIXME") || (says("TODO") && !line.contains("TODO(")) {
            violations.push(format!("{}:{number}: do it, or say TODO(reason)", source.path));
        }
    }
    violations
}

/// The crash points that a source passes.
pub(super) fn crash_points(source: &Source) -> Vec<String> {
    let calls = source.code.match_indices("crash::point(\"").map(|(at, found)| &source.code[at + found.len()..]);
    calls.filter_map(|rest| rest.split_once('"')).map(|(name, _)| name.to_owned()).collect()
}

pub(super) fn crash_point_violations(used: &[String], listed: &[&str]) -> Vec<String> {
    let unlisted = used.iter().filter(|name| !listed.contains(&name.as_str()));
    let unused = listed.iter().filter(|name| !used.iter().any(|used| used == *name));
    unlisted
        .map(|name| format!("crash point {name} is missing from crash::ALL"))
        .chain(unused.map(|name| format!("crash point {name} is listed and nowhere passed")))
        .collect()
}
