//! What the fuzzers in `fuzz/` do, for every run of the tests: their seeds, and mutations of them from a fixed seed.
//!
//! `CONVEYOR_FUZZ_SEED=n` takes other mutations, `CONVEYOR_FUZZ_ROUNDS=n` more of them.

#[path = "../../../fuzz/inputs.rs"]
mod inputs;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Longest that one input may take. They take milliseconds; a machine that is busy with other tests is no hang.
const LONGEST: Duration = Duration::from_secs(5);

/// Numbers that programs get wrong, as text and in both orders of bytes.
const EDGES: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, i64::MAX as u64, u64::MAX];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Reads an input, and fails with what it takes to see it again.
fn check(what: &str, bytes: &[u8], read: fn(&[u8])) {
    let begun = Instant::now();
    let read = catch_unwind(AssertUnwindSafe(|| read(bytes)));
    let kept = || {
        let path = std::env::temp_dir().join(format!("conveyor-fuzz-{}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        format!("{what}; the input is {}", path.display())
    };
    assert!(read.is_ok(), "panicked on {}", kept());
    assert!(begun.elapsed() < LONGEST, "{:?} for {}", begun.elapsed(), kept());
}

fn mutate(random: &mut ChaCha8Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[random.random_range(0..seeds.len())].clone();
    for _ in 0..random.random_range(1..5) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = random.random_range(0..bytes.len());
        let end = (at + random.random_range(1..64)).min(bytes.len());
        match random.random_range(0..9) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.next_u32() as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let copy = bytes[at..end].to_vec();
                let to = random.random_range(0..=bytes.len());
                drop(bytes.splice(to..to, copy));
            }
            5 => {
                let other = &seeds[random.random_range(0..seeds.len())];
                let from = random.random_range(0..=other.len());
                let piece = &other[from..(from + 64).min(other.len())];
                let end = (at + piece.len()).min(bytes.len());
                drop(bytes.splice(at..end, piece.iter().copied()));
            }
            6 => {
                let edge = EDGES[random.random_range(0..EDGES.len())];
                let width = [1, 2, 4, 8][random.random_range(0..4)];
                let number = if random.random() { edge.to_be_bytes() } else { edge.swap_bytes().to_be_bytes() };
                let piece = if random.random() { &number[..width] } else { &number[8 - width..] };
                let end = (at + width).min(bytes.len());
                bytes[at..end].copy_from_slice(&piece[..end - at]);
            }
            7 => {
                // A number in text becomes another one.
                let Some(digit) = bytes[at..].iter().position(u8::is_ascii_digit) else { continue };
                let from = at + digit;
                let length = bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let edge = EDGES[random.random_range(0..EDGES.len())].to_string();
                drop(bytes.splice(from..from + length, edge.bytes()));
            }
            _ => bytes[at..end].fill([0, 0xff, b' ', b'\n'][random.random_range(0..4)]),
        }
    }
    bytes
}

fn replay(name: &str, rounds: u64, read: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files = walkdir::WalkDir::new(corpus).min_depth(1).sort_by_file_name().into_iter().map(Result::unwrap);
    let mut seeds = Vec::new();
    for file in files {
        let bytes = std::fs::read(file.path()).unwrap();
        check(&file.path().display().to_string(), &bytes, read);
        seeds.push(bytes);
    }
    assert!(!seeds.is_empty(), "no seeds for {name}");
    let seed = setting("CONVEYOR_FUZZ_SEED", 1);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for round in 0..setting("CONVEYOR_FUZZ_ROUNDS", rounds) {
        check(&format!("{name}, round {round} of CONVEYOR_FUZZ_SEED={seed}"), &mutate(&mut random, &seeds), read);
    }
}

#[test]
fn manifests() {
    replay("manifest", 3000, inputs::manifest);
}

#[test]
fn whitelists() {
    replay("whitelist", 3000, inputs::whitelist);
}

#[test]
fn certificates() {
    replay("certificate", 1000, inputs::certificate);
}

#[test]
fn catalogs() {
    replay("catalog", 500, inputs::catalog);
}

#[test]
fn histories() {
    replay("history", 2000, inputs::history);
}

#[test]
fn archives() {
    replay("tar", 5000, inputs::tar);
}
