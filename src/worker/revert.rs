//! Undoes another job, as a job's payload.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::Worker;
use super::failure::{failed, outcome};
use super::held::Stop;
use super::log::AttemptLog;
use super::stage::{Open, TimeLimit, lease, stopped};
use crate::domain::job::spec::Payload;
use crate::domain::outcome::Outcome;
use crate::domain::protocol::ClaimedJob;
use crate::publisher::revert::{Undo, UndoError, Undone, undo};

/// Puts back what the publish of a tag changed below the job's lease path.
pub(super) async fn stage(
    worker: &Worker,
    mut transaction: Open,
    job: &ClaimedJob,
    log: &AttemptLog,
    limit: TimeLimit,
    stop: &mut watch::Receiver<Stop>,
) -> Result<Open, Outcome> {
    let publish = job.spec.publish();
    let Payload::Revert { tag, force, .. } = &publish.payload else { return Ok(transaction) };
    let (publisher, repository) = (Arc::clone(&worker.publisher), publish.repository.clone());
    let what = Undo { tag: tag.clone(), below: lease(publish)?, force: *force };
    let over = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&over);
    let mut undoing = tokio::task::spawn_blocking(move || {
        let reader = publisher.reader(&repository)?;
        let undone = undo(&repository, &reader, &mut *transaction, &what, &asked)?;
        Ok::<(Open, Undone), UndoError>((transaction, undone))
    });
    let undone = tokio::select! {
        undone = &mut undoing => undone,
        () = stopped(stop) => { over.store(true, Ordering::Relaxed); undoing.await }
        () = tokio::time::sleep(limit.time) => {
            over.store(true, Ordering::Relaxed);
            let _ = undoing.await;
            return Err(limit.exceeded("reverting"));
        }
    };
    match undone.map_err(|panic| failed("node_failed", format!("reverting failed: {panic}"), true))? {
        Ok((transaction, Undone { restored, removed })) => {
            log.line(format!("{restored} paths were put back, {removed} were removed with all below them")).await;
            Ok(transaction)
        }
        Err(UndoError::Refused(why)) => Err(failed("revert_refused", why, false)),
        Err(UndoError::Stopped) => Err(Outcome::Released),
        Err(UndoError::Publisher(error)) => Err(outcome(&error)),
    }
}
