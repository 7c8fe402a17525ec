//! Fair share: in which order jobs that are ready go.
//!
//! Each fleet has a virtual time, which is that of the job that went last. A job gets its own when it becomes ready: the fleet's,
//! or that of its submitter's last job where that is later, and one more. So whoever has few jobs goes between those of who
//! has thousands, and everybody's own jobs stay in their order. Its *rank* is that time less its priority; ranks are compared
//! within a fleet and never change, so that a job which waits long enough comes first whatever arrives: its rank stays,
//! theirs grow. Start-time fair queueing, with a place in the queue as the unit, and no clock that could jump.

use std::collections::HashMap;

/// Places in the queue that one point of priority is worth.
pub const PLACES_PER_PRIORITY: i64 = 100;

/// Submitters that are remembered although it makes no difference any more.
const FORGOTTEN_AT: usize = 1024;

/// What a submitter has that became ready and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Whose.
    pub submitter: String,
    /// The virtual time of the first that is in the queue.
    pub first_queued: Option<i64>,
    /// The virtual time of the last, wherever it is.
    pub last: i64,
}

/// The virtual times of one fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shares {
    now: i64,
    /// The virtual time of each submitter's last job, where it is later than the fleet's.
    last: HashMap<String, i64>,
    remembered: usize,
}

impl Shares {
    /// Makes them up anew from the jobs that have not ended.
    pub fn restored(pending: impl IntoIterator<Item = Pending>) -> Self {
        let (mut first_queued, mut latest, mut shares) = (None::<i64>, 0, Self::default());
        for Pending { submitter, first_queued: first, last } in pending {
            first_queued = first_queued.into_iter().chain(first).min();
            latest = last.max(latest);
            let known = shares.last.entry(submitter).or_insert(last);
            *known = last.max(*known);
        }
        // Where nothing is in the queue, what comes goes behind what comes back.
        shares.now = first_queued.map_or(latest, |first| first - 1);
        shares
    }

    /// The rank of a job that becomes ready now.
    pub fn rank(&mut self, submitter: &str, priority: i32) -> i64 {
        let time = self.now.max(self.last.get(submitter).copied().unwrap_or(self.now)) + 1;
        self.last.insert(submitter.to_owned(), time);
        if self.last.len() > FORGOTTEN_AT.max(2 * self.remembered) {
            self.last.retain(|_, last| *last > self.now);
            self.remembered = self.last.len();
        }
        rank(time, priority)
    }

    /// Notes that a job goes.
    pub fn served(&mut self, rank: i64, priority: i32) {
        self.now = self.now.max(time(rank, priority));
    }

    /// Notes that a submitter's job will not go. Was it the last, then its place is free for the next one; the places of others
    /// are not, since who comes later must not come before those behind them.
    pub fn withdrawn(&mut self, submitter: &str, rank: i64, priority: i32) {
        if let Some(last) = self.last.get_mut(submitter).filter(|last| **last == time(rank, priority)) {
            *last -= 1;
        }
    }
}

/// The rank of a job of this virtual time.
fn rank(time: i64, priority: i32) -> i64 {
    time - PLACES_PER_PRIORITY * i64::from(priority)
}

/// The virtual time of a job of this rank.
pub fn time(rank: i64, priority: i32) -> i64 {
    rank + PLACES_PER_PRIORITY * i64::from(priority)
}
