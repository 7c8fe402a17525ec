//! Shows the server that this worker lives, and carries out what it answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::Worker;
use super::failure::{WorkerError, chain};
use super::held::Stop;
use crate::client::ClientError;
use crate::domain::protocol::{HeartbeatRequest, RecoverRequest};

/// Pause after a heartbeat that was not answered.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(500);

/// How long the last heartbeat may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Beats for ever. Ends only when this worker must not go on: the server knows a later life of this node.
pub(super) async fn run(worker: Arc<Worker>, recover: UnboundedSender<RecoverRequest>) -> WorkerError {
    let client = worker.client.with_retry_for(Duration::ZERO);
    loop {
        let request = request(&worker);
        let asked = Instant::now();
        let pause = match worker.pulse.while_waiting(client.heartbeat(&request)).await {
            Ok(reply) => {
                worker.pulse.set_error(None);
                worker.registered.send_replace(true);
                worker.held.confirm(asked, Duration::from_secs(reply.expires_in_s.into()));
                for batch in reply.cancel {
                    worker.held.stop(batch, Stop::Release);
                }
                // A claim made after this heartbeat was sent is not in it, and not lost.
                for batch in reply.lost {
                    tracing::warn!(batch.id = %batch, "the claim on this batch is lost");
                    worker.held.stop(batch, Stop::Lost);
                }
                for request in reply.recover {
                    if recover.send(request).is_err() {
                        return WorkerError::Stopped;
                    }
                }
                Duration::from_millis(reply.next_in_ms.clamp(50, 60_000).into())
            }
            Err(ClientError::Refused { status: 409, detail, .. }) if detail.code == "superseded" => {
                return WorkerError::Superseded { node: worker.settings.node.clone() };
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the server did not answer the heartbeat");
                worker.pulse.set_error(Some(reason(&error)));
                PAUSE_AFTER_FAILURE
            }
        };
        // What the server must know at once does not wait.
        let _ = worker.pulse.while_waiting(tokio::time::timeout(pause, worker.beat.notified())).await;
    }
}

/// Why the server cannot be heard, in few words: whoever tells it says of which server.
fn reason(error: &ClientError) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    if error.is_unreachable() { last.to_string() } else { chain(error) }
}

fn request(worker: &Worker) -> HeartbeatRequest {
    HeartbeatRequest {
        node: worker.settings.node.clone(),
        instance: worker.instance,
        fleet: worker.settings.fleet.clone(),
        free_slots: worker.free_slots(),
        claims: worker.held.claims(),
        by_broker: worker.by_broker.load(Ordering::Relaxed),
        about: worker.about(),
    }
}

/// Says that this worker has nothing left and goes, so that nobody misses it. Tried once: it is a courtesy.
pub(super) async fn last(worker: &Worker) {
    let client = worker.client.with_retry_for(Duration::ZERO);
    if let Ok(Err(error)) = tokio::time::timeout(GOODBYE, client.heartbeat(&request(worker))).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "the server does not hear that this worker ends");
    }
}
