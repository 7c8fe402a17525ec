//! Rates, and how progress is said.

use std::time::Duration;

use crate::domain::progress::{ProgressReport, ProgressView, Step};

fn report(step: Step, bytes: u64) -> ProgressReport {
    ProgressReport { step, files: 1, bytes }
}

#[test]
fn a_rate_is_that_between_two_reports_of_one_step() {
    let seconds = Duration::from_secs;
    let first = ProgressView::next(None, report(Step::Fetching, 500), seconds(9));
    assert_eq!(first.bytes_per_s, None);
    let second = ProgressView::next(Some(&first), report(Step::Fetching, 2500), seconds(2));
    assert_eq!((second.bytes, second.bytes_per_s), (2500, Some(1000)));
    let at_once = ProgressView::next(Some(&second), report(Step::Fetching, 2600), seconds(0));
    assert_eq!(at_once.bytes_per_s, Some(1000), "no time tells nothing new");
    let overtaken = ProgressView::next(Some(&second), report(Step::Fetching, 100), seconds(1));
    assert_eq!(overtaken.bytes_per_s, Some(0));
    let huge = ProgressView::next(Some(&first), report(Step::Fetching, u64::MAX), Duration::from_millis(1));
    assert_eq!(huge.bytes_per_s, Some(u64::MAX));
    let other_step = ProgressView::next(Some(&second), report(Step::Staging, 9000), seconds(1));
    assert_eq!(other_step.bytes_per_s, None);
}

#[test]
fn progress_is_said_in_units_that_people_read() {
    let said =
        |step, files, bytes, bytes_per_s| ProgressView { step, files, bytes, bytes_per_s, replicas: None }.to_string();
    assert_eq!(said(Step::Staging, 0, 0, Some(0)), "");
    assert_eq!(said(Step::Fetching, 0, 1023, None), "fetched 1023 B");
    assert_eq!(said(Step::Staging, 1, 1024, Some(0)), "staged 1 file, 1.0 KiB");
    assert_eq!(said(Step::Staging, 12, (1 << 30) - 1, Some(1_600_000)), "staged 12 files, 1.0 GiB, 1.5 MiB/s");
    assert_eq!(said(Step::Staging, 2, 5 << 40, None), "staged 2 files, 5.0 TiB");
}
