//! How long to wait before the broker is tried again.

use std::time::Duration;

/// First pause; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(200);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(30);
/// A connection that lasted so long begins the pauses anew.
const GOOD: Duration = Duration::from_secs(10);

/// Pauses that grow, spread so that many servers and workers do not come back in step.
#[derive(Debug, Default)]
pub struct Pause {
    tries: u32,
}

impl Pause {
    /// The next one, after a connection that lasted for `lasted`.
    pub fn next(&mut self, lasted: Duration) -> Duration {
        if lasted >= GOOD {
            self.tries = 0;
        }
        let full = FIRST.saturating_mul(1 << self.tries.min(10)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        let mut byte = [128];
        // Without randomness pauses are merely in step.
        let _ = getrandom::fill(&mut byte);
        full / 2 + full / 2 * u32::from(byte[0]) / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_begin_anew_after_a_good_connection() {
        let mut pause = Pause::default();
        let first = pause.next(Duration::ZERO);
        assert!((FIRST / 2..=FIRST).contains(&first));
        let last = (0..40).map(|_| pause.next(Duration::ZERO)).last();
        assert!(last.is_some_and(|last| (LONGEST / 2..=LONGEST).contains(&last)), "{last:?}");
        assert!(pause.next(GOOD) <= FIRST);
    }
}
