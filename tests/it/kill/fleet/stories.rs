//! What the server says happened, followed from the first event on through all its lives.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use conveyor::client::{Client, StreamItem};
use conveyor::domain::ids::JobId;
use conveyor::domain::job::LoggedEvent;
use conveyor::domain::job::event::JobEvent;
use conveyor::domain::job::state::StateKind;
use jiff::Timestamp;

/// The time between a permission to publish and what became of it.
#[derive(Debug, Clone)]
pub(super) struct Publishing {
    pub(super) node: String,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// Whether its worker was lost with it.
    pub(super) lost: bool,
}

/// All that was heard.
#[derive(Default)]
pub(super) struct Heard {
    last: u64,
    jobs: HashMap<JobId, Story>,
    /// Permissions so far, by node.
    permitted: BTreeMap<String, usize>,
    pub(super) publishing: Vec<Publishing>,
    /// Claims that were lost before there was a permission.
    pub(super) lost_staging: usize,
    accepted: usize,
    ended: usize,
    pub(super) wrong: Vec<String>,
}

struct Story {
    state: StateKind,
    node: String,
    permitted: Option<Timestamp>,
}

/// Hears, and lets others wait for what is heard.
#[derive(Default)]
pub(super) struct Stories {
    heard: Mutex<Heard>,
    changed: Condvar,
}

/// Pause before the server is asked again.
const PAUSE: Duration = Duration::from_millis(50);

impl Stories {
    /// Follows the events for ever.
    pub(super) async fn follow(&self, client: Client) {
        loop {
            let last = self.heard().last;
            let mut stream = client.events(None, Some(last));
            // Whatever ends a stream: it goes on behind the last event. What is missing shows by its number.
            while let Ok(item) = stream.next().await {
                if let StreamItem::Job(event) = item {
                    self.note(&event);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub(super) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap()
    }

    /// Notes that so many more jobs were accepted.
    pub(super) fn accepted(&self, jobs: usize) {
        self.heard().accepted += jobs;
    }

    /// Jobs that were accepted, and those that have ended.
    pub(super) fn counts(&self) -> [usize; 2] {
        let heard = self.heard();
        [heard.accepted, heard.ended]
    }

    /// Jobs that were accepted and have not ended.
    pub(super) fn open(&self) -> usize {
        let [accepted, ended] = self.counts();
        accepted.saturating_sub(ended)
    }

    /// Waits until the next publish is permitted, on this node where one is named; tells whether it was in time.
    pub(super) fn await_permission(&self, node: Option<&str>, patience: Duration) -> bool {
        let count = |heard: &Heard| -> usize {
            heard
                .permitted
                .iter()
                .filter(|(name, _)| node.is_none_or(|node| node == *name))
                .map(|(_, count)| count)
                .sum()
        };
        let (deadline, mut heard) = (Instant::now() + patience, self.heard());
        let before = count(&heard);
        while count(&heard) == before {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            heard = self.changed.wait_timeout(heard, left).unwrap().0;
        }
        true
    }

    /// The states that the events led to.
    pub(super) fn states(&self) -> BTreeMap<JobId, StateKind> {
        self.heard().jobs.iter().map(|(job, story)| (*job, story.state)).collect()
    }

    pub(super) fn note(&self, event: &LoggedEvent) {
        let mut heard = self.heard();
        let heard = &mut *heard;
        if event.number != heard.last + 1 {
            heard.wrong.push(format!("event {} was told behind event {}", event.number, heard.last));
        }
        heard.last = event.number;
        let fresh = || Story { state: event.state, node: String::new(), permitted: None };
        let is_new = !heard.jobs.contains_key(&event.job_id);
        let story = heard.jobs.entry(event.job_id).or_insert_with(fresh);
        let was_final = !is_new && story.state.is_final();
        story.state = event.state;
        heard.ended = heard.ended + usize::from(event.state.is_final()) - usize::from(was_final);
        let lost = matches!(event.event, JobEvent::WorkerLost { .. });
        if let Some(from) = story.permitted.take() {
            let node = story.node.clone();
            heard.publishing.push(Publishing { node, from, to: event.at, lost });
        } else if lost {
            heard.lost_staging += 1;
        }
        match &event.event {
            JobEvent::Claimed { node, .. } => story.node.clone_from(node),
            JobEvent::PublishPermitted { .. } => {
                story.permitted = Some(event.at);
                *heard.permitted.entry(story.node.clone()).or_default() += 1;
            }
            _ => {}
        }
        self.changed.notify_all();
    }
}
