//! Workers as the server and whoever looks sees them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::ids::{BatchId, InstanceId};
use crate::domain::names::RepositoryName;

/// What a worker says about itself with each heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerAbout {
    /// The repositories that it can serve; absent where it serves whatever its fleet does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub repositories: Option<Vec<RepositoryName>>,
    /// The kind of its publisher, such as `native`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// Its program's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Batches at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// It takes no more: it finishes what it has, and ends or waits for its operator.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// Present where an operator of its machine wants that; it stays alive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drained: Option<Drained>,
    /// When the whitelists of its repositories expire.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub whitelists: BTreeMap<RepositoryName, Timestamp>,
    /// What is wrong with its machine, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

/// What an operator said who made a worker take no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drained {
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Why; may be empty.
    #[serde(default)]
    pub why: String,
}

impl WorkerAbout {
    /// Whether it can serve a repository.
    pub fn serves(&self, repository: &RepositoryName) -> bool {
        self.repositories.as_ref().is_none_or(|served| served.contains(repository))
    }
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// It waits for something to do.
    Idle,
    /// It holds batches.
    Busy,
    /// It takes no more, and ends when it is done, or an operator wants it to wait.
    Draining,
    /// Nothing was heard of it for as long as a claim lives.
    Silent,
}

impl WorkerState {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::Silent => "silent",
        }
    }
}

/// How offers reach a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OffersBy {
    /// It asks the server.
    Http,
    /// RabbitMQ delivers them.
    Rabbitmq,
}

impl OffersBy {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Rabbitmq => "rabbitmq",
        }
    }
}

/// A batch that a worker holds, or held when it was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerBatch {
    /// The batch.
    pub batch_id: BatchId,
    /// Its repository.
    #[schema(value_type = String)]
    pub repository: RepositoryName,
    /// `claimed`, `publishing`, or `recovering`: it waits until this node says what became of it.
    pub state: String,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerView {
    /// The machine.
    pub node: String,
    /// What it does.
    pub state: WorkerState,
    /// What it serves; absent for a node that was not heard of since the server's start.
    pub fleet: Option<String>,
    /// Which life of it.
    pub instance: Option<InstanceId>,
    /// How many more batches it can take.
    pub free_slots: Option<u32>,
    /// How offers reach it.
    pub offers: Option<OffersBy>,
    /// What it says about itself.
    #[serde(flatten)]
    pub about: WorkerAbout,
    /// What it holds.
    pub batches: Vec<WorkerBatch>,
    /// When it was heard of last; absent where that was before the server's start.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub heard_at: Option<Timestamp>,
}

/// A repository that its fleet does not serve as it should.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Gap {
    /// The repository: its jobs wait.
    #[schema(value_type = String)]
    pub repository: RepositoryName,
    /// The fleet that it belongs to.
    pub fleet: String,
    /// The workers that RabbitMQ gives its offers to although they cannot serve it. Empty: no worker can serve it.
    pub nodes: Vec<String>,
}

impl Gap {
    /// What is wrong, in one sentence.
    pub fn describe(&self) -> String {
        let Self { repository, fleet, nodes } = self;
        if nodes.is_empty() {
            return format!("no worker of fleet {fleet} serves {repository}: its jobs wait");
        }
        let nodes = nodes.join(", ");
        format!(
            "{nodes} of fleet {fleet} cannot serve {repository}, and RabbitMQ gives its offers to any worker of the fleet: each such offer is lost for a while"
        )
    }
}

/// All workers, and what is wrong with them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerList {
    /// By name.
    pub workers: Vec<WorkerView>,
    /// By repository.
    pub gaps: Vec<Gap>,
}
