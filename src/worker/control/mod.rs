//! The worker's socket for the operator of its machine: one line of JSON asks, one answers.
//!
//! It lies in the state directory ([`SOCKET`]); only the worker's own account and root may use it. A line is
//! `{"version":1,"do":"status"}`, and `drain` with `"why":TEXT` and `resume` besides; the answer is
//! `{"version":1,"status":{…}}` or `{"version":1,"error":{"code":…,"message":…}}`. One connection may ask again and again.

mod listen;
mod serve;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::domain::ids::{BatchId, InstanceId, JobId};
use crate::domain::names::{LeasePath, RepositoryName};

pub(super) use listen::Socket;
pub(super) use serve::serve;

/// Its name in the state directory.
pub const SOCKET: &str = "control.sock";
/// What is spoken.
const VERSION: u32 = 1;
/// Longest line, in bytes: a status has some hundred bytes for each slot.
const MAX_LINE: u64 = 1 << 20;
/// How long a worker that lives may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// How it stands.
    Status,
    /// Take no more, finish what is there, stay alive; also after a restart, until `resume`.
    Drain {
        /// Why, for whoever looks; may be empty.
        #[serde(default)]
        why: String,
    },
    /// Take again.
    Resume,
}

#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    version: u32,
    #[serde(flatten)]
    request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    version: u32,
    #[serde(flatten)]
    reply: Reply,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    /// How it stands, after what was asked was done.
    Status(Box<Status>),
    /// It was not done.
    Error(Fault),
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Stable word for programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// How a worker stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The machine's name.
    pub node: String,
    /// The fleet that it serves.
    pub fleet: String,
    /// The kind of its publisher.
    pub publisher: String,
    /// Its program's version.
    pub version: String,
    /// Which life of it.
    pub instance: InstanceId,
    /// Its process.
    pub pid: u32,
    /// When it was started.
    pub started_at: Timestamp,
    /// The repositories that it serves; absent where it serves whatever its fleet does.
    pub repositories: Option<Vec<RepositoryName>>,
    /// Batches at a time.
    pub slots: u32,
    /// How many of them are in use.
    pub used: u32,
    /// What it holds.
    pub batches: Vec<BatchStatus>,
    /// Present while it takes no more.
    pub draining: Option<DrainStatus>,
    /// The server.
    pub server: ServerStatus,
    /// Present where offers come by a broker: whether they do now.
    pub broker_connected: Option<bool>,
    /// What is wrong with this machine, a line each.
    pub faults: Vec<String>,
}

impl Status {
    /// Whether it takes no more and has nothing left.
    pub fn is_drained(&self) -> bool {
        self.draining.is_some() && self.used == 0
    }
}

/// A batch that the worker holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchStatus {
    /// The batch.
    pub id: BatchId,
    /// Where it publishes.
    pub repository: RepositoryName,
    /// The reserved path.
    pub lease_path: LeasePath,
    /// Its jobs.
    pub jobs: Vec<JobId>,
    /// `claimed`, `fetching`, `staging` or `publishing`.
    pub step: String,
    /// When it was claimed.
    pub since: Timestamp,
    /// Files done in this step.
    pub files: u64,
    /// Bytes done in this step.
    pub bytes: u64,
}

/// Who wants the worker to take no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainedBy {
    /// A person, until `resume`.
    Operator,
    /// A signal: it ends.
    Signal,
}

/// Since when a worker takes no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainStatus {
    /// Who wants it.
    pub by: DrainedBy,
    /// Since when.
    pub since: Timestamp,
    /// Why; may be empty.
    pub why: String,
}

/// What a worker knows of its server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its address.
    pub url: String,
    /// Seconds since the last heartbeat that it answered was sent; absent where it answered none.
    pub heard_s_ago: Option<u64>,
    /// Whether it answered lately enough for a publish to begin.
    pub is_heard: bool,
    /// What went wrong with the last heartbeat; absent where nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Why a worker could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens there.
    #[error("no worker listens on {path}; is it running, with this state directory?")]
    Nobody {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It listens and we are not let in.
    #[error("cannot speak to the worker on {path}: only its own account and root may")]
    Forbidden {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It gave no answer.
    #[error("the worker on {path} gave no answer: {why}")]
    Silent {
        /// The socket.
        path: PathBuf,
        /// What came instead.
        why: String,
    },
    /// It answered that it did not do it.
    #[error("{}", .0.message)]
    Refused(Fault),
}

/// Asks the worker that listens on a socket; how it stands when it has done what was asked.
pub async fn ask(path: &Path, request: Request) -> Result<Status, ControlError> {
    let silent = |why: String| ControlError::Silent { path: path.to_owned(), why };
    let asking = async {
        let stream = UnixStream::connect(path).await.map_err(|source| match source.kind() {
            std::io::ErrorKind::PermissionDenied => ControlError::Forbidden { path: path.to_owned(), source },
            _ => ControlError::Nobody { path: path.to_owned(), source },
        })?;
        let (reader, mut writer) = stream.into_split();
        let line = serde_json::to_string(&Asked { version: VERSION, request }).map_err(|e| silent(e.to_string()))?;
        writer.write_all(format!("{line}\n").as_bytes()).await.map_err(|error| silent(error.to_string()))?;
        let mut line = String::new();
        let mut reader = BufReader::new(reader.take(MAX_LINE));
        reader.read_line(&mut line).await.map_err(|error| silent(error.to_string()))?;
        if line.is_empty() {
            return Err(silent("it hung up, as to an account that is neither its own nor root".into()));
        }
        serde_json::from_str::<Answer>(&line).map_err(|error| silent(format!("its answer makes no sense: {error}")))
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => match answer?.reply {
            Reply::Status(status) => Ok(*status),
            Reply::Error(fault) => Err(ControlError::Refused(fault)),
        },
        Err(_) => Err(silent(format!("nothing within {} s", PATIENCE.as_secs()))),
    }
}
