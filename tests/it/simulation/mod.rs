//! The whole system in a seeded simulation: the real `domain`, `app`, `store` and sending side of the broker; simulated
//! workers, repositories, clients, network, RabbitMQ (a model of it), disk and time.
//!
//! Every schedule has at least 20 jobs of two submitters, four nodes and four repositories, one of them with a gateway.
//! `CONVEYOR_SIM_SCHEDULES=n` says how many are played, on all processors; `CONVEYOR_SIM_FIRST=n` which is the first;
//! `CONVEYOR_SIM_SEED=n` plays one again and prints it, with `CONVEYOR_SIM_BUG=name` as it is with that bug planted.

mod broker;
mod bugs;
mod checker;
mod client;
mod clock;
mod environment;
mod executor;
mod inbox;
mod ledger;
mod line;
mod outside;
mod recovery;
mod replicas;
mod repository;
mod scenarios;
mod task;
mod transport;
mod worker;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bugs::Bug;
use conveyor::planted;
use world::{Stats, World};

/// Schedules played unless the environment says otherwise.
const SCHEDULES: u64 = 200;
/// Schedules within which every planted bug must be found.
const SCHEDULES_TO_FIND_A_BUG: u64 = 400;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// The bug that is to be planted.
fn wanted_bug() -> Option<Bug> {
    let name = std::env::var("CONVEYOR_SIM_BUG").ok()?;
    Some(Bug::named(&name).unwrap_or_else(|| panic!("CONVEYOR_SIM_BUG={name} is not one of bugs.rs or planted.rs")))
}

/// Runs a schedule with a bug planted, or none.
fn run(world: &mut World, bug: Option<Bug>) -> Result<Stats, String> {
    planted::plant(match bug {
        Some(Bug::Server(bug)) => Some(bug),
        _ => None,
    });
    let result = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|_| Err("something panicked".into()));
    planted::plant(None);
    result
}

/// Plays a schedule; the error says what went wrong.
fn play(seed: u64, bug: Option<Bug>) -> Result<Stats, String> {
    run(&mut World::new(seed, bug, false), bug)
}

/// Plays a schedule once more and prints what happened in it.
fn show(seed: u64, bug: Option<Bug>) {
    let mut world = World::new(seed, bug, true);
    let result = run(&mut world, bug);
    let trace = world.trace();
    let shown = usize::try_from(setting("CONVEYOR_SIM_LINES").unwrap_or(150)).unwrap();
    trace.iter().skip(trace.len().saturating_sub(shown)).for_each(|line| eprintln!("{line}"));
    eprintln!("seed {seed}: {result:?}");
}

/// Plays schedules on all processors until `judge` says that it is enough.
fn play_many(seeds: std::ops::Range<u64>, judge: impl Fn(u64, Result<Stats, String>) -> bool + Sync) {
    let (next, enough) = (AtomicU64::new(seeds.start), std::sync::atomic::AtomicBool::new(false));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) || judge(seed, play(seed, wanted_bug())) {
                        enough.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

#[test]
fn nothing_is_lost_and_nothing_is_published_twice() {
    if let Some(seed) = setting("CONVEYOR_SIM_SEED") {
        show(seed, wanted_bug());
        play(seed, wanted_bug()).unwrap();
        return;
    }
    let first = setting("CONVEYOR_SIM_FIRST").unwrap_or(0);
    let count = setting("CONVEYOR_SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let began = std::time::Instant::now();
    let total = Mutex::new(Stats::default());
    let broken = Mutex::new(Vec::new());
    play_many(first..first + count, |seed, result| match result {
        Ok(stats) => {
            let mut total = total.lock().unwrap();
            total.add(&stats);
            if total.schedules.is_multiple_of(5000) {
                println!("after {:.0?}: {total:?}", began.elapsed());
            }
            false
        }
        Err(violation) => {
            broken.lock().unwrap().push((seed, violation));
            true
        }
    });
    println!("{:.1?}: {:?}", began.elapsed(), total.into_inner().unwrap());
    if let Some((seed, violation)) = broken.into_inner().unwrap().into_iter().min() {
        show(seed, wanted_bug());
        panic!("{violation}; play it again: CONVEYOR_SIM_SEED={seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..3 {
        let history = || {
            let mut world = World::new(seed, None, true);
            run(&mut world, None).unwrap();
            world.trace().to_vec()
        };
        assert_eq!(history(), history(), "seed {seed}");
    }
}

/// A test of a safety property is itself tested: each planted bug must show, in a schedule that is good without it.
#[test]
fn every_planted_bug_is_found() {
    let bugs: Vec<Bug> = Bug::all().collect();
    let next = AtomicU64::new(0);
    let missed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(bug) = bugs.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap()) {
                    let find = |seed| play(seed, Some(*bug)).err().map(|why| (seed, why));
                    match (0..SCHEDULES_TO_FIND_A_BUG).find_map(find) {
                        Some((seed, why)) => {
                            play(seed, None).unwrap_or_else(|why| panic!("seed {seed} without a bug: {why}"));
                            println!("{bug}: {why}");
                            println!("    CONVEYOR_SIM_SEED={seed} CONVEYOR_SIM_BUG={bug}");
                        }
                        None => missed.lock().unwrap().push(bug.to_string()),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not found in {SCHEDULES_TO_FIND_A_BUG} schedules: {missed:?}");
}
