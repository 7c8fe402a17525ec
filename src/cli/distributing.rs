//! Brings together who asks replicas what they serve and who decides what follows for the jobs that wait for that.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::app::clock::{Entropy, SystemEntropy};
use crate::app::notifications::Notifications;
use crate::app::{Answers, Awaited, Engine};
use crate::domain::visible::Answer;
use crate::replicas::{Asker, Keys, Poller, Target};

/// How often it is looked for jobs that begin or end to wait, where anything was committed.
const LOOK: Duration = Duration::from_millis(250);

/// What there is to do.
enum Next {
    /// Look for jobs that begin or end to wait.
    Look,
    /// Judge an answer.
    Judge,
    /// Ask soon: something was announced.
    Expect,
}

/// Has the URLs of jobs asked for as long as any job waits for them, and as long as the server leads. What is announced of a
/// repository is soon at its replicas.
pub(super) async fn drive(engine: Arc<Engine>, keys_dir: PathBuf, notifications: Arc<Notifications>) {
    let asker = match Asker::new(Keys::Directory(keys_dir)) {
        Ok(asker) => asker,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "HTTP cannot be set up: no replica is asked");
            return;
        }
    };
    let mut poller = Poller::new(asker, || SystemEntropy.jitter());
    let clocks = Clocks { at: Instant::now(), monotonic: engine.monotonic() };
    let mut committed = engine.store().committed();
    let mut told = notifications.told();
    let mut heard = *told.borrow_and_update();
    let mut is_stale = true;
    let mut interval = tokio::time::interval(LOOK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = tokio::select! {
            _ = interval.tick() => Next::Look,
            () = poller.next() => Next::Judge,
            Ok(()) = told.changed() => Next::Expect,
        };
        match next {
            // Not at each answer: there may be hundreds a second.
            Next::Look if is_stale || committed.has_changed().unwrap_or(false) => {
                committed.borrow_and_update();
                match engine.awaited().await {
                    Ok(awaited) => {
                        poller.want(awaited.iter().flat_map(|of| targets(of, clocks)));
                        is_stale = false;
                    }
                    Err(error) => {
                        is_stale = true;
                        warn(&error, "who waits for replicas cannot be read");
                    }
                }
            }
            Next::Look => continue,
            Next::Judge => {}
            Next::Expect => {
                for announced in notifications.since(heard) {
                    heard = heard.max(announced.number);
                    poller.expect_news(announced.message.repository());
                }
                continue;
            }
        }
        if let Err(error) = engine.note_answers(&answers(&poller, clocks)).await {
            is_stale = true;
            warn(&error, "what replicas serve cannot be recorded");
        }
    }
}

fn warn(error: &crate::app::AppError, what: &str) {
    tracing::error!(error = error as &dyn std::error::Error, "{what}; trying again");
}

/// One moment on both clocks, so that what is converted twice comes to the same.
#[derive(Clone, Copy)]
struct Clocks {
    at: Instant,
    monotonic: Duration,
}

/// What a job waits for, with the moment at which it is over.
fn targets(of: &Awaited, clocks: Clocks) -> impl Iterator<Item = (Target, Instant)> {
    let deadline = match of.deadline.checked_sub(clocks.monotonic) {
        Some(later) => clocks.at + later,
        None => clocks.at.checked_sub(clocks.monotonic.saturating_sub(of.deadline)).unwrap_or(clocks.at),
    };
    of.urls.iter().map(move |url| (Target { repository: of.repository.clone(), base: url.clone() }, deadline))
}

fn answers(poller: &Poller, clocks: Clocks) -> Answers {
    let answer = |(target, last): (&Target, &crate::replicas::LastAnswer)| {
        let asked = clocks.monotonic + last.asked.saturating_duration_since(clocks.at);
        let key = (target.repository.clone(), target.base.clone());
        (key, Answer { asked, served: last.served.clone() })
    };
    poller.answers().map(answer).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::ids::JobId;

    #[test]
    fn a_deadline_is_the_same_moment_whenever_it_is_converted() {
        let clocks = Clocks { at: Instant::now(), monotonic: Duration::from_secs(100) };
        let of = |deadline| Awaited {
            job: JobId(uuid::Uuid::nil()),
            repository: "a.example.org".parse().unwrap(),
            urls: vec!["http://s1.example.org/cvmfs/a.example.org".parse().unwrap()],
            revision: 1,
            deadline: Duration::from_secs(deadline),
        };
        let deadline = |seconds| targets(&of(seconds), clocks).next().unwrap().1;
        assert_eq!(deadline(130), clocks.at + Duration::from_secs(30));
        assert_eq!(deadline(130), deadline(130));
        assert_eq!(deadline(99), clocks.at - Duration::from_secs(1));
    }
}
