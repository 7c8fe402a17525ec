//! Takes and gives the jobs' logs and the lists of the paths that they change.

use crate::app::{AppError, Engine, batch_or_not_found, job_or_not_found};
use crate::domain::batch::BatchError;
use crate::domain::ids::{BatchId, JobId};
use crate::store::Db;
use crate::store::logs::LogPiece;

/// Bytes after which no piece of a list of changed paths may begin; workers stop long before.
const MOST_BYTES_OF_CHANGES: u64 = 128 * 1024 * 1024;

impl Engine {
    /// Appends to the log of a running attempt; returns the log's end in bytes, where the next piece begins.
    pub async fn append_log(
        &self,
        batch: BatchId,
        job: JobId,
        token: String,
        start: u64,
        data: Vec<u8>,
    ) -> Result<u64, AppError> {
        let attempt = self.running_attempt(batch, job, token).await?;
        Ok(self.logs.append(job, attempt, start, data).await?)
    }

    /// Appends to the list of the paths that a running attempt changes, as [`Engine::append_log`].
    pub async fn append_changes(
        &self,
        batch: BatchId,
        job: JobId,
        token: String,
        start: u64,
        data: Vec<u8>,
    ) -> Result<u64, AppError> {
        if start > MOST_BYTES_OF_CHANGES {
            let message = format!("the list of changed paths of a job may have {MOST_BYTES_OF_CHANGES} bytes");
            return Err(AppError::invalid("list_too_long", message, "say how many paths are left out, and end it"));
        }
        let attempt = self.running_attempt(batch, job, token).await?;
        Ok(self.logs.append_changes(job, attempt, start, data).await?)
    }

    /// The next piece of the list of changed paths at or after byte `from`; `None` at its end.
    pub async fn read_changes(&self, job: JobId, attempt: u32, from: u64) -> Result<Option<LogPiece>, AppError> {
        Ok(self.logs.read_changes(job, attempt, from).await?)
    }

    /// The attempt that whoever shows this token carries out.
    async fn running_attempt(&self, batch: BatchId, job: JobId, token: String) -> Result<u32, AppError> {
        let read = move |db: &Db<'_>| {
            let batch = batch_or_not_found(db, batch)?;
            batch.may_report(&token)?;
            let member = batch.jobs.iter().find(|member| member.job_id == job).ok_or(BatchError::ClaimLost)?;
            Ok::<_, AppError>(member.attempt)
        };
        self.store.read(read).await
    }

    /// The next piece of an attempt's log at or after byte `from`; `None` at its present end.
    pub async fn read_log(&self, job: JobId, attempt: u32, from: u64) -> Result<Option<LogPiece>, AppError> {
        Ok(self.logs.read(job, attempt, from).await?)
    }

    /// The attempt whose log is meant when none is named, and whether the job has ended.
    pub async fn log_attempt(&self, job: JobId) -> Result<(u32, bool), AppError> {
        self.store
            .read(move |db| {
                let job = job_or_not_found(db, job)?;
                Ok((job.progress.attempt, job.progress.state.is_final()))
            })
            .await
    }

    /// Where an attempt's log ends, in bytes.
    pub async fn log_end(&self, job: JobId, attempt: u32) -> Result<u64, AppError> {
        Ok(self.logs.end(job, attempt).await?)
    }
}
