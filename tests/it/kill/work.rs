//! The jobs, and the client that submits them while the server comes and goes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use conveyor::client::{Client, ClientError};
use conveyor::domain::digest::Sha256Digest;
use conveyor::domain::ids::JobId;
use conveyor::domain::job::spec::{Condition, Dependency, JobSpec, Payload, Source};
use conveyor::domain::job::state::JobState;
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use super::chain::Change;
use super::ledger::{End, Entry};
use crate::harness::{PATIENCE, job, packed};

/// Pause before a client asks again.
const PAUSE: Duration = Duration::from_millis(20);
/// Adds a file of its job's name. Appends, so that a second run of it shows.
const ADDING: &str = "mkdir -p \".$2\"\necho \"$3\" >>\".$2/$3\"";

/// A job to be submitted, and what the ledger will say of it.
pub(super) struct Planned {
    pub(super) entry: Entry,
    spec: JobSpec,
    blob: Option<Bytes>,
}

impl Planned {
    /// Adds a file of its own name.
    pub(super) fn tarball(repository: &str, lease: &str) -> Self {
        let id = JobId(Uuid::now_v7());
        Self::unpacking(id, repository, lease, &[id.to_string()])
    }

    /// Adds files.
    fn unpacking(id: JobId, repository: &str, lease: &str, names: &[String]) -> Self {
        let content = |name: &String| (name.clone(), format!("content of {name}\n"));
        let files: Vec<_> = names.iter().map(content).collect();
        let archive =
            Bytes::from(packed(&files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect::<Vec<_>>()));
        let payload = Payload::Tarball { source: Source::Blob { digest: Sha256Digest::of(&archive) } };
        let changes = names.iter().map(|name| Change::Added(below(lease, name))).collect();
        Self::new(id, repository, lease, payload, Some(archive), changes)
    }

    /// Adds a file of its own name.
    pub(super) fn script(repository: &str, lease: &str) -> Self {
        Self::scripted(repository, lease, ADDING, &[])
    }

    /// First runs other lines, in which `$4` and so on are these arguments, then adds a file of its own name.
    pub(super) fn script_with(repository: &str, lease: &str, lines: &str, args: &[String]) -> Self {
        Self::scripted(repository, lease, &format!("{lines}\n{ADDING}"), args)
    }

    fn scripted(repository: &str, lease: &str, lines: &str, args: &[String]) -> Self {
        let id = JobId(Uuid::now_v7());
        let script = Bytes::from(format!("#!/bin/sh\nset -eu\n{lines}\n"));
        let args = [&[id.to_string()], args].concat();
        let payload = Payload::Script { source: Source::Blob { digest: Sha256Digest::of(&script) }, args };
        let changes = vec![Change::Added(below(lease, &id.to_string()))];
        Self::new(id, repository, lease, payload, Some(script), changes)
    }

    /// Removes a file, named from the repository's root without a slash.
    pub(super) fn delete(repository: &str, lease: &str, path: &str) -> Self {
        let payload = Payload::Delete { paths: vec![format!("/{path}")] };
        Self::new(JobId(Uuid::now_v7()), repository, lease, payload, None, vec![Change::Removed(path.to_owned())])
    }

    /// Changes nothing.
    pub(super) fn empty(repository: &str, lease: &str) -> Self {
        Self::new(JobId(Uuid::now_v7()), repository, lease, Payload::Empty, None, Vec::new())
    }

    /// One job that adds the files which later ones remove.
    pub(super) fn seeds(repository: &str, count: usize) -> Self {
        let names: Vec<_> = (0..count).map(|seed| seed.to_string()).collect();
        Self::unpacking(JobId(Uuid::now_v7()), repository, "/seeds", &names)
    }

    fn new(
        id: JobId,
        repository: &str,
        lease: &str,
        payload: Payload,
        blob: Option<Bytes>,
        changes: Vec<Change>,
    ) -> Self {
        let spec = JobSpec { id, ..job(repository, lease, payload) };
        let (repository, end, dependencies) = (repository.to_owned(), End::Success, Vec::new());
        Self { entry: Entry { job: id, repository, changes, end, dependencies }, spec, blob }
    }

    /// Lets it wait for another job.
    pub(super) fn after(mut self, job_id: JobId, condition: Condition) -> Self {
        self.spec.dependencies.push(Dependency { job_id, condition });
        self.entry.dependencies.clone_from(&self.spec.dependencies);
        self
    }

    /// Lets it end in another way than by success.
    pub(super) fn ending(mut self, end: End) -> Self {
        self.entry.end = end;
        self
    }

    /// Lets it succeed only once its repository is served there.
    pub(super) fn visible_at(&mut self, base: &str) {
        self.spec.visible_at.push(base.parse().unwrap());
    }

    /// How often it may be tried, and for how many seconds each time.
    pub(super) fn tried(mut self, attempts: u32, timeout_s: u32) -> Self {
        (self.spec.attempts, self.spec.timeout_s) = (attempts, timeout_s);
        self
    }
}

fn below(lease: &str, name: &str) -> String {
    format!("{lease}/{name}").trim_start_matches('/').to_owned()
}

/// Submits jobs together to whoever lives until there is an answer that is not about dying.
pub(super) async fn accepted_by(jobs: &[Planned], living: &Living) {
    let mut living = living.clone();
    loop {
        let client = living.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        match hand_in(jobs, &client).await {
            Ok(()) => return,
            Err(error @ ClientError::Refused { status: 400..=499, .. }) => panic!("{error}"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn hand_in(jobs: &[Planned], client: &Client) -> Result<(), ClientError> {
    for blob in jobs.iter().filter_map(|job| job.blob.as_ref()) {
        client.put_blob(blob.clone()).await?;
    }
    let specs: Vec<_> = jobs.iter().map(|job| job.spec.clone()).collect();
    client.submit(&specs, None).await.map(drop)
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
        tokio::time::timeout(PATIENCE * 4, accepted_by(std::slice::from_ref(job), living))
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
