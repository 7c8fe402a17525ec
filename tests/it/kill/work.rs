//! The jobs, and the client that submits them while the server comes and goes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use conveyor::client::{Client, ClientError};
use conveyor::domain::digest::Sha256Digest;
use conveyor::domain::ids::JobId;
use conveyor::domain::job::spec::{JobSpec, Payload, Source};
use conveyor::domain::job::state::JobState;
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use super::chain::Change;
use super::home::REPOSITORIES;
use super::ledger::Entry;
use super::life::PATIENCE;
use crate::harness::job;

/// Pause before a client asks again.
const PAUSE: Duration = Duration::from_millis(20);
/// Appends, so that a second run of it shows.
const SCRIPT: &str = "#!/bin/sh\nset -eu\nmkdir -p \".$2\"\necho \"$3\" >>\".$2/$3\"\n";

/// A job to be submitted, and what the ledger will say of it.
pub(super) struct Planned {
    pub(super) entry: Entry,
    spec: JobSpec,
    blob: Option<Bytes>,
}

/// The kinds of payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tarball,
    Script,
    /// Removes the seed of this number.
    Delete(usize),
}

impl Planned {
    /// A job on a path of its own.
    pub(super) fn new(number: usize, kind: Kind) -> Self {
        let repository = REPOSITORIES[number % REPOSITORIES.len()];
        let id = JobId(Uuid::now_v7());
        let source = |bytes: &Bytes| Source::Blob { digest: Sha256Digest::of(bytes) };
        let (lease, payload, blob, change) = match kind {
            Kind::Tarball => {
                let archive = archive(&[id.to_string()]);
                let payload = Payload::Tarball { source: source(&archive) };
                ("/tarballs", payload, Some(archive), Change::Added(format!("tarballs/{id}")))
            }
            Kind::Script => {
                let script = Bytes::from_static(SCRIPT.as_bytes());
                let payload = Payload::Script { source: source(&script), args: vec![id.to_string()] };
                ("/scripts", payload, Some(script), Change::Added(format!("scripts/{id}")))
            }
            Kind::Delete(seed) => {
                let payload = Payload::Delete { paths: vec![format!("/seeds/{seed}")] };
                ("/seeds", payload, None, Change::Removed(format!("seeds/{seed}")))
            }
        };
        let spec = spec(id, repository, lease, payload);
        Self { entry: Entry { job: id, repository: repository.into(), change }, spec, blob }
    }

    /// One job that adds the files which later ones remove, in the repository of this number.
    pub(super) fn seeds(repository: usize, count: usize) -> Self {
        let id = JobId(Uuid::now_v7());
        let archive = archive(&(0..count).map(|seed| seed.to_string()).collect::<Vec<_>>());
        let payload = Payload::Tarball { source: Source::Blob { digest: Sha256Digest::of(&archive) } };
        let repository = REPOSITORIES[repository];
        let entry = Entry { job: id, repository: repository.into(), change: Change::Added("seeds/0".into()) };
        Self { entry, spec: spec(id, repository, "/seeds", payload), blob: Some(archive) }
    }

    /// Submits it to whoever lives until there is an answer that is not about dying.
    async fn accepted_by(&self, living: &Living) {
        let mut living = living.clone();
        loop {
            let client = living.wait_for(Option::is_some).await.unwrap().clone().unwrap();
            match self.hand_in(&client).await {
                Ok(()) => return,
                Err(error @ ClientError::Refused { status: 400..=499, .. }) => panic!("{error}"),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn hand_in(&self, client: &Client) -> Result<(), ClientError> {
        if let Some(blob) = &self.blob {
            client.put_blob(blob.clone()).await?;
        }
        client.submit(std::slice::from_ref(&self.spec), None).await.map(drop)
    }
}

fn spec(id: JobId, repository: &str, lease: &str, payload: Payload) -> JobSpec {
    JobSpec { id, ..job(repository, lease, payload) }
}

/// A tar archive of small files.
fn archive(names: &[String]) -> Bytes {
    let mut tar = tar::Builder::new(Vec::new());
    for name in names {
        let content = format!("content of {name}\n");
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().into()
}

/// Whoever lives now; nothing between two lives.
pub(super) type Living = watch::Receiver<Option<Client>>;

/// Submits jobs one after the other, each again and again until it is accepted: replies are lost with the processes.
///
/// `pace` gives leave for the next one, and ends it all by closing; `accepted` counts.
pub(super) async fn submit_all(jobs: &[Planned], living: &Living, pace: &Semaphore, accepted: &AtomicUsize) {
    for job in jobs {
        let Ok(leave) = pace.acquire().await else { break };
        leave.forget();
        tokio::time::timeout(PATIENCE * 4, job.accepted_by(living))
            .await
            .expect("not accepted in all the time that a test may take");
        accepted.fetch_add(1, Ordering::SeqCst);
    }
}

/// The states that all these jobs ended in, or stand in when the patience is over.
pub(super) async fn states(client: &Client, entries: &[Entry]) -> BTreeMap<JobId, JobState> {
    let ids: Vec<JobId> = entries.iter().map(|entry| entry.job).collect();
    // What did not end in time is found by the ledger, with its state.
    let _ = client.wait(&ids, None, Some(PATIENCE), |_| {}).await;
    let mut states = BTreeMap::new();
    for id in ids {
        if let Ok(Some(job)) = client.find_job(id).await {
            states.insert(id, job.status);
        }
    }
    states
}
