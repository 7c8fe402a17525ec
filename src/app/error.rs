//! What a use case answers when it cannot do what was asked.

use crate::domain::batch::BatchError;
use crate::store::StoreError;
use crate::store::blobs::BlobError;

/// Why a request was not carried out. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// There is no such thing.
    #[error("there is no {what} {id}")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
        /// What was asked for.
        id: String,
    },
    /// The request itself is wrong.
    #[error("{message}")]
    Invalid {
        /// Stable word for programs.
        code: &'static str,
        /// The thing and the cause.
        message: String,
        /// The next step.
        hint: &'static str,
    },
    /// The request is right, but not now.
    #[error("{message}")]
    Conflict {
        /// Stable word for programs.
        code: &'static str,
        /// The thing and the cause.
        message: String,
        /// The next step.
        hint: &'static str,
    },
    /// A blob that could not be taken.
    #[error("the blob was not stored")]
    Blob(#[from] BlobError),
    /// Our side.
    #[error("the database could not do it")]
    Store(#[from] StoreError),
}

impl AppError {
    pub(super) fn invalid(code: &'static str, message: impl ToString, hint: &'static str) -> Self {
        Self::Invalid { code, message: message.to_string(), hint }
    }

    pub(super) fn not_leader() -> Self {
        Self::conflict("not_leader", "this server no longer leads", "ask again; the leader will answer")
    }

    pub(super) fn conflict(code: &'static str, message: impl ToString, hint: &'static str) -> Self {
        Self::Conflict { code, message: message.to_string(), hint }
    }
}

impl From<BatchError> for AppError {
    fn from(error: BatchError) -> Self {
        let code = match &error {
            BatchError::Stale { .. } => "stale_offer",
            BatchError::Taken { .. } => "already_claimed",
            BatchError::Settled => "settled",
            BatchError::ClaimLost => "claim_lost",
            BatchError::NotNow { .. } => "not_now",
        };
        Self::conflict(code, error, "drop this batch; the server offers it again if it must be")
    }
}
