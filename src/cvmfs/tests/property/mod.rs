//! Random sequences of change sets against a plain tree as the model: after every step the repository must show the same
//! entries, content, link counts and catalogs, its counters must be true, and its check must find nothing.
//!
//! `CONVEYOR_PROPERTY_SEED=n` runs one sequence again; `CONVEYOR_PROPERTY_SEQUENCES=n` says how many are run from there. With
//! `CONVEYOR_PROPERTY_KEEP=directory` the repositories stay there, one for each seed.

mod auto;
mod compare;
mod model;
mod rules;
mod run;
mod steps;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};

use tempfile::TempDir;

use super::support;
use crate::cvmfs::reader::Expiry;
use crate::cvmfs::stratum0::Stratum0;
use compare::Seen;
use model::{Kind, Model};
use steps::{Sequence, Step};

/// Sequences run unless the environment says otherwise.
const SEQUENCES: u64 = 1000;

/// Runs that finding a shorter sequence may take.
const MOST_SHORTENINGS: usize = 300;

/// A repository of the real tools, and what is in it.
struct Golden {
    directory: TempDir,
    model: Model,
    seen: Seen,
}

static GOLDEN: LazyLock<Golden> = LazyLock::new(|| {
    let (directory, storage, keys) = support::golden(Golden::NAME);
    let reader = Stratum0::at(storage, Golden::NAME, keys).reader(Expiry::Refuse { now: support::NOW }).unwrap();
    let (model, mut tree) = (Model::read(&reader), reader.tree().unwrap());
    let mut seen = Seen::new();
    for (path, node) in &model.nodes {
        if let (Kind::File(bytes, ..), Some(entry)) = (&node.kind, tree.lookup(path).unwrap()) {
            seen.extend(entry.hash.map(|hash| (hash, bytes.clone())));
        }
    }
    drop(tree);
    Golden { directory, model, seen }
});

impl Golden {
    const NAME: &str = "sample.example.org";
}

/// How often something was met.
#[derive(Default)]
struct Count(AtomicUsize);

impl Count {
    fn add(&self, more: usize) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

/// What the sequences came across: a test that never meets something says nothing of it.
#[derive(Default)]
struct Tally {
    aborts: Count,
    by_dirtab: Count,
    chunked: Count,
    collected: Count,
    conflicts: Count,
    divided: Count,
    failures: Count,
    links: Count,
    merged: Count,
    nested: Count,
    rollbacks: Count,
}

impl Tally {
    fn all(&self) -> [(&'static str, usize); 11] {
        [
            ("change sets that were dropped", &self.aborts),
            ("catalogs by dirtab", &self.by_dirtab),
            ("files in chunks", &self.chunked),
            ("objects that were collected", &self.collected),
            ("edits that were refused", &self.conflicts),
            ("catalogs by splitting", &self.divided),
            ("publishes that failed", &self.failures),
            ("hard links", &self.links),
            ("catalogs merged for their size", &self.merged),
            ("nested catalogs", &self.nested),
            ("rollbacks", &self.rollbacks),
        ]
        .map(|(what, count)| (what, count.0.load(Ordering::Relaxed)))
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

fn play(sequence: &Sequence, tally: &Tally, keep: Option<PathBuf>) -> Result<(), String> {
    let run = || run::run(sequence, &GOLDEN, tally, keep.as_deref());
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(format!("it panicked: {}", text.unwrap_or_default()))
    })
}

/// Leaves out what a failure does not need.
fn shorten(sequence: Sequence) -> Sequence {
    let (mut best, tally, mut runs) = (sequence, Tally::default(), 0);
    let mut fails = |candidate: &Sequence| {
        runs += 1;
        runs <= MOST_SHORTENINGS && play(candidate, &tally, None).is_err()
    };
    for place in (0..best.steps.len()).rev() {
        let mut candidate = best.clone();
        candidate.steps.remove(place);
        if fails(&candidate) {
            best = candidate;
        }
    }
    for place in (0..best.steps.len()).rev() {
        let (Step::Publish(edits, _) | Step::Abort(edits)) = &best.steps[place] else { continue };
        let mut end = edits.len();
        let mut length = end.div_ceil(2);
        while length > 0 {
            while end > 0 {
                let start = end.saturating_sub(length);
                let mut candidate = best.clone();
                if let Step::Publish(edits, _) | Step::Abort(edits) = &mut candidate.steps[place] {
                    edits.drain(start..end.min(edits.len()));
                }
                if fails(&candidate) {
                    best = candidate;
                }
                end = start;
            }
            let (Step::Publish(edits, _) | Step::Abort(edits)) = &best.steps[place] else { break };
            (end, length) = (edits.len(), length / 2);
        }
    }
    best
}

#[test]
fn change_sets_do_to_a_repository_what_they_do_to_a_directory() {
    let tally = Tally::default();
    let only = setting("CONVEYOR_PROPERTY_SEED");
    let count = setting("CONVEYOR_PROPERTY_SEQUENCES").unwrap_or(if only.is_some() { 1 } else { SEQUENCES });
    let first = only.unwrap_or(0);
    let end = first + count;
    let (next, failed) = (AtomicU64::new(first), Mutex::new(None));
    let keep = std::env::var_os("CONVEYOR_PROPERTY_KEEP").map(PathBuf::from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end || failed.lock().unwrap().is_some() {
                return;
            }
            let sequence = Sequence::of_seed(seed, &GOLDEN.model);
            let keep = keep.as_ref().map(|keep| keep.join(seed.to_string()));
            if let Err(why) = play(&sequence, &tally, keep) {
                failed.lock().unwrap().get_or_insert((seed, sequence, why));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    if let Some((seed, sequence, why)) = failed.into_inner().unwrap() {
        // Shortening takes a while.
        eprintln!("seed {seed}: {why}");
        let short = shorten(sequence);
        let short_why = play(&short, &Tally::default(), None);
        panic!("{why}\nshortened: {short_why:?}\n{short:?}\nrun it again: CONVEYOR_PROPERTY_SEED={seed}");
    }
    println!("{:?}", tally.all());
    for (what, count) in tally.all() {
        assert!(count > 0 || end - first < SEQUENCES, "no {what} in {} sequences", end - first);
    }
}
