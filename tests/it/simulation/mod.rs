//! The whole system in a seeded simulation: the real `domain`, `app` and `store`; simulated workers, repositories,
//! clients, network and time.
//!
//! `CONVEYOR_SIM_SEED=n` plays one schedule again and prints it; `CONVEYOR_SIM_SCHEDULES=n` says how many are played.

mod bugs;
mod checker;
mod client;
mod clock;
mod environment;
mod executor;
mod line;
mod outside;
mod recovery;
mod repository;
mod scenarios;
mod task;
mod transport;
mod worker;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use bugs::Bug;
use world::{Stats, World};

/// Schedules played unless the environment says otherwise.
const SCHEDULES: u64 = 300;
/// Schedules within which every planted bug must be found.
const SCHEDULES_TO_FIND_A_BUG: u64 = 300;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Plays a schedule; the error says what went wrong.
fn play(seed: u64, bug: Option<Bug>) -> Result<Stats, String> {
    catch_unwind(AssertUnwindSafe(|| World::new(seed, bug, false).run()))
        .unwrap_or_else(|_| Err("something panicked".into()))
}

/// Plays a schedule once more and prints what happened in it.
fn show(seed: u64) {
    let mut world = World::new(seed, None, true);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let trace = world.trace();
    let shown = usize::try_from(setting("CONVEYOR_SIM_LINES").unwrap_or(150)).unwrap();
    trace.iter().skip(trace.len().saturating_sub(shown)).for_each(|line| eprintln!("{line}"));
    eprintln!("seed {seed}: {result:?}");
}

#[test]
fn nothing_is_lost_and_nothing_is_published_twice() {
    if let Some(seed) = setting("CONVEYOR_SIM_SEED") {
        show(seed);
        play(seed, None).unwrap();
        return;
    }
    let mut total = Stats::default();
    for seed in 0..setting("CONVEYOR_SIM_SCHEDULES").unwrap_or(SCHEDULES) {
        match play(seed, None) {
            Ok(stats) => total.add(&stats),
            Err(violation) => {
                show(seed);
                panic!("{violation}; play it again: CONVEYOR_SIM_SEED={seed}");
            }
        }
    }
    println!("{total:?}");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..5 {
        let history = || {
            let mut world = World::new(seed, None, true);
            world.run().unwrap();
            world.trace().to_vec()
        };
        assert_eq!(history(), history(), "seed {seed}");
    }
}

/// A test of a safety property is itself tested: each planted bug must show, and as more than a job that never ends.
#[test]
fn every_planted_bug_is_found() {
    for bug in Bug::ALL {
        let unsafe_seed =
            |seed| play(seed, Some(bug)).err().filter(|why| !why.contains("never ends")).map(|why| (seed, why));
        let Some((seed, why)) = (0..SCHEDULES_TO_FIND_A_BUG).find_map(unsafe_seed) else {
            panic!("{bug:?} was not found in {SCHEDULES_TO_FIND_A_BUG} schedules")
        };
        println!("{bug:?}: seed {seed}: {why}");
    }
}
