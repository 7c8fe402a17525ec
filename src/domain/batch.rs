//! Batches: the only unit of execution, and the claim that a worker has on one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::ids::{BatchId, InstanceId, JobId};
use crate::domain::names::{LeasePath, RepositoryName};

/// 1..n jobs of one repository: one reserved lease path, one transaction, one publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Also its key; fixed when it is formed, the same for every offer of it.
    pub id: BatchId,
    /// The workers that may claim it.
    pub fleet: String,
    /// The repository.
    pub repository: RepositoryName,
    /// What is reserved while it lives.
    pub lease_path: LeasePath,
    /// The jobs in it, each with the number of the attempt that this batch will be.
    pub jobs: Vec<BatchJob>,
    /// Rises each time it is offered anew, so that an old offer is known as such.
    pub generation: u32,
    /// Where it stands.
    pub state: BatchState,
}

/// A job's place in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchJob {
    /// The job.
    pub job_id: JobId,
    /// The attempt that this batch will be.
    pub attempt: u32,
}

/// Where a batch stands. Every state but the last reserves its lease path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BatchState {
    /// Reserved, and to be sent: this row is the outbox.
    Unsent,
    /// Sent, and not claimed yet.
    Offered {
        /// When.
        sent_at: Timestamp,
    },
    /// A worker has it and stages it.
    Claimed {
        /// Who.
        claim: Claim,
    },
    /// The worker may publish: the point of no return.
    Publishing {
        /// Who.
        claim: Claim,
        /// What was permitted.
        intent: Intent,
    },
    /// The worker is lost.
    Recovering {
        /// The node that alone can find out what became of it.
        node: String,
        /// Since when.
        since: Timestamp,
        /// The claim that was lost: a late outcome of it is still evidence.
        claim: Claim,
        /// What was permitted, where it was.
        intent: Option<Intent>,
    },
    /// Over. The key is never used again.
    Settled,
}

/// A worker's hold on a batch.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Secret that proves the claim; it carries the leader's epoch and the batch.
    pub token: String,
    /// Epoch of the leader that granted it.
    pub epoch: u64,
    /// Where the worker runs.
    pub node: String,
    /// Which life of the worker.
    pub instance: InstanceId,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim")
            .field("epoch", &self.epoch)
            .field("node", &self.node)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// What a worker is about to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Intent {
    /// The revision that the change set applies to.
    pub base_revision: u64,
    /// That revision's root catalog.
    pub base_root_hash: String,
    /// SHA-256 over the sorted list of changed paths: a hint for people, not a proof.
    pub changed_paths_digest: String,
}

/// Why something cannot happen to a batch. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The offer was replaced by a newer one.
    #[error("this offer is stale: the batch is at generation {current}, the offer was {offered}")]
    Stale {
        /// The generation that counts.
        current: u32,
        /// The generation asked for.
        offered: u32,
    },
    /// Another worker, or another life of this one, has it.
    #[error("the batch is already claimed by node {node}")]
    Taken {
        /// Who.
        node: String,
    },
    /// It is over.
    #[error("the batch is settled")]
    Settled,
    /// The token is not that of the live claim.
    #[error("the claim on this batch is lost: stop, abort your transaction, report nothing")]
    ClaimLost,
    /// It is not in a state for this.
    #[error("the batch is {state}, which does not allow this")]
    NotNow {
        /// Its state's word.
        state: &'static str,
    },
}

impl BatchState {
    /// The word of the database.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unsent => "unsent",
            Self::Offered { .. } => "offered",
            Self::Claimed { .. } => "claimed",
            Self::Publishing { .. } => "publishing",
            Self::Recovering { .. } => "recovering",
            Self::Settled => "settled",
        }
    }

    /// The node that has it, or had it when it was lost.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Claimed { claim } | Self::Publishing { claim, .. } => Some(&claim.node),
            Self::Recovering { node, .. } => Some(node),
            Self::Unsent | Self::Offered { .. } | Self::Settled => None,
        }
    }

    /// The live claim, where there is one.
    pub fn claim(&self) -> Option<&Claim> {
        match self {
            Self::Claimed { claim } | Self::Publishing { claim, .. } => Some(claim),
            Self::Unsent | Self::Offered { .. } | Self::Recovering { .. } | Self::Settled => None,
        }
    }
}

impl Batch {
    /// Notes that the offer went out.
    pub fn sent(&mut self, now: Timestamp) -> Result<(), BatchError> {
        match self.state {
            BatchState::Unsent => self.state = BatchState::Offered { sent_at: now },
            BatchState::Offered { .. } => {}
            _ => return Err(self.not_now()),
        }
        Ok(())
    }

    /// Offers it anew, since nobody claimed it: the offers sent before are stale from now on.
    pub fn offer_again(&mut self) -> Result<(), BatchError> {
        match self.state {
            BatchState::Offered { .. } => {
                self.generation += 1;
                self.state = BatchState::Unsent;
                Ok(())
            }
            _ => Err(self.not_now()),
        }
    }

    /// Claims it. The same instance asking again for the same generation gets the claim it has; `true` means new.
    ///
    /// An unsent batch can be claimed as well: its offer may have arrived although the sender never heard so.
    pub fn claim(&mut self, generation: u32, claim: Claim) -> Result<(&Claim, bool), BatchError> {
        if generation != self.generation && self.state != BatchState::Settled {
            return Err(BatchError::Stale { current: self.generation, offered: generation });
        }
        let is_new = match &self.state {
            BatchState::Unsent | BatchState::Offered { .. } => {
                self.state = BatchState::Claimed { claim };
                true
            }
            BatchState::Claimed { claim: held } if held.instance == claim.instance => false,
            BatchState::Claimed { claim: held }
            | BatchState::Publishing { claim: held, .. }
            | BatchState::Recovering { claim: held, .. } => {
                return Err(BatchError::Taken { node: held.node.clone() });
            }
            BatchState::Settled => return Err(BatchError::Settled),
        };
        match &self.state {
            BatchState::Claimed { claim } => Ok((claim, is_new)),
            _ => Err(self.not_now()),
        }
    }

    /// Permits the publish. Asking again with the same intent is granted again.
    pub fn permit(&mut self, token: &str, intent: Intent) -> Result<(), BatchError> {
        match &self.state {
            BatchState::Claimed { claim } if claim.token == token => {
                self.state = BatchState::Publishing { claim: claim.clone(), intent };
                Ok(())
            }
            BatchState::Publishing { claim, intent: granted } if claim.token == token && *granted == intent => Ok(()),
            BatchState::Publishing { claim, .. } if claim.token == token => Err(self.not_now()),
            BatchState::Settled => Err(BatchError::Settled),
            _ => Err(BatchError::ClaimLost),
        }
    }

    /// Notes that its worker went silent.
    pub fn lose(&mut self, now: Timestamp) -> Result<(), BatchError> {
        let (claim, intent) = match &self.state {
            BatchState::Claimed { claim } => (claim.clone(), None),
            BatchState::Publishing { claim, intent } => (claim.clone(), Some(intent.clone())),
            _ => return Err(self.not_now()),
        };
        self.state = BatchState::Recovering { node: claim.node.clone(), since: now, claim, intent };
        Ok(())
    }

    /// Checks that whoever shows this token may report the batch's outcome.
    ///
    /// Once the publish was permitted, the outcome of a lost claim is still evidence; before, it is not.
    pub fn may_report(&self, token: &str) -> Result<(), BatchError> {
        match &self.state {
            BatchState::Claimed { claim } | BatchState::Publishing { claim, .. } if claim.token == token => Ok(()),
            BatchState::Recovering { claim, intent: Some(_), .. } if claim.token == token => Ok(()),
            BatchState::Settled => Err(BatchError::Settled),
            _ => Err(BatchError::ClaimLost),
        }
    }

    fn not_now(&self) -> BatchError {
        BatchError::NotNow { state: self.state.as_str() }
    }
}
