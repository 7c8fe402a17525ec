//! The demonstration.

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
    let revisions = lines.iter().filter(|line| line["tag"].as_str().is_some_and(|tag| tag.starts_with("cj-"))).count();
    assert_eq!((failed, revisions), (1, 6), "{}", run.stdout);
}
