//! Repositories as the server sees them. All of it may be repeated.

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Client, ClientError, Repeat};
use crate::domain::ids::{HoldId, JobId};
use crate::domain::names::RepositoryName;
use crate::domain::protocol::SubmitReply;
use crate::domain::repository::{
    HoldReply, HoldRequest, PauseRequest, ReleaseRequest, RepositoryList, RepositoryView, RevertRequest,
};

impl Client {
    /// All repositories that jobs are accepted for.
    pub async fn repositories(&self) -> Result<RepositoryList, ClientError> {
        let url = self.route(&["repositories"]);
        self.call("list the repositories", Repeat::Always, || self.request(Method::GET, url.clone())).await
    }

    /// One repository.
    pub async fn repository(&self, name: &RepositoryName) -> Result<RepositoryView, ClientError> {
        let url = self.route(&["repositories", name.as_str()]);
        self.call("look at the repository", Repeat::Always, || self.request(Method::GET, url.clone())).await
    }

    /// Lets nothing more of a repository begin.
    pub async fn pause(&self, name: &RepositoryName, pause: &PauseRequest) -> Result<RepositoryView, ClientError> {
        self.change("pause the repository", name, "pause", pause).await
    }

    /// Ends a pause, and a hold for maintenance.
    pub async fn resume(&self, name: &RepositoryName) -> Result<RepositoryView, ClientError> {
        let url = self.route(&["repositories", name.as_str(), "resume"]);
        self.call("resume the repository", Repeat::Always, || self.request(Method::POST, url.clone())).await
    }

    /// Holds a repository for maintenance, or renews that.
    pub async fn hold(&self, name: &RepositoryName, hold: &HoldRequest) -> Result<HoldReply, ClientError> {
        self.change("hold the repository", name, "hold", hold).await
    }

    /// Ends a hold for maintenance.
    pub async fn release(&self, name: &RepositoryName, id: HoldId) -> Result<RepositoryView, ClientError> {
        self.change("release the repository", name, "release", &ReleaseRequest { id }).await
    }

    /// Submits the job that undoes another one.
    pub async fn revert(&self, job: JobId, request: &RevertRequest) -> Result<SubmitReply, ClientError> {
        let url = self.route(&["jobs", &job.to_string(), "revert"]);
        self.call("revert the job", Repeat::Always, || self.request(Method::POST, url.clone()).json(request)).await
    }

    async fn change<T: DeserializeOwned>(
        &self,
        action: &'static str,
        name: &RepositoryName,
        verb: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let url = self.route(&["repositories", name.as_str(), verb]);
        self.call(action, Repeat::Always, || self.request(Method::POST, url.clone()).json(body)).await
    }
}
