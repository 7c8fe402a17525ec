//! The watchdog: the service manager is told that the process lives as long as what must live answers, and restarts it when
//! that was not said for `WatchdogSec=`.
//!
//! An answer that is an error is an answer: a full disk is no reason to be killed, since a restart would not empty it.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

/// How often it is said, in parts of the time after which the process is taken for dead.
const PARTS: u32 = 3;

/// After which silence this process is taken for dead; nothing where nobody watches it.
pub(super) fn asked_for() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}

/// Says that the process lives, each time after what must live has `answered`. Runs in the event loop itself, so that one that
/// stands still says nothing either.
pub(super) async fn feed<F>(interval: Duration, answered: impl Fn() -> F, say: impl Fn()) -> Infallible
where
    F: Future<Output = ()>,
{
    let mut every = tokio::time::interval(interval / PARTS);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        answered().await;
        say();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, mpsc};

    use super::*;
    use crate::store::{Store, StoreError};

    const INTERVAL: Duration = Duration::from_millis(60);

    /// Counts what is said; the task ends with the set.
    fn fed<F: Future<Output = ()> + Send>(
        tasks: &mut tokio::task::JoinSet<Infallible>,
        answered: impl Fn() -> F + Send + Sync + 'static,
    ) -> Arc<AtomicUsize> {
        let said = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&said);
        tasks.spawn(async move {
            feed(INTERVAL, answered, || {
                count.fetch_add(1, Ordering::SeqCst);
            })
            .await
        });
        said
    }

    async fn until_more(said: &AtomicUsize) {
        let before = said.load(Ordering::SeqCst);
        while said.load(Ordering::SeqCst) < before + 2 {
            tokio::time::sleep(INTERVAL / 10).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_writer_that_stands_still_is_not_fed_for_and_one_that_fails_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        let asked = store.clone();
        let said = fed(&mut tasks, move || {
            let store = asked.clone();
            async move { drop(store.probe().await) }
        });
        until_more(&said).await;

        // A commit that takes long.
        let (release, held) = mpsc::channel::<()>();
        let (began, begun) = tokio::sync::oneshot::channel();
        let busy = store.clone();
        let stuck = tokio::spawn(async move {
            busy.write(move |_| {
                let _ = began.send(());
                let _ = held.recv();
                Ok::<_, StoreError>(())
            })
            .await
        });
        begun.await.unwrap();
        // One may have been answered just before, and is said at any time after.
        let before = said.load(Ordering::SeqCst);
        tokio::time::sleep(INTERVAL * 5).await;
        assert!(said.load(Ordering::SeqCst) <= before + 1, "it was fed although the writer stands still");
        release.send(()).unwrap();
        stuck.await.unwrap().unwrap();
        until_more(&said).await;

        // A writer that answers with errors lives.
        let failing = fed(&mut tasks, move || {
            let store = store.clone();
            async move {
                let full = |_: &mut crate::store::Tx<'_>| Err::<(), _>(StoreError::Full { path: "db".into() });
                assert!(store.write(full).await.is_err());
            }
        });
        until_more(&failing).await;
    }

    #[tokio::test]
    async fn an_event_loop_that_stands_still_says_nothing() {
        let mut tasks = tokio::task::JoinSet::new();
        let said = fed(&mut tasks, || std::future::ready(()));
        until_more(&said).await;
        let before = said.load(Ordering::SeqCst);
        // This test's loop has one thread, which is held here.
        std::thread::sleep(INTERVAL * 5);
        assert_eq!(said.load(Ordering::SeqCst), before);
        until_more(&said).await;
    }
}
