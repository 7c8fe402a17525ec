//! How long to wait between tries, and when to give up.

use std::time::{Duration, Instant};

/// First pause; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(5);

/// Pauses that grow, with jitter so that many clients do not come back in step.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    tries: u32,
    started: Instant,
    give_up_after: Duration,
}

impl Backoff {
    /// Begins now; no pause ends later than `give_up_after` from here.
    pub(super) fn new(give_up_after: Duration) -> Self {
        Self { tries: 0, started: Instant::now(), give_up_after }
    }

    /// The next pause, or nothing once the time is up. A server's wish (`Retry-After`) counts up to the time left.
    pub(super) fn next(&mut self, wish: Option<Duration>) -> Option<Duration> {
        let left = self.give_up_after.checked_sub(self.started.elapsed()).filter(|left| !left.is_zero())?;
        let pause = wish.unwrap_or_else(|| pause(self.tries, jitter()));
        self.tries = self.tries.saturating_add(1);
        Some(pause.min(left))
    }

    /// Tells whether no pause was made yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.tries == 0
    }

    /// How long tries go on in all.
    pub(super) fn patience(&self) -> Duration {
        self.give_up_after
    }
}

/// Between half and all of the doubled pause; `jitter` is 0 to 255.
fn pause(tries: u32, jitter: u8) -> Duration {
    let full = FIRST.saturating_mul(1 << tries.min(10)).min(LONGEST);
    full / 2 + full / 2 * u32::from(jitter) / 255
}

fn jitter() -> u8 {
    let mut byte = [128];
    // Without randomness pauses are merely in step.
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_are_spread() {
        assert_eq!(pause(0, 0), Duration::from_millis(50));
        assert_eq!(pause(0, 255), Duration::from_millis(100));
        assert_eq!(pause(3, 255), Duration::from_millis(800));
        assert_eq!(pause(u32::MAX, 255), LONGEST);
    }

    #[test]
    fn no_patience_means_one_try() {
        assert_eq!(Backoff::new(Duration::ZERO).next(None), None);
    }

    #[test]
    fn a_servers_wish_is_cut_to_the_time_left() {
        let pause = Backoff::new(Duration::from_secs(2)).next(Some(Duration::from_secs(60)));
        assert!(pause.is_some_and(|pause| pause <= Duration::from_secs(2)));
    }
}
