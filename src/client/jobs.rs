//! Jobs: submit, look, cancel, retry, resolve.

use reqwest::Method;

use super::{Client, ClientError, Repeat};
use crate::domain::ids::{JobId, SubmissionId};
use crate::domain::job::spec::JobSpec;
use crate::domain::job::state::StateKind;
use crate::domain::protocol::{JobList, JobView, ResolveRequest, SubmitReply};

/// Which jobs to list; what is empty does not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Any of these states.
    pub states: Vec<StateKind>,
    /// Of this repository.
    pub repository: Option<String>,
    /// Of this name.
    pub name: Option<String>,
    /// Of this submission.
    pub submission: Option<SubmissionId>,
    /// Of this submitter.
    pub submitter: Option<String>,
    /// With all of these labels.
    pub labels: Vec<(String, String)>,
    /// At most this many in one page.
    pub limit: Option<u32>,
    /// Where the page begins: `next_cursor` of the one before.
    pub cursor: Option<u64>,
}

impl ListQuery {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        if !self.states.is_empty() {
            pairs.push(("state", self.states.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(",")));
        }
        let single = [
            ("repository", self.repository.clone()),
            ("name", self.name.clone()),
            ("submission", self.submission.map(|id| id.to_string())),
            ("submitter", self.submitter.clone()),
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("cursor", self.cursor.map(|cursor| cursor.to_string())),
        ];
        pairs.extend(single.into_iter().filter_map(|(key, value)| Some((key, value?))));
        pairs.extend(self.labels.iter().map(|(key, value)| ("label", format!("{key}={value}"))));
        pairs
    }
}

impl Client {
    /// Submits jobs, all or none. Submitting the same jobs again changes nothing, so that this is repeated freely.
    pub async fn submit(&self, jobs: &[JobSpec], submission: Option<SubmissionId>) -> Result<SubmitReply, ClientError> {
        let action = "submit the job";
        let body = bytes::Bytes::from(
            serde_json::to_vec(jobs).map_err(|error| self.makes_no_sense(action, error.to_string()))?,
        );
        let query: Vec<_> = submission.map(|id| ("submission", id.to_string())).into_iter().collect();
        self.call(action, Repeat::Always, || {
            self.request(Method::POST, self.route(&["jobs"]))
                .query(&query)
                .header(reqwest::header::CONTENT_TYPE, "application/json")
                .body(body.clone())
        })
        .await
    }

    /// Lists jobs, newest first, one page.
    pub async fn list(&self, query: &ListQuery) -> Result<JobList, ClientError> {
        let pairs = query.pairs();
        self.call("list jobs", Repeat::Always, || self.request(Method::GET, self.route(&["jobs"])).query(&pairs)).await
    }

    /// Looks at one job. An unknown one is [`ClientError::Refused`] with status 404; see [`Client::find_job`].
    pub async fn job(&self, id: JobId) -> Result<JobView, ClientError> {
        let url = self.route(&["jobs", &id.to_string()]);
        self.call("look at the job", Repeat::Always, || self.request(Method::GET, url.clone())).await
    }

    /// Looks at one job, which may not exist.
    pub async fn find_job(&self, id: JobId) -> Result<Option<JobView>, ClientError> {
        match self.job(id).await {
            Ok(job) => Ok(Some(job)),
            // A proxy's 404 has no code of ours and says nothing about the job.
            Err(error) if error.status() == Some(404) && error.code() != Some("http_404") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for a job to be stopped. 409 `already_publishing` and `already_ended` are [`ClientError::Refused`].
    pub async fn cancel(&self, id: JobId) -> Result<JobView, ClientError> {
        let url = self.route(&["jobs", &id.to_string(), "cancel"]);
        self.call("cancel the job", Repeat::Always, || self.request(Method::POST, url.clone())).await
    }

    /// Asks for a job that ended without success to be tried again, on demand with the jobs skipped because of it.
    pub async fn retry(&self, id: JobId, with_dependents: bool) -> Result<JobView, ClientError> {
        let mut url = self.route(&["jobs", &id.to_string(), "retry"]);
        if with_dependents {
            url.set_query(Some("with_dependents=true"));
        }
        self.call("retry the job", Repeat::Unsent, || self.request(Method::POST, url.clone())).await
    }

    /// Says what became of a job that needs an operator. 409 `needs_no_operator` is [`ClientError::Refused`].
    pub async fn resolve(&self, id: JobId, request: &ResolveRequest) -> Result<JobView, ClientError> {
        let url = self.route(&["jobs", &id.to_string(), "resolve"]);
        self.call("resolve the job", Repeat::Always, || self.request(Method::POST, url.clone()).json(request)).await
    }
}
