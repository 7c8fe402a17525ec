//! The end of a worker: it takes no more, finishes what can be finished in time, gives back the rest.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Worker;

/// What a worker is told to do about its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Halt {
    /// Nothing: go on.
    No,
    /// Take no more, finish what can be finished within [`super::WorkerSettings::drain_timeout`], give back the rest.
    Drain,
    /// Give back what is staged at once.
    Now,
}

/// How long what was told to stop may take to give its batch back.
const GIVE_BACK: Duration = Duration::from_secs(10);
/// How long each report is tried once the server has been gone for that long.
const LAST_TRY: Duration = Duration::from_secs(3);

/// The way to the end, shared by the worker's tasks.
pub(super) struct Draining {
    begun: watch::Sender<bool>,
    given_up: watch::Sender<bool>,
    /// Publishes that go on.
    publishing: watch::Sender<usize>,
}

impl Default for Draining {
    fn default() -> Self {
        Self {
            begun: watch::Sender::new(false),
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
    pub(super) fn has_begun(&self) -> bool {
        *self.begun.borrow()
    }

    /// Waits until the worker takes no more.
    pub(super) async fn begun(&self) {
        wait(&self.begun, |begun| *begun).await;
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

/// Ends the worker's tasks. Ends itself [`super::WorkerSettings::drain_timeout`] later and at most 16 s, whatever
/// the server does; only a publish that was permitted is waited for longer, since it would have to be found out about.
pub(super) async fn drain(
    worker: &Arc<Worker>,
    tasks: &mut JoinSet<bool>,
    receiving: &mut JoinSet<()>,
    mut halt: watch::Receiver<Halt>,
    at_once: bool,
) {
    let deadline = Instant::now() + worker.settings.drain_timeout;
    worker.draining.begun.send_replace(true);
    worker.beat.notify_one();
    // What the broker has delivered and nobody claimed goes back to it.
    let _ = tokio::time::timeout(LAST_TRY, receiving.join_next()).await;
    receiving.abort_all();
    if !at_once && !tasks.is_empty() {
        let (batches, seconds) = (tasks.len(), worker.settings.drain_timeout.as_secs());
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
    async fn a_publish_counts_until_it_is_over() {
        let draining = Draining::default();
        let one = draining.publishing();
        assert_eq!(*draining.publishing.borrow(), 1);
        drop(one);
        wait(&draining.publishing, |count| *count == 0).await;
    }
}
