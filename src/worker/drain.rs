//! Taking no more: at the end of a worker, which finishes what can be finished in time and gives back the rest; or because an
//! operator wants it, who may want it back ([`super::drained`]).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Worker;
use crate::domain::worker::Drained;

/// What a worker is told to do about its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Halt {
    /// Nothing: go on.
    No,
    /// Take no more, finish what can be finished within [`super::Adjustable::drain_timeout`], give back the rest.
    Drain,
    /// Give back what is staged at once.
    Now,
}

/// How long what was told to stop may take to give its batch back.
const GIVE_BACK: Duration = Duration::from_secs(10);
/// How long each report is tried once the server has been gone for that long.
const LAST_TRY: Duration = Duration::from_secs(3);

/// Whether the worker takes offers, and the way to its end; shared by its tasks.
pub(super) struct Draining {
    /// Why it takes none.
    taking: watch::Sender<Taking>,
    given_up: watch::Sender<bool>,
    /// Publishes that go on.
    publishing: watch::Sender<usize>,
}

/// Why a worker takes no offers; it does where nothing is said.
#[derive(Default)]
struct Taking {
    /// Since when it is about to end.
    ends: Option<Timestamp>,
    /// What its operator said.
    drained: Option<Drained>,
}

impl Taking {
    fn is_on(&self) -> bool {
        self.ends.is_none() && self.drained.is_none()
    }
}

impl Default for Draining {
    fn default() -> Self {
        Self {
            taking: watch::Sender::default(),
            given_up: watch::Sender::new(false),
            publishing: watch::Sender::new(0),
        }
    }
}

/// A publish that goes on; it is over when this is dropped.
pub(super) struct Publishing<'a>(&'a watch::Sender<usize>);

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Draining {
    /// Whether the worker is about to end.
    pub(super) fn has_begun(&self) -> bool {
        self.begun_at().is_some()
    }

    /// Since when it is.
    pub(super) fn begun_at(&self) -> Option<Timestamp> {
        self.taking.borrow().ends
    }

    /// Waits until it is.
    pub(super) async fn begun(&self) {
        wait(&self.taking, |taking| taking.ends.is_some()).await;
    }

    /// What an operator said who made it take no more.
    pub(super) fn drained(&self) -> Option<Drained> {
        self.taking.borrow().drained.clone()
    }

    /// Notes what an operator says.
    pub(super) fn set_drained(&self, drained: Option<Drained>) {
        self.taking.send_modify(|taking| taking.drained = drained);
    }

    /// Whether the worker takes offers.
    pub(super) fn takes(&self) -> bool {
        self.taking.borrow().is_on()
    }

    /// Waits until it does.
    pub(super) async fn until_it_takes(&self) {
        wait(&self.taking, Taking::is_on).await;
    }

    /// Waits until it does not.
    pub(super) async fn until_it_takes_none(&self) {
        wait(&self.taking, |taking| !taking.is_on()).await;
    }

    /// Notes a publish, which is not interrupted.
    pub(super) fn publishing(&self) -> Publishing<'_> {
        self.publishing.send_modify(|count| *count += 1);
        Publishing(&self.publishing)
    }

    /// Carries out a report; `false` where the worker must end although the server does not answer.
    pub(super) async fn report(&self, reporting: impl Future<Output = ()>) -> bool {
        let too_long = async {
            wait(&self.given_up, |over| *over).await;
            tokio::time::sleep(LAST_TRY).await;
        };
        tokio::select! {
            () = reporting => true,
            () = too_long => false,
        }
    }
}

async fn wait<T>(channel: &watch::Sender<T>, until: impl FnMut(&T) -> bool) {
    // The sender is at hand, so that this cannot fail.
    let _ = channel.subscribe().wait_for(until).await;
}

async fn all(tasks: &mut JoinSet<bool>) {
    while let Some(ended) = tasks.join_next().await {
        super::note_panic(&ended);
    }
}

/// Ends the worker's tasks. Ends itself [`super::Adjustable::drain_timeout`] later and at most 16 s, whatever
/// the server does; only a publish that was permitted is waited for longer, since it would have to be found out about.
pub(super) async fn drain(
    worker: &Arc<Worker>,
    tasks: &mut JoinSet<bool>,
    receiving: &mut JoinSet<()>,
    mut halt: watch::Receiver<Halt>,
    at_once: bool,
) {
    let drain_timeout = worker.adjustable().drain_timeout;
    let deadline = Instant::now() + drain_timeout;
    worker.draining.taking.send_modify(|taking| taking.ends = Some(Timestamp::now()));
    worker.beat.notify_one();
    // What the broker has delivered and nobody claimed goes back to it.
    let _ = tokio::time::timeout(LAST_TRY, receiving.join_next()).await;
    receiving.abort_all();
    if !at_once && !tasks.is_empty() {
        let (batches, seconds) = (tasks.len(), drain_timeout.as_secs());
        tracing::info!(batches, "the worker takes no more, and gives back what is not finished in {seconds} s");
        tokio::select! {
            () = all(tasks) => {}
            Ok(_) = halt.wait_for(|halt| *halt == Halt::Now) => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
    worker.held.stop_all();
    if !tasks.is_empty() {
        tracing::info!(
            batches = tasks.len(),
            "what is staged is given back; what is being published is finished first"
        );
    }
    if tokio::time::timeout(GIVE_BACK, all(tasks)).await.is_ok() {
        return;
    }
    worker.draining.given_up.send_replace(true);
    wait(&worker.draining.publishing, |count| *count == 0).await;
    if tokio::time::timeout(LAST_TRY * 2, all(tasks)).await.is_err() {
        tracing::warn!(
            batches = tasks.len(),
            "the server does not answer; it recovers what this worker could not report"
        );
        tasks.abort_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_report_ends_with_the_worker_and_not_before() {
        let draining = Draining::default();
        assert!(draining.report(async {}).await);
        assert!(draining.report(std::future::pending()).now_or_never().is_none());
        draining.given_up.send_replace(true);
        let began = Instant::now();
        assert!(!draining.report(std::future::pending()).await);
        assert!(began.elapsed() >= LAST_TRY, "each report gets its try");
    }

    #[tokio::test]
    async fn an_operator_has_the_last_word_only_over_a_worker_that_goes_on() {
        let draining = Draining::default();
        draining.until_it_takes().await;
        let drained = Drained { since: Timestamp::UNIX_EPOCH, why: String::new() };
        draining.set_drained(Some(drained.clone()));
        draining.until_it_takes_none().await;
        assert!(!draining.takes() && !draining.has_begun());
        assert_eq!(draining.drained(), Some(drained));
        draining.set_drained(None);
        assert!(draining.takes());
        draining.taking.send_modify(|taking| taking.ends = Some(Timestamp::UNIX_EPOCH));
        draining.set_drained(None);
        assert!(!draining.takes() && draining.has_begun());
    }

    #[tokio::test]
    async fn a_publish_counts_until_it_is_over() {
        let draining = Draining::default();
        let one = draining.publishing();
        assert_eq!(*draining.publishing.borrow(), 1);
        drop(one);
        wait(&draining.publishing, |count| *count == 0).await;
    }
}
