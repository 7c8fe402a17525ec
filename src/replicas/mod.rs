//! Replicas (and stratum 0s) that are asked again and again which revision they serve, each by itself: one that is slow or
//! dead holds up nobody. Each base of a repository is asked once, however many wait for it.

mod ask;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use url::Url;

pub use ask::{Asker, Keys};

use crate::domain::names::RepositoryName;
use ask::Memory;

/// Questions at the same time, in all and to one host.
const AT_ONCE: usize = 64;
const PER_HOST: usize = 4;
/// The pause between two questions is a tenth of the time since anything happened, within these limits.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(15);
/// One that gives no answer is asked more and more rarely, down to this.
const LONGEST_AFTER_FAILURE: Duration = Duration::from_secs(30);
/// What is asked at a deadline is asked this much after it, for sure.
const AFTER_DEADLINE: Duration = Duration::from_millis(20);

/// The base of a repository, such as `http://stratum1.example.org/cvmfs/software.example.org`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The repository.
    pub repository: RepositoryName,
    /// Where it is served.
    pub base: Url,
}

/// What a target said last.
#[derive(Debug, Clone)]
pub struct LastAnswer {
    /// When it was asked.
    pub asked: Instant,
    /// The revision that it serves, or why that is not known.
    pub served: Result<u64, String>,
}

/// Keeps asking targets for as long as they are wanted.
pub struct Poller {
    asker: Asker,
    /// 0 to 1.
    jitter: Box<dyn Fn() -> f64 + Send + Sync>,
    places: HashMap<Target, Place>,
    running: JoinSet<Asked>,
    hosts: HashMap<String, usize>,
}

/// What is known of a target.
struct Place {
    /// Absent while it is being asked.
    memory: Option<Memory>,
    /// When something happened last: somebody began to wait for it, it gave another answer, or there was something new for it.
    since: Instant,
    /// The moments at which somebody gives it up: it is asked once more behind each.
    deadlines: Vec<Instant>,
    due: Instant,
    failures: u32,
    answer: Option<LastAnswer>,
}

/// A question with its answer.
struct Asked {
    target: Target,
    memory: Memory,
    answer: LastAnswer,
}

impl Place {
    /// When it is asked next; not while it is being asked.
    fn due(&self) -> Option<Instant> {
        self.memory.as_ref()?;
        let asked = self.answer.as_ref().map(|answer| answer.asked);
        let behind = self.deadlines.iter().filter(|at| asked.is_some_and(|asked| asked < **at));
        behind.min().map_or(Some(self.due), |at| Some(self.due.min(*at + AFTER_DEADLINE)))
    }
}

impl Poller {
    /// Asks nobody yet. `jitter`: a source of numbers from 0 to 1.
    pub fn new(asker: Asker, jitter: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        let (places, running, hosts) = (HashMap::new(), JoinSet::new(), HashMap::new());
        Self { asker, jitter: Box::new(jitter), places, running, hosts }
    }

    /// Says who is to be asked, each with the moment at which it is given up. What is not among them is forgotten; one that
    /// somebody else begins to wait for is asked soon.
    pub fn want(&mut self, wanted: impl IntoIterator<Item = (Target, Instant)>) {
        let now = Instant::now();
        let mut deadlines: HashMap<Target, Vec<Instant>> = HashMap::new();
        for (target, deadline) in wanted {
            deadlines.entry(target).or_default().push(deadline);
        }
        self.places.retain(|target, _| deadlines.contains_key(target));
        for (target, deadlines) in deadlines {
            let place = self.places.entry(target).or_insert_with(|| Place {
                memory: Some(Memory::default()),
                since: now,
                deadlines: Vec::new(),
                due: now,
                failures: 0,
                answer: None,
            });
            let is_new = |deadline: &Instant| !place.deadlines.contains(deadline);
            if deadlines.iter().any(is_new) {
                (place.since, place.due) = (now, place.due.min(now + SHORTEST));
            }
            place.deadlines = deadlines;
        }
    }

    /// Takes note that there is something new of a repository: who is to serve it is asked soon, and often again.
    pub fn expect_news(&mut self, repository: &RepositoryName) {
        let now = Instant::now();
        for (_, place) in self.places.iter_mut().filter(|(target, _)| target.repository == *repository) {
            (place.since, place.due) = (now, place.due.min(now + SHORTEST));
        }
    }

    /// What was answered last, by whom.
    pub fn answers(&self) -> impl Iterator<Item = (&Target, &LastAnswer)> {
        self.places.iter().filter_map(|(target, place)| Some((target, place.answer.as_ref()?)))
    }

    /// Asks who is due, and returns when somebody has answered. Nothing is lost when it is dropped.
    pub async fn next(&mut self) {
        loop {
            self.ask_due();
            let now = Instant::now();
            // What is due and cannot be asked yet waits for an answer, not for a time.
            let wake = self.places.values().filter_map(Place::due).filter(|due| *due > now).min();
            let wake = wake.unwrap_or(now + LONGEST_AFTER_FAILURE);
            tokio::select! {
                Some(asked) = self.running.join_next() => {
                    // A question that panicked is not counted down, and its target stays unasked: there is none that does.
                    if let Ok(asked) = asked && self.note(asked, Instant::now()) {
                        return;
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    fn ask_due(&mut self) {
        let now = Instant::now();
        let is_due = |place: &Place| place.due().filter(|due| *due <= now);
        let mut due: Vec<_> =
            self.places.iter().filter_map(|(target, place)| Some((is_due(place)?, target.clone()))).collect();
        due.sort_by_key(|(due, _)| *due);
        for (_, target) in due {
            let host = self.hosts.entry(host(&target)).or_default();
            if self.running.len() >= AT_ONCE || *host >= PER_HOST {
                continue;
            }
            let Some(mut memory) = self.places.get_mut(&target).and_then(|place| place.memory.take()) else { continue };
            *host += 1;
            let asker = self.asker.clone();
            self.running.spawn(async move {
                let asked = Instant::now();
                let served = asker.ask(&target.repository, &target.base, &mut memory).await;
                Asked { target, memory, answer: LastAnswer { asked, served } }
            });
        }
    }

    /// Takes an answer; tells whether anybody still wants it.
    fn note(&mut self, asked: Asked, now: Instant) -> bool {
        let Asked { target, memory, answer } = asked;
        let host = host(&target);
        if let Some(count) = self.hosts.get_mut(&host) {
            *count -= 1;
            if *count == 0 {
                self.hosts.remove(&host);
            }
        }
        // One that was forgotten and is wanted anew meanwhile has a memory of its own, and is asked by itself.
        let Some(place) = self.places.get_mut(&target).filter(|place| place.memory.is_none()) else { return false };
        if place.answer.as_ref().is_some_and(|last| last.served != answer.served) {
            // Where something moves, more may follow.
            (place.since, place.failures) = (now, 0);
        }
        place.failures = if answer.served.is_ok() { 0 } else { place.failures.saturating_add(1) };
        place.due = now + pause(now - place.since, place.failures).mul_f64(0.75 + 0.5 * (self.jitter)());
        (place.memory, place.answer) = (Some(memory), Some(answer));
        true
    }
}

fn host(target: &Target) -> String {
    target.base.origin().ascii_serialization()
}

fn pause(quiet: Duration, failures: u32) -> Duration {
    let usual = (quiet / 10).clamp(SHORTEST, LONGEST);
    match failures {
        0 => usual,
        failures => usual.max(SHORTEST.saturating_mul(1 << failures.min(10)).min(LONGEST_AFTER_FAILURE)),
    }
}
