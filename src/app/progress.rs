//! How far the running attempts have come: the last report of each, in memory only. A report is no evidence, comes with
//! every heartbeat, and must not cost a commit.

use std::time::Duration;

use tokio::sync::watch;

use crate::app::Engine;
use crate::app::visible::Distribution;
use crate::domain::ids::{BatchId, JobId, SubmissionId};
use crate::domain::job::state::JobState;
use crate::domain::progress::{JobProgress, ProgressReport, ProgressView};
use crate::domain::protocol::JobView;

/// What a worker said last of one batch.
pub(super) struct Reported {
    members: Vec<Member>,
    view: ProgressView,
    /// When, on the monotonic clock.
    at: Duration,
    /// The number of the change that it was.
    number: u64,
}

/// A job of a running batch.
pub(super) struct Member {
    pub(super) job_id: JobId,
    pub(super) submission: SubmissionId,
    pub(super) attempt: u32,
}

impl Engine {
    /// Notes what the holder of a claim reports with its heartbeat, and tells whoever follows.
    pub(super) fn note_progress(&self, batch: BatchId, members: Vec<Member>, report: ProgressReport) {
        let at = self.clock.monotonic();
        let mut live = self.live();
        let before = live.progress.get(&batch);
        let elapsed = before.map_or(Duration::ZERO, |before| at.saturating_sub(before.at));
        let view = ProgressView::next(before.map(|before| &before.view), report, elapsed);
        let is_news = before.is_none_or(|before| before.view != view);
        let number = match before {
            Some(before) if !is_news => before.number,
            _ => *self.progress_changed.borrow() + 1,
        };
        live.progress.insert(batch, Reported { members, view, at, number });
        if is_news {
            // Still under the lock: numbers and reports are seen in one order.
            self.progress_changed.send_replace(number);
        }
    }

    /// The number of the last change of anybody's progress, to wait for the next.
    pub fn progress_changed(&self) -> watch::Receiver<u64> {
        self.progress_changed.subscribe()
    }

    /// The progress that changed after number `after`, of one job, one submission or all, in the order of the changes.
    pub fn progress(&self, job: Option<JobId>, submission: Option<SubmissionId>, after: u64) -> Vec<JobProgress> {
        let live = self.live();
        let running =
            live.progress.values().map(|reported| (reported.number, reported.view, reported.members.as_slice()));
        let distributing = live.distributing.values().filter_map(Distribution::reported);
        let mut changed: Vec<_> = running.chain(distributing).filter(|(number, ..)| *number > after).collect();
        changed.sort_unstable_by_key(|(number, ..)| *number);
        let of = |(_, progress, members): (u64, ProgressView, &[Member])| {
            let wanted = |member: &&Member| {
                job.is_none_or(|job| job == member.job_id)
                    && submission.is_none_or(|submission| submission == member.submission)
            };
            let with_job = |member: &Member| JobProgress { job_id: member.job_id, attempt: member.attempt, progress };
            members.iter().filter(wanted).map(with_job).collect::<Vec<_>>()
        };
        changed.into_iter().flat_map(of).collect()
    }

    /// Adds to the jobs that run how far they have come.
    pub(super) fn add_progress(&self, jobs: &mut [JobView]) {
        let live = self.live();
        for job in jobs {
            // An attempt is known by its batch: what was said of an earlier one is not shown.
            match &job.status {
                JobState::Running { batch, .. } => {
                    job.progress = live.progress.get(batch).map(|reported| reported.view);
                }
                JobState::Distributing { .. } => {
                    job.progress = live.distributing.get(&job.job_id).and_then(Distribution::progress);
                }
                _ => {}
            }
        }
    }
}
