//! Time and randomness that the simulation controls.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use conveyor::app::clock::{Clock, Entropy};
use jiff::Timestamp;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

/// 2026-01-01T00:00:00Z, in milliseconds.
const START_MS: i64 = 1_767_225_600_000;

/// A clock that stands still until it is told otherwise; its time of day can jump.
#[derive(Default)]
pub(super) struct ManualClock {
    monotonic_ms: AtomicU64,
    offset_ms: AtomicI64,
}

impl ManualClock {
    pub(super) fn advance(&self, by: Duration) {
        self.monotonic_ms.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }

    /// Sets the time of day forth or back; nothing else notices.
    pub(super) fn jump(&self, by_ms: i64) {
        self.offset_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.monotonic_ms.load(Ordering::Relaxed)).unwrap();
        Timestamp::from_millisecond(START_MS + elapsed + self.offset_ms.load(Ordering::Relaxed)).unwrap()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::Relaxed))
    }
}

/// Randomness that a seed decides.
pub(super) struct SeededEntropy(Mutex<ChaCha8Rng>);

impl SeededEntropy {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(ChaCha8Rng::seed_from_u64(seed)))
    }
}

impl Entropy for SeededEntropy {
    fn uuid(&self, now: Timestamp) -> Uuid {
        uuid_v7(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), now)
    }

    fn secret(&self) -> String {
        format!("{:032x}", self.0.lock().unwrap_or_else(PoisonError::into_inner).random::<u128>())
    }

    fn jitter(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}

/// A UUID of version 7 for a time of day.
pub(super) fn uuid_v7(rng: &mut impl Rng, now: Timestamp) -> Uuid {
    let ms = u64::try_from(now.as_millisecond()).unwrap();
    uuid::Builder::from_unix_timestamp_millis(ms, &rng.random()).into_uuid()
}
