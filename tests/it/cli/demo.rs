//! The demonstration.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Place, Run, bare};

fn demo(place: &Place, output: &str) -> Run {
    let mut command = bare(place.path());
    command.args(["dev", "--listen", "127.0.0.1:0", "--demo", "--once", "--output", output]);
    Run::of(&command.arg("--state").arg(place.path().join("state")).output().unwrap())
}

#[test]
fn the_demo_publishes_three_jobs_and_shows_the_one_that_fails() {
    let place = Place::new();
    let run = demo(&place, "table");
    assert_eq!(run.code, 0, "{run:?}");
    let count = |state: &str| run.stdout.lines().filter(|line| line.starts_with(state)).count();
    assert_eq!((count("succeeded"), count("failed")), (3, 1), "{}", run.stdout);
    assert!(run.stdout.contains("looking for a compiler that is not here"), "{}", run.stdout);
    assert!(run.stdout.contains("cvmfs2 -o config="), "{}", run.stdout);

    // Once more on the same state, for programs.
    let run = demo(&place, "json");
    assert_eq!(run.code, 0, "{run:?}");
    let lines = run.lines();
    let failed = lines.iter().filter(|line| line["state"] == "failed").count();
    let is_job = |line: &&Value| line["tag"].as_str().is_some_and(|tag| tag.starts_with("cj-"));
    let tagged: BTreeSet<u64> = lines.iter().filter(is_job).filter_map(|line| line["revision"].as_u64()).collect();
    let succeeded = lines.iter().filter_map(|line| line["status"]["revision"].as_u64()).collect::<BTreeSet<_>>();
    assert_eq!(failed, 1, "{}", run.stdout);
    // Jobs that were ready at the same time may share a revision, and what is there already makes none; the last needs the
    // first.
    assert!(succeeded.len() >= 2 && succeeded.is_subset(&tagged) && tagged.len() >= 3, "{}", run.stdout);
}
