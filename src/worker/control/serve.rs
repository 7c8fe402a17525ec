//! The worker's side: answers, and does what is asked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::super::Worker;
use super::{
    Answer, Asked, DrainStatus, DrainedBy, Fault, MAX_LINE, Reply, Request, ServerStatus, Socket, Status, VERSION,
};

/// Connections at a time; the next one waits.
const MAX_CONNECTIONS: usize = 16;
/// Pause after no connection could be taken.
const PAUSE: Duration = Duration::from_secs(1);

/// Answers for as long as it is polled.
pub(in crate::worker) async fn serve(worker: Arc<Worker>, socket: Socket) {
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        match socket.listener.accept().await {
            Ok((stream, _)) => drop(connections.spawn(answer_all(Arc::clone(&worker), stream))),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot take a connection on the control socket"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Answers each line of a connection until that ends.
async fn answer_all(worker: Arc<Worker>, stream: UnixStream) {
    let ours = nix::unistd::geteuid().as_raw();
    // Its mode keeps others away; a state directory can have been given away all the same.
    if !stream.peer_cred().is_ok_and(|peer| [0, ours].contains(&peer.uid())) {
        return;
    }
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        match (&mut reader).take(MAX_LINE).read_line(&mut line).await {
            Ok(read) if read > 0 && line.ends_with('\n') => {}
            _ => return,
        }
        let reply = match serde_json::from_str::<Asked>(&line) {
            Ok(Asked { version: VERSION, request }) => worker.control(request).await,
            Ok(Asked { version, .. }) => {
                refused("version", format!("this worker speaks version {VERSION}, and was asked in {version}"))
            }
            Err(error) => refused("bad_request", format!("not understood: {error}")),
        };
        let Ok(text) = serde_json::to_string(&Answer { version: VERSION, reply }) else { return };
        if writer.write_all(format!("{text}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

fn refused(code: &str, message: impl Into<String>) -> Reply {
    Reply::Error(Fault { code: code.into(), message: message.into() })
}

impl Worker {
    /// Does what is asked.
    async fn control(&self, request: Request) -> Reply {
        let done = match request {
            Request::Status => Ok(()),
            Request::Drain { why } => self.drain_for_operator(why).await,
            Request::Resume => {
                if self.draining.has_begun() {
                    return refused("ending", "the worker was told to end, and ends when it is done");
                }
                self.resume().await
            }
        };
        match done {
            Ok(()) => Reply::Status(Box::new(self.status())),
            Err(error) => refused("io", super::super::failure::chain(&error)),
        }
    }

    /// How it stands.
    pub(in crate::worker) fn status(&self) -> Status {
        let about = self.about();
        let used = u32::try_from(self.held.taken_count()).unwrap_or(u32::MAX);
        let signal = self.draining.begun_at().map(|since| DrainStatus {
            by: DrainedBy::Signal,
            since,
            why: "it was told to end".into(),
        });
        let by = DrainedBy::Operator;
        let operator = || about.drained.map(|drained| DrainStatus { by, since: drained.since, why: drained.why });
        Status {
            node: self.settings.node.clone(),
            fleet: self.settings.fleet.clone(),
            publisher: self.publisher.kind().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.instance,
            pid: std::process::id(),
            started_at: self.started_at,
            repositories: about.repositories,
            slots: self.slots.number(),
            used,
            batches: self.held.statuses(),
            draining: signal.or_else(operator),
            server: ServerStatus {
                url: self.client.url().to_owned(),
                heard_s_ago: self.held.heard_ago().map(|ago| ago.as_secs()),
                is_heard: self.held.hears(),
                error: self.pulse.error(),
            },
            broker_connected: self.settings.broker.as_ref().map(|_| self.by_broker.load(Ordering::Relaxed)),
            faults: self.faults.all(),
        }
    }
}
