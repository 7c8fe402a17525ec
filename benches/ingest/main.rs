//! How fast content gets into a repository, beside what the machine can do at best, measured in the same run.
//!
//! `cargo bench --bench ingest [-- --quick] [--only WORD] [--tree DIRECTORY] [--samples N] [--files N]` prints one
//! JSON object in each line. `--files` is the number of files in the rows that are about numbers (100,000). `--tree` is the real tree that is ingested (otherwise the sources of this program's dependencies, or `/usr`).
//! `CONVEYOR_BENCH_CVMFS_REPOSITORY=NAME` lets `cvmfs_server` ingest the same into a repository of this machine, if it is
//! installed. Each row runs in a process of its own, so that its peak memory is its own. docs/performance.md says what
//! the figures mean.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod content;
mod cvmfs_server;
mod floor;
mod ours;
#[path = "../jobs/report.rs"]
mod report;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use content::{Row, rows};
use report::{figure, median};

/// The argument that makes this program measure itself once.
const CHILD: &str = "--once";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().position(|word| word == name).and_then(|at| arguments.get(at + 1));
    let quick = arguments.iter().any(|word| word == "--quick");
    let many = value("--files").map_or(if quick { 500 } else { 100_000 }, |text| text.parse().unwrap());
    let rows = rows(quick, value("--tree").map(PathBuf::from), many);
    if let Some(name) = value(CHILD) {
        let row = rows.into_iter().find(|row| row.name() == name.as_str()).unwrap();
        let way = value("--way").unwrap();
        return ours::once(&row, way);
    }
    // Removed only at the end: ext4 searches for minutes past the inodes of deleted files, before each new one.
    let all = tempfile::tempdir().unwrap();
    let only = value("--only").map_or("", String::as_str);
    let samples = value("--samples").map_or(if quick { 1 } else { 3 }, |text| text.parse().unwrap());
    for row in rows.iter().filter(|row| row.name().contains(only)) {
        measure(row, samples, &arguments, all.path());
    }
}

fn measure(row: &Row, samples: usize, arguments: &[String], directory: &Path) {
    eprintln!("{}: {}", row.name(), row.description());
    let mut floors = floor::Floors::default();
    let mut runs = [("engine", Vec::new()), ("publish", Vec::new()), ("archive", Vec::new())];
    for _ in 0..samples {
        floors.measure(row, directory);
        for (way, results) in &mut runs {
            results.push(child(row, way, arguments, directory));
        }
    }
    floors.print(row);
    let written = floors.files_ms();
    for (way, results) in &runs {
        let all = |key: &str| results.iter().map(|run| run[key].as_f64().unwrap()).collect::<Vec<_>>();
        let mut more = json!({ "samples": samples });
        for key in ["files", "bytes", "peak_mb", "stored_bytes", "objects_new", "objects_known", "publish_ms"] {
            more[key] = json!(median(&all(key)));
        }
        more["stored_to_level_6"] = json!(median(&all("stored_bytes")) / floors.deflated_bytes());
        let name = format!("{}: {way}", row.name());
        figure(
            &name,
            median(&all("ms")),
            "ms",
            Some(("as many files written, their file system synced", written)),
            more,
        );
    }
    cvmfs_server::print(row);
}

/// Runs a row in a process of its own.
fn child(row: &Row, way: &str, arguments: &[String], directory: &Path) -> serde_json::Value {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments).args([CHILD, row.name(), "--way", way]).env("TMPDIR", directory);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
