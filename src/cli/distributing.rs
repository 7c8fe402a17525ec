//! Brings together who asks replicas what they serve and who decides what follows for the jobs that wait for that.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::app::clock::{Entropy, SystemEntropy};
use crate::app::{Answers, Awaited, Engine};
use crate::domain::visible::Answer;
use crate::replicas::{Asker, Keys, Poller, Target};

/// How often it is looked for jobs that begin or end to wait, where anything was committed.
const LOOK: Duration = Duration::from_millis(250);

/// Has the URLs of jobs asked for as long as any job waits for them, and as long as the server leads.
pub(super) async fn drive(engine: Arc<Engine>, keys_dir: PathBuf) {
    let asker = match Asker::new(Keys::Directory(keys_dir)) {
        Ok(asker) => asker,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "HTTP cannot be set up: no replica is asked");
            return;
        }
    };
    let mut poller = Poller::new(asker, || SystemEntropy.jitter());
    let mut committed = engine.store().committed();
    let mut is_stale = true;
    let mut interval = tokio::time::interval(LOOK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let has_answer = tokio::select! {
            _ = interval.tick() => false,
            () = poller.next() => true,
        };
        // Not at each answer: there may be hundreds a second.
        if !has_answer {
            if !is_stale && !committed.has_changed().unwrap_or(false) {
                continue;
            }
            committed.borrow_and_update();
            match engine.awaited().await {
                Ok(awaited) => {
                    poller.want(awaited.iter().flat_map(|of| targets(of, engine.monotonic())));
                    is_stale = false;
                }
                Err(error) => {
                    is_stale = true;
                    warn(&error, "who waits for replicas cannot be read");
                }
            }
        }
        if let Err(error) = engine.note_answers(&answers(&poller, engine.monotonic())).await {
            is_stale = true;
            warn(&error, "what replicas serve cannot be recorded");
        }
    }
}

fn warn(error: &crate::app::AppError, what: &str) {
    tracing::error!(error = error as &dyn std::error::Error, "{what}; trying again");
}

/// What a job waits for, with the moment at which it is over.
fn targets(of: &Awaited, now: Duration) -> impl Iterator<Item = (Target, Instant)> {
    let at = Instant::now();
    let deadline = match of.deadline.checked_sub(now) {
        Some(left) => at + left,
        None => at.checked_sub(now.saturating_sub(of.deadline)).unwrap_or(at),
    };
    of.urls.iter().map(move |url| (Target { repository: of.repository.clone(), base: url.clone() }, deadline))
}

fn answers(poller: &Poller, now: Duration) -> Answers {
    let at = Instant::now();
    let answer = |(target, last): (&Target, &crate::replicas::LastAnswer)| {
        let asked = now.saturating_sub(at.saturating_duration_since(last.asked));
        let key = (target.repository.clone(), target.base.clone());
        (key, Answer { asked, served: last.served.clone() })
    };
    poller.answers().map(answer).collect()
}
