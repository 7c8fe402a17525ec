//! Waiting for conditions.

use std::time::{Duration, Instant};

/// How long anything may take that is not itself about time; far more than it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(20);

/// Looks again and again until there is something; fails with `what` when the patience is over.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(POLL);
    }
}
