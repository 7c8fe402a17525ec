//! What a use case needs from the world besides the store; simulations supply their own.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

/// Time. Deadlines use the monotonic side only: the other may jump.
pub trait Clock: Send + Sync {
    /// The time of day, to be shown and recorded.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
}

/// Randomness.
pub trait Entropy: Send + Sync {
    /// A new UUID of version 7 for a moment.
    fn uuid(&self, now: Timestamp) -> Uuid;
    /// A secret of 128 bits or more, as text of letters and digits.
    fn secret(&self) -> String;
    /// 0..1.
    fn jitter(&self) -> f64;
}

/// The machine's clocks.
pub struct SystemClock {
    start: std::time::Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The machine's randomness.
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn uuid(&self, _now: Timestamp) -> Uuid {
        Uuid::now_v7()
    }

    fn secret(&self) -> String {
        // Two version-4 UUIDs are 244 random bits from the operating system.
        Uuid::from_u128(random()).simple().to_string() + &Uuid::from_u128(random()).simple().to_string()
    }

    fn jitter(&self) -> f64 {
        (random() >> 96) as f64 / f64::from(u32::MAX)
    }
}

fn random() -> u128 {
    let mut bytes = [0; 16];
    // Without randomness no secret can be made; the operating system's generator does not fail once it is seeded.
    #[allow(clippy::expect_used)]
    getrandom::fill(&mut bytes).expect("the operating system's random generator works");
    u128::from_ne_bytes(bytes)
}
