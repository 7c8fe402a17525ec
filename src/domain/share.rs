//! Fair share: in which order jobs that are ready go.
//!
//! Each fleet has a virtual time, which is that of the job that went last. A job gets its own when it becomes ready: the fleet's,
//! or that of its submitter's last job where that is later, and one more. So whoever has few jobs goes between those of who
//! has thousands, and everybody's own jobs stay in their order. Its *rank* is that time less its priority; ranks are compared
//! within a fleet and never change, so that a job which waits long enough comes first whatever arrives: its rank stays,
//! theirs grow. Start-time fair queueing, with a place in the queue as the unit, and no clock that could jump.

use std::collections::{BTreeSet, HashMap};

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
    /// What counts of each submitter whose last job's virtual time is later than the fleet's.
    last: HashMap<String, Last>,
    remembered: usize,
}

/// A submitter's jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Last {
    /// The virtual time of the last.
    time: i64,
    /// Those of jobs before it that will not go. Its place is not free before theirs: nobody's jobs overtake each other.
    withdrawn: BTreeSet<i64>,
}

impl Shares {
    /// Makes them up anew from the jobs that have not ended.
    pub fn restored(pending: impl IntoIterator<Item = Pending>) -> Self {
        let (mut first_queued, mut latest, mut shares) = (None::<i64>, 0, Self::default());
        for Pending { submitter, first_queued: first, last } in pending {
            first_queued = first_queued.into_iter().chain(first).min();
            latest = last.max(latest);
            let known = shares.last.entry(submitter).or_default();
            known.time = last.max(known.time);
        }
        // Where nothing is in the queue, what comes goes behind what comes back.
        shares.now = first_queued.map_or(latest, |first| first - 1);
        shares
    }

    /// The rank of a job that becomes ready now.
    pub fn rank(&mut self, submitter: &str, priority: i32) -> i64 {
        let last = self.last.entry(submitter.to_owned()).or_default();
        if last.time < self.now {
            *last = Last { time: self.now, withdrawn: BTreeSet::new() };
        }
        last.time += 1;
        let time = last.time;
        if self.last.len() > FORGOTTEN_AT.max(2 * self.remembered) {
            self.last.retain(|_, last| last.time > self.now);
            self.remembered = self.last.len();
        }
        rank(time, priority)
    }

    /// Notes that a job goes.
    pub fn served(&mut self, rank: i64, priority: i32) {
        self.now = self.now.max(time(rank, priority));
    }

    /// Notes that a submitter's job will not go: once none of the submitter's is behind it, its place is free for the next.
    pub fn withdrawn(&mut self, submitter: &str, rank: i64, priority: i32) {
        if let Some(last) = self.last.get_mut(submitter) {
            last.withdrawn.insert(time(rank, priority));
            while last.withdrawn.remove(&last.time) {
                last.time -= 1;
            }
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
