//! What will happen to whom, decided by a seed. When exactly it meets them is up to the machine.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::site::{Link, NODES, Target};

/// Something that happens to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// `kill -9`, and a new start after `down`. Where it is aimed, it comes so long after a publish was permitted.
    Kill { target: Target, aim: Option<Duration>, down: Duration },
    /// The end in order, and a new start.
    Stop { target: Target },
    /// SIGSTOP, and SIGCONT after `time`.
    Freeze { target: Target, time: Duration },
    /// All connections of a kind end.
    Cut { link: Link },
    /// What the other side says is not heard for `time`; then the connections end.
    Silence { link: Link, time: Duration },
}

/// A fault, and how long nothing happens before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) pause: Duration,
    pub(super) fault: Fault,
}

/// Most time between two faults.
const LONGEST_PAUSE_MS: u64 = 1000;
/// A permitted publish is met at most so late: it takes about as long.
const LATEST_AIM_MS: u64 = 60;

/// Plans so many faults; those who stand still for long do so for `long`, which is more than a claim lives.
pub(super) fn plan(seed: u64, count: usize, long: Duration) -> Vec<Step> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let step = |number: usize| {
        let pause = Duration::from_millis(random.random_range(0..LONGEST_PAUSE_MS));
        // Also a short run has each of the rare ones.
        let fault = match number {
            _ if number == count / 2 => Fault::Kill { target: Target::Broker, aim: None, down: Duration::ZERO },
            _ if number == count / 3 => Fault::Freeze { target: worker(&mut random), time: long },
            _ if number == count * 4 / 5 => Fault::Stop { target: Target::Broker },
            _ => fault(&mut random, long),
        };
        Step { pause, fault }
    };
    (0..count).map(step).collect()
}

fn fault(random: &mut ChaCha8Rng, long: Duration) -> Fault {
    let dice = random.random_range(0..1000);
    let some_time = |random: &mut ChaCha8Rng, most_ms| Duration::from_millis(random.random_range(0..most_ms));
    match dice {
        0..500 => {
            let aim = (dice < 320).then(|| some_time(random, LATEST_AIM_MS));
            // Mostly at once, and now and then later than its claims live.
            let most_ms = if random.random_ratio(1, 12) { 12_000 } else { 300 };
            Fault::Kill { target: worker(random), aim, down: some_time(random, most_ms) }
        }
        500..680 => {
            let aim = (dice < 590).then(|| some_time(random, LATEST_AIM_MS));
            let most_ms = if random.random_ratio(1, 12) { 5000 } else { 200 };
            Fault::Kill { target: Target::Server, aim, down: some_time(random, most_ms) }
        }
        680..860 => Fault::Cut { link: link(random) },
        860..880 => Fault::Silence { link: link(random), time: some_time(random, 20_000) },
        880..930 => {
            let target = if random.random_ratio(1, 5) { Target::Server } else { worker(random) };
            Fault::Freeze { target, time: some_time(random, 12_000) }
        }
        930..945 => Fault::Freeze { target: anybody(random), time: long },
        945..988 => {
            let target = if random.random_ratio(1, 4) { Target::Server } else { worker(random) };
            Fault::Stop { target }
        }
        988..994 => Fault::Kill { target: Target::Broker, aim: None, down: some_time(random, 3000) },
        _ => Fault::Stop { target: Target::Broker },
    }
}

fn worker(random: &mut ChaCha8Rng) -> Target {
    Target::Worker(random.random_range(0..NODES.len()))
}

/// Mostly workers: while the others stand still, little goes on that could be hurt.
fn anybody(random: &mut ChaCha8Rng) -> Target {
    match random.random_range(0..8) {
        0 => Target::Server,
        1 => Target::Broker,
        _ => worker(random),
    }
}

fn link(random: &mut ChaCha8Rng) -> Link {
    let number = random.random_range(0..NODES.len());
    match random.random_range(0..3) {
        0 => Link::ServerToBroker,
        1 => Link::WorkerToServer(number),
        _ => Link::WorkerToBroker(number),
    }
}

#[test]
fn a_seed_makes_the_same_plan_again() {
    let long = Duration::from_secs(90);
    assert_eq!(plan(7, 200, long), plan(7, 200, long));
    assert_ne!(plan(7, 200, long), plan(8, 200, long));
}
