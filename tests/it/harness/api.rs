//! The HTTP API as typed calls that block.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use conveyor::client::{Client, ClientError};
use conveyor::domain::ids::JobId;
use conveyor::domain::job::event::Failure;
use conveyor::domain::job::spec::{JobSpec, Payload, Publish, Source, Work};
use conveyor::domain::job::state::{JobState, StateKind};
use conveyor::domain::names::{LeasePath, RepositoryName};
use conveyor::domain::protocol::JobView;
use conveyor::domain::token::Token;
use uuid::Uuid;

use super::wait::PATIENCE;

/// A client and the runtime that it needs.
#[derive(Clone)]
pub(crate) struct Api {
    runtime: Arc<tokio::runtime::Runtime>,
    client: Client,
    token: String,
}

/// A job that publishes `payload`; tried once, so that a failure is final.
pub(crate) fn job(repository: &str, lease_path: &str, payload: Payload) -> JobSpec {
    JobSpec {
        id: JobId(Uuid::now_v7()),
        name: "test".into(),
        work: Work::Publish(Publish::new(
            RepositoryName::new(repository).unwrap(),
            LeasePath::new(lease_path).unwrap(),
            payload,
        )),
        dependencies: Vec::new(),
        priority: 0,
        attempts: 1,
        // Waiting for it ends earlier.
        timeout_s: 600,
        alone: false,
        deadline: None,
        visible_at: Vec::new(),
        visible_within_s: None,
        labels: BTreeMap::new(),
        submitter: "tests".into(),
    }
}

/// A tar archive of files with these names and contents.
pub(crate) fn packed(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

impl Api {
    pub(crate) fn new(url: &str, token: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = Client::new(url, Some(Token::new(token).unwrap())).unwrap();
        Self { runtime: Arc::new(runtime), client, token: token.to_owned() }
    }

    pub(crate) fn url(&self) -> &str {
        self.client.url()
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) fn blob(&self, content: impl Into<Bytes>) -> Source {
        let reply = self.runtime.block_on(self.client.put_blob(content.into())).unwrap();
        Source::Blob { digest: reply.digest }
    }

    pub(crate) fn tarball(&self, archive: impl Into<Bytes>) -> Payload {
        Payload::Tarball { source: self.blob(archive) }
    }

    /// A shell script.
    pub(crate) fn script(&self, text: &str) -> Payload {
        let source = self.blob(format!("#!/bin/sh\nset -eu\n{text}\n"));
        Payload::Script { source, args: Vec::new() }
    }

    pub(crate) fn try_submit(&self, jobs: &[JobSpec]) -> Result<Vec<JobId>, ClientError> {
        let reply = self.runtime.block_on(self.client.submit(jobs, None))?;
        Ok(reply.jobs.iter().map(|job| job.job_id).collect())
    }

    pub(crate) fn submit(&self, spec: JobSpec) -> JobId {
        self.try_submit(&[spec]).unwrap()[0]
    }

    pub(crate) fn view(&self, id: JobId) -> JobView {
        self.runtime.block_on(self.client.job(id)).unwrap()
    }

    pub(crate) fn ended(&self, id: JobId) -> JobView {
        self.runtime.block_on(self.client.wait(&[id], None, Some(PATIENCE), |_| {})).unwrap().remove(0)
    }

    pub(crate) fn log(&self, id: JobId) -> String {
        String::from_utf8_lossy(&self.runtime.block_on(self.client.log(id, None, None)).unwrap()).into_owned()
    }

    /// The list of the paths that a job's last attempt changes.
    pub(crate) fn changes(&self, id: JobId) -> String {
        String::from_utf8(self.runtime.block_on(self.client.changes(id, None)).unwrap().to_vec()).unwrap()
    }

    /// Submits a job that must succeed; gives the revision.
    #[track_caller]
    pub(crate) fn publish(&self, spec: JobSpec) -> u64 {
        let ended = self.ended(self.submit(spec));
        match ended.status {
            JobState::Succeeded { revision, .. } => revision,
            other => panic!("{other:?}\n{}", self.log(ended.job_id)),
        }
    }

    /// Submits a job that must fail; gives why.
    #[track_caller]
    pub(crate) fn fail(&self, spec: JobSpec) -> Failure {
        let ended = self.ended(self.submit(spec));
        assert_eq!(ended.state, StateKind::Failed, "{:?}", ended.status);
        match ended.status {
            JobState::Failed { failure, .. } => failure,
            other => panic!("{other:?}"),
        }
    }
}
