//! The numbers that the design aims at, each beside a floor or ceiling measured in the same run on the same disk.
//!
//! `cargo bench --bench jobs [-- --quick] [--only WORD] [--stored N]` prints one JSON object in each line. `--quick` takes
//! seconds and proves that all of it works, `--only` picks the figures whose group has the word in its name.
//! docs/performance.md says what the figures mean.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

// As the tests hand over sockets; a benchmark needs one of them.
#[allow(dead_code)]
#[path = "../../tests/it/harness/activation.rs"]
mod activation;
mod broker;
mod floor;
mod latency;
mod memory;
mod native;
mod protocol;
mod queue;
mod ready;
mod report;
mod server;
mod submit;

/// How much is done.
#[derive(Debug, Clone, Copy)]
struct Scale {
    quick: bool,
    /// Finished jobs in the database when memory and the start are measured.
    stored: usize,
}

impl Scale {
    /// The first number in a real run, the second one in a quick one.
    fn pick<T>(self, real: T, quick: T) -> T {
        if self.quick { quick } else { real }
    }
}

/// Measures and prints some figures.
type Group = fn(Scale);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().position(|word| word == name).and_then(|at| arguments.get(at + 1));
    let quick = arguments.iter().any(|word| word == "--quick");
    let stored = value("--stored").map_or(if quick { 2_000 } else { 100_000 }, |text| text.parse().unwrap());
    let scale = Scale { quick, stored };
    if let Some(directory) = value(memory::FILL) {
        return memory::fill(directory.as_ref(), scale);
    }
    if let Some(directory) = value(memory::MEASURE) {
        return memory::measure(directory.as_ref(), scale);
    }
    let only = value("--only").map_or("", String::as_str);
    let groups: [(&str, Group); 7] = [
        ("submit", submit::run),
        ("latency", latency::run),
        ("protocol", protocol::run),
        ("queue", queue::run),
        ("native", native::run),
        ("memory", memory::run),
        ("ready", ready::run),
    ];
    for (name, group) in groups {
        if name.contains(only) {
            group(scale);
        }
    }
}
