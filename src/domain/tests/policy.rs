use jiff::Timestamp;
use proptest::prelude::*;

use crate::domain::policy::{LONGEST_BACKOFF_S, after_batch, batch_after_failure, busy_until, retry_at};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn seconds(until: Timestamp) -> f64 {
    until.duration_since(NOW).as_secs_f64()
}

#[test]
fn an_attempt_follows_only_where_it_can_help_and_one_is_left() {
    assert!(retry_at(NOW, 0, 2, true, 0.5).is_some());
    assert!(retry_at(NOW, 1, 2, true, 0.5).is_none());
    assert!(retry_at(NOW, 0, 1, true, 0.5).is_none());
    assert!(retry_at(NOW, 0, 100, false, 0.5).is_none());
    assert!(retry_at(NOW, u32::MAX - 1, u32::MAX, true, 0.5).is_none());
}

#[test]
fn pauses_double_up_to_their_limit() {
    let pauses: Vec<f64> = (0..10).map(|n| seconds(retry_at(NOW, n, 100, true, 1.0).unwrap())).collect();
    assert_eq!(pauses, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0]);
    let pauses: Vec<f64> = (0..7).map(|n| seconds(busy_until(NOW, n, 1.0))).collect();
    assert_eq!(pauses, [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
}

#[test]
fn a_batch_that_fails_is_tried_once_more_and_then_in_halves_until_the_one_at_fault_is_alone() {
    const FREE: usize = usize::MAX;
    assert_eq!(batch_after_failure(1, FREE, true), None, "the attempt of one job is its own");
    assert_eq!(batch_after_failure(8, FREE, true), Some(8), "once more as it was");
    assert_eq!(batch_after_failure(8, FREE, false), Some(4), "trying again unchanged cannot help");
    let (mut jobs, mut together, mut tries) = (100, FREE, 0);
    while let Some(next) = batch_after_failure(jobs, together, true) {
        (jobs, together, tries) = (next as usize, next as usize, tries + 1);
    }
    assert_eq!((jobs, tries), (1, 8));
    assert!((0.5..=1.0).contains(&seconds(after_batch(NOW, 0.3))));
}

proptest! {
    #[test]
    fn every_pause_is_positive_and_shorter_than_a_clock_that_was_set_back(
        failures in any::<u32>(), jitter in prop_oneof![0.0..1.0f64, any::<f64>().prop_filter("a number", |j| !j.is_nan())]
    ) {
        let longest = LONGEST_BACKOFF_S as f64;
        if let Some(until) = retry_at(NOW, failures, u32::MAX, true, jitter) {
            prop_assert!((0.5..=300.0).contains(&seconds(until)));
        }
        let busy = seconds(busy_until(NOW, failures, jitter));
        prop_assert!((0.5..=30.0).contains(&busy) && busy < longest);
    }

    #[test]
    fn the_end_of_time_is_no_panic(failures in any::<u32>()) {
        prop_assert_eq!(busy_until(Timestamp::MAX, failures, 0.5), Timestamp::MAX);
    }
}
