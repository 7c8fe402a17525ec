//! What workers ask of the server. All of it may be repeated; a caller with a deadline of its own sets
//! [`Client::with_retry_for`] (a heartbeat is best sent once and sent anew).

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, RequestBuilder};
use serde::Serialize;

use super::{Client, ClientError, Repeat};
use crate::domain::ids::{BatchId, InstanceId, JobId};
use crate::domain::protocol::{
    ClaimReply, ClaimRequest, FindingRequest, HeartbeatReply, HeartbeatRequest, IntentRequest, LogPosition, OfferList,
    OutcomeRequest, PinRequest,
};
use crate::domain::worker::WorkerList;

/// How much longer than the server's own wait an answer may take.
const OFFERS_GRACE: Duration = Duration::from_secs(15);
/// Header that proves the claim where the body is raw.
const CLAIM_HEADER: &str = "Conveyor-Claim";

impl Client {
    /// Waits up to `wait` for at most `max` offers to a fleet. Empty when nothing came up.
    pub async fn offers(
        &self,
        fleet: &str,
        node: &str,
        instance: InstanceId,
        wait: Duration,
        max: u32,
    ) -> Result<OfferList, ClientError> {
        let action = "ask for offers";
        let mut url = self.route(&["fleets", fleet, "offers"]);
        url.query_pairs_mut()
            .append_pair("wait", &wait.as_secs().to_string())
            .append_pair("max", &max.to_string())
            .append_pair("node", node)
            .append_pair("instance", &instance.to_string());
        let build = || Ok(self.request(Method::GET, url.clone()).timeout(wait + OFFERS_GRACE));
        self.json(action, &self.read(action, Repeat::Always, build).await?)
    }

    /// Claims a batch. 409 (taken, withdrawn, stale) is [`ClientError::Refused`].
    pub async fn claim(&self, batch: BatchId, claim: &ClaimRequest) -> Result<ClaimReply, ClientError> {
        self.call("claim the batch", Repeat::Always, || self.batch_request(batch, "claim", claim)).await
    }

    /// Sends a sign of life.
    pub async fn heartbeat(&self, heartbeat: &HeartbeatRequest) -> Result<HeartbeatReply, ClientError> {
        let url = self.route(&["workers", "heartbeat"]);
        self.call("send the heartbeat", Repeat::Always, || self.request(Method::POST, url.clone()).json(heartbeat))
            .await
    }

    /// All workers that the server heard of.
    pub async fn workers(&self) -> Result<WorkerList, ClientError> {
        let url = self.route(&["workers"]);
        self.call("list the workers", Repeat::Always, || self.request(Method::GET, url.clone())).await
    }

    /// Asks for the permission to publish. 409 means no: abort.
    pub async fn intent(&self, batch: BatchId, intent: &IntentRequest) -> Result<(), ClientError> {
        self.tell("ask for the permission to publish", || self.batch_request(batch, "intent", intent)).await
    }

    /// Reports how a batch ended.
    pub async fn outcome(&self, batch: BatchId, outcome: &OutcomeRequest) -> Result<(), ClientError> {
        self.tell("report the outcome", || self.batch_request(batch, "outcome", outcome)).await
    }

    /// Reports what was found out about a lost batch.
    pub async fn finding(&self, batch: BatchId, finding: &FindingRequest) -> Result<(), ClientError> {
        self.tell("report the finding", || self.batch_request(batch, "finding", finding)).await
    }

    /// Reports what a job's URL delivered, before it is used.
    pub async fn pin(&self, batch: BatchId, job: JobId, pin: &PinRequest) -> Result<(), ClientError> {
        let url = self.route(&["batches", &batch.to_string(), "jobs", &job.to_string(), "pin"]);
        self.tell("pin the payload", || self.request(Method::POST, url.clone()).json(pin)).await
    }

    /// Stores a piece of an attempt's log that begins at `offset`. The position in the answer is the truth: the next
    /// piece begins there, also where the server had less than `offset` or more than the piece.
    pub async fn append_log(
        &self,
        batch: BatchId,
        job: JobId,
        claim: &str,
        offset: u64,
        piece: Bytes,
    ) -> Result<LogPosition, ClientError> {
        self.append("store the log", "log", batch, job, claim, offset, piece).await
    }

    /// Stores a piece of the list of the paths that a job changes, as [`Client::append_log`].
    pub async fn append_changes(
        &self,
        batch: BatchId,
        job: JobId,
        claim: &str,
        offset: u64,
        piece: Bytes,
    ) -> Result<LogPosition, ClientError> {
        self.append("store the list of changed paths", "changes", batch, job, claim, offset, piece).await
    }

    #[allow(clippy::too_many_arguments)] // those of its two callers, and which of them it is
    async fn append(
        &self,
        action: &'static str,
        what: &str,
        batch: BatchId,
        job: JobId,
        claim: &str,
        offset: u64,
        piece: Bytes,
    ) -> Result<LogPosition, ClientError> {
        let mut url = self.route(&["batches", &batch.to_string(), "jobs", &job.to_string(), what]);
        url.set_query(Some(&format!("offset={offset}")));
        let build = || self.request(Method::PUT, url.clone()).header(CLAIM_HEADER, claim).body(piece.clone());
        match self.call(action, Repeat::Always, build).await {
            Err(ClientError::Refused { log_end: Some(end), .. }) => Ok(LogPosition { end }),
            result => result,
        }
    }

    fn batch_request(&self, batch: BatchId, verb: &str, body: &impl Serialize) -> RequestBuilder {
        self.request(Method::POST, self.route(&["batches", &batch.to_string(), verb])).json(body)
    }

    /// A call whose answer's body does not matter.
    async fn tell(&self, action: &'static str, build: impl Fn() -> RequestBuilder) -> Result<(), ClientError> {
        self.send(action, Repeat::Always, || Ok(build().timeout(super::CALL_TIMEOUT))).await.map(drop)
    }
}
