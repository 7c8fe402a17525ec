//! The latest events, read from the database once for all who follow them: ten who wait cost what one does.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use tokio::sync::Mutex;

use crate::app::{AppError, Engine};
use crate::domain::ids::JobId;
use crate::domain::job::LoggedEvent;
use crate::domain::standing::JobStanding;
use crate::store::{Db, Store, StoreError};

/// Events that are kept; who is further behind reads the database itself.
const KEPT: usize = 4096;
/// Events read at once.
const READ: usize = 500;

/// An event, and its form for clients, which is made once.
pub struct RecentEvent {
    /// The event.
    pub event: LoggedEvent,
    json: OnceLock<String>,
}

impl RecentEvent {
    /// An event that was read from the database.
    pub fn new(event: LoggedEvent) -> Self {
        Self { event, json: OnceLock::new() }
    }

    /// The event as JSON.
    pub fn json(&self) -> &str {
        self.json.get_or_init(|| serde_json::to_string(&self.event).unwrap_or_default())
    }
}

/// Events after one number up to another, without a gap.
pub struct RecentEvents {
    /// In order.
    pub events: Vec<Arc<RecentEvent>>,
    /// Up to here all are told.
    pub to: u64,
}

/// What was read last.
#[derive(Default)]
pub(super) struct Recent(Mutex<Ring>);

/// All events with a number above `from` and up to `to`.
#[derive(Default)]
struct Ring {
    events: VecDeque<Arc<RecentEvent>>,
    from: u64,
    to: u64,
}

impl Ring {
    fn push(&mut self, event: LoggedEvent) {
        self.to = event.number;
        self.events.push_back(Arc::new(RecentEvent::new(event)));
        while self.events.len() > KEPT {
            self.from = self.events.pop_front().map_or(self.to, |event| event.event.number);
        }
    }

    /// Nothing where events after `after` are no longer here.
    fn after(&self, after: u64) -> Option<RecentEvents> {
        if after < self.from {
            return None;
        }
        let first = self.events.partition_point(|event| event.event.number <= after);
        Some(RecentEvents { events: self.events.range(first..).cloned().collect(), to: self.to.max(after) })
    }
}

impl Recent {
    async fn read(&self, store: &Store, after: u64) -> Result<Option<RecentEvents>, AppError> {
        let mut ring = self.0.lock().await;
        let committed = *store.committed().borrow();
        if committed.saturating_sub(ring.to) > KEPT as u64 {
            // Nobody has followed for a while: what is in between matters to nobody, or to one who reads it alone.
            let begin = after.clamp(committed - KEPT as u64, committed);
            *ring = Ring { events: VecDeque::new(), from: begin, to: begin };
        }
        while ring.to < committed {
            let from = ring.to;
            let events = store.read(move |db| Ok::<_, AppError>(db.events(None, None, from, READ)?)).await?;
            if events.is_empty() {
                // Numbers may be left out.
                ring.to = committed;
            }
            events.into_iter().for_each(|event| ring.push(event));
        }
        Ok(ring.after(after))
    }
}

impl Engine {
    /// All events after number `after`, of all jobs; nothing where that is too far back to be at hand.
    ///
    /// Whoever comes first after a commit reads what is new; the others wait for that and read nothing.
    pub async fn recent_events(&self, after: u64) -> Result<Option<RecentEvents>, AppError> {
        let committed = *self.store.committed().borrow();
        if let Ok(ring) = self.recent.0.try_lock()
            && ring.to >= committed
        {
            return Ok(ring.after(after));
        }
        // In a task of its own: a client that takes nothing stops its stream in the middle of anything, and must not stop the
        // others with it.
        let (recent, store) = (Arc::clone(&self.recent), self.store.clone());
        let reading = tokio::spawn(async move { recent.read(&store, after).await });
        reading.await.unwrap_or_else(|_| Err(StoreError::Stopped.into()))
    }

    /// How jobs stand, in one consistent look.
    pub async fn standings(&self, watched: Watched) -> Result<Vec<JobStanding>, AppError> {
        let read = move |db: &Db<'_>| match &watched {
            Watched::Submission(submission) => Ok::<_, AppError>(db.standings_of(*submission)?),
            Watched::Jobs(jobs) => Ok(db.standings(jobs)?),
        };
        self.store.read(read).await
    }
}

/// The jobs that somebody follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// All of a submission.
    Submission(crate::domain::ids::SubmissionId),
    /// These.
    Jobs(Vec<JobId>),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::ids::SubmissionId;
    use crate::domain::job::event::JobEvent;
    use crate::domain::job::state::StateKind;

    fn event(number: u64) -> LoggedEvent {
        LoggedEvent {
            number,
            job_id: JobId(uuid::Uuid::nil()),
            submission_id: SubmissionId(uuid::Uuid::nil()),
            at: jiff::Timestamp::UNIX_EPOCH,
            event: JobEvent::DependenciesMet,
            state: StateKind::Queued,
        }
    }

    #[test]
    fn a_ring_tells_what_it_has_without_a_gap_and_nothing_where_it_has_one() {
        let mut ring = Ring::default();
        // Every second number, as after pruning.
        (1..=2 * KEPT as u64).for_each(|number| ring.push(event(2 * number)));
        assert_eq!((ring.from, ring.to), (2 * KEPT as u64, 4 * KEPT as u64));
        assert!(ring.after(ring.from - 1).is_none());
        let numbers = |after: u64| ring.after(after).unwrap().events.iter().map(|e| e.event.number).collect::<Vec<_>>();
        assert_eq!(numbers(ring.from).len(), KEPT);
        assert_eq!(numbers(ring.to - 3), [ring.to - 2, ring.to]);
        assert!(numbers(ring.to).is_empty());
        assert_eq!(ring.after(ring.to + 5).unwrap().to, ring.to + 5);
    }
}
