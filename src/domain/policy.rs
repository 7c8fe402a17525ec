//! When a job is tried again, and when it is not.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Lost workers that a job may be met with before it is taken for their cause.
pub const MAX_INTERRUPTIONS: u32 = 20;

/// No back-off lasts longer than this, in seconds: one that would is the trace of a clock that was set back.
pub const LONGEST_BACKOFF_S: i64 = 600;

/// First pause after a failed attempt.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest pause after a failed attempt.
const RETRY_LONGEST: Duration = Duration::from_secs(300);
/// Longest pause for a repository that somebody else holds.
const BUSY_LONGEST: Duration = Duration::from_secs(30);

/// When an attempt that failed is followed by the next; `None` when it was the last.
///
/// * `failures`: failed attempts before this one
/// * `allowed`: attempts in all
/// * `transient`: whether trying again, unchanged, can help
/// * `jitter`: 0..1, from the caller's randomness
pub fn retry_at(now: Timestamp, failures: u32, allowed: u32, transient: bool, jitter: f64) -> Option<Timestamp> {
    (transient && failures + 1 < allowed).then(|| later(now, backoff(RETRY_FIRST, RETRY_LONGEST, failures, jitter)))
}

/// Most jobs that the members of a batch that failed as a whole share their next ones with; `None` where the batch was of one
/// job, whose attempt it was.
///
/// What may help itself is tried once more as it is, then in halves, until the one at fault is alone.
///
/// * `jobs`: how many there were
/// * `together`: the least that its members were limited to before
pub fn batch_after_failure(jobs: usize, together: usize, transient: bool) -> Option<u32> {
    let next = match jobs {
        0 | 1 => return None,
        _ if transient && together > jobs => jobs,
        _ => jobs.div_ceil(2),
    };
    u32::try_from(next).ok()
}

/// When the jobs of a batch that failed as a whole are tried again.
pub fn after_batch(now: Timestamp, jitter: f64) -> Timestamp {
    later(now, backoff(RETRY_FIRST, RETRY_LONGEST, 0, jitter))
}

/// When a job that met a busy repository is tried again. `tries`: how often it was tried before.
pub fn busy_until(now: Timestamp, tries: u32, jitter: f64) -> Timestamp {
    later(now, backoff(RETRY_FIRST, BUSY_LONGEST, tries, jitter))
}

/// Doubling from `first` to `longest`, of which between half and all is waited.
fn backoff(first: Duration, longest: Duration, step: u32, jitter: f64) -> Duration {
    let full = first.saturating_mul(2u32.saturating_pow(step.min(20))).min(longest);
    full.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

fn later(now: Timestamp, pause: Duration) -> Timestamp {
    SignedDuration::try_from(pause).ok().and_then(|pause| now.checked_add(pause).ok()).unwrap_or(Timestamp::MAX)
}
