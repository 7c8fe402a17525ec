//! Prunes what is over, in steps so small that nobody who submits notices.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::app::{AppError, Engine};
use crate::domain::ids::JobId;
use crate::domain::retention::{Retention, UNUSED_BLOB, VOID_TOKEN};
use crate::store::blobs::StoredBlob;
use crate::store::{BlobUse, Ended};

/// Jobs deleted in one commit: some milliseconds of the writer's time.
const JOBS_AT_ONCE: usize = 16;
/// Jobs whose logs are deleted at once.
const LOGS_AT_ONCE: usize = 16;
/// Blobs looked at in one step.
const BLOBS_AT_ONCE: usize = 64;
/// Tokens deleted in one commit.
const TOKENS_AT_ONCE: usize = 64;
/// Pages given back in one commit.
const PAGES_AT_ONCE: u32 = 64;
/// The two clocks may differ by this much over one interval.
const CLOCKS_AGREE: Duration = Duration::from_secs(3600);

/// One round over everything.
pub struct Round {
    stage: Stage,
    now: Timestamp,
    pruned: Pruned,
}

enum Stage {
    Jobs { before: Option<Timestamp>, after: Ended },
    Logs,
    Tokens,
    Blobs { left: Option<Vec<(StoredBlob, BlobUse)>>, bytes: u64 },
    Space,
    LogSpace,
    Done,
}

/// What a round deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Jobs with their events.
    pub jobs: u64,
    /// Jobs whose logs went.
    pub logs: u64,
    /// Tokens that had been void for long.
    pub tokens: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of blobs.
    pub blob_bytes: u64,
}

impl Round {
    /// What it deleted so far.
    pub fn pruned(&self) -> Pruned {
        self.pruned
    }
}

impl Engine {
    /// Begins a round, unless the clock cannot be believed: where the time of day and the monotonic clock ran apart since the
    /// last call (there is none before the first), nothing is old yet because of it.
    pub fn begin_round(&self) -> Option<Round> {
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let (then, monotonic_then) = self.live().round_asked.replace((now, monotonic))?;
        let passed = monotonic.saturating_sub(monotonic_then);
        let seemed = now.duration_since(then);
        let apart = seemed.checked_sub(SignedDuration::try_from(passed).ok()?)?.unsigned_abs();
        if apart > CLOCKS_AGREE {
            tracing::warn!(
                apart_s = apart.as_secs(),
                "the clock jumped; nothing is pruned until it has been steady for a while"
            );
            return None;
        }
        Some(Round { stage: Stage::Jobs { before: None, after: Ended::START }, now, pruned: Pruned::default() })
    }

    /// Does one step of a round; false when the round is over.
    pub async fn prune(&self, retention: &Retention, round: &mut Round) -> Result<bool, AppError> {
        match &mut round.stage {
            Stage::Jobs { before, after } => {
                let limit = match *before {
                    Some(before) => Some(before),
                    None => self.jobs_limit(retention, round.now).await?,
                };
                *before = limit;
                let Some(limit) = limit else {
                    round.stage = Stage::Logs;
                    return Ok(true);
                };
                let from = *after;
                let ended = self.store.read(move |db| Ok::<_, AppError>(db.ended(limit, from, JOBS_AT_ONCE)?)).await?;
                let Some((last, _)) = ended.last() else {
                    round.stage = Stage::Logs;
                    return Ok(true);
                };
                *after = *last;
                round.pruned.jobs += self.prune_jobs(ended.into_iter().map(|(_, id)| id).collect(), limit).await?;
            }
            Stage::Logs => match self.prune_logs(retention, round.now).await? {
                0 => round.stage = Stage::Tokens,
                jobs => round.pruned.logs += jobs,
            },
            Stage::Tokens => match self.prune_tokens(round.now).await? {
                0 => round.stage = Stage::Blobs { left: None, bytes: 0 },
                tokens => round.pruned.tokens += tokens,
            },
            Stage::Blobs { left: left @ None, bytes } => {
                let blobs = self.blobs_by_use().await?;
                *bytes = blobs.iter().map(|(blob, _)| blob.size).sum();
                *left = Some(blobs);
            }
            Stage::Blobs { left: Some(left), bytes } => {
                if left.is_empty() {
                    round.stage = Stage::Space;
                    return Ok(true);
                }
                let rest = left.split_off(left.len().min(BLOBS_AT_ONCE));
                for (blob, _) in std::mem::replace(left, rest) {
                    if self.prune_blob(retention, round.now, &blob, *bytes).await? {
                        *bytes = bytes.saturating_sub(blob.size);
                        round.pruned.blobs += 1;
                        round.pruned.blob_bytes += blob.size;
                    }
                }
            }
            Stage::Space => {
                if self.store.write(|tx| Ok::<_, AppError>(tx.give_back(PAGES_AT_ONCE)?)).await? == 0 {
                    round.stage = Stage::LogSpace;
                }
            }
            Stage::LogSpace => {
                if self.logs.give_back(PAGES_AT_ONCE).await? == 0 {
                    round.stage = Stage::Done;
                }
            }
            Stage::Done => return Ok(false),
        }
        Ok(true)
    }

    /// Jobs that ended before this may go.
    async fn jobs_limit(&self, retention: &Retention, now: Timestamp) -> Result<Option<Timestamp>, AppError> {
        let by_age = retention.jobs.and_then(|age| earlier(now, age));
        let by_number = match retention.jobs_max {
            Some(keep) => self.store.read(move |db| Ok::<_, AppError>(db.end_beyond(keep)?)).await?,
            None => None,
        };
        Ok(by_age.max(by_number))
    }

    async fn prune_jobs(&self, ids: Vec<JobId>, before: Timestamp) -> Result<u64, AppError> {
        let pruned = self
            .store
            .write(move |tx| {
                let mut pruned = Vec::new();
                for id in ids {
                    if tx.prune_job(id, before)? {
                        pruned.push(id);
                    }
                }
                Ok::<_, AppError>(pruned)
            })
            .await?;
        let count = pruned.len() as u64;
        crate::crash::point("retention.jobs-pruned");
        // Killed before this, logs of jobs that nobody knows stay, and count for their size.
        self.logs.remove(pruned).await?;
        Ok(count)
    }

    /// Deletes the logs of some jobs that ended long ago, or of the first that ended while there are too many bytes.
    async fn prune_logs(&self, retention: &Retention, now: Timestamp) -> Result<u64, AppError> {
        let is_too_much = match retention.logs_max_bytes {
            Some(max) => self.logs.used_bytes().await? > max,
            None => false,
        };
        let by_age = retention.logs.and_then(|age| earlier(now, age));
        let Some(before) = (if is_too_much { Some(now) } else { by_age }) else { return Ok(0) };
        let ended = self
            .store
            .read(move |db| {
                let after = db.logs_pruned_to()?;
                Ok::<_, AppError>(db.ended(before, after, LOGS_AT_ONCE)?)
            })
            .await?;
        let Some((last, _)) = ended.last().copied() else { return Ok(0) };
        let count = ended.len() as u64;
        self.logs.remove(ended.into_iter().map(|(_, id)| id).collect()).await?;
        self.store.write(move |tx| Ok::<_, AppError>(tx.note_logs_pruned(last)?)).await?;
        Ok(count)
    }

    /// Forgets some tokens that have been void for long. Whoever shows one is refused as before, with less to be told.
    async fn prune_tokens(&self, now: Timestamp) -> Result<u64, AppError> {
        let Some(before) = earlier(now, VOID_TOKEN) else { return Ok(0) };
        let prune = move |tx: &mut crate::store::Tx<'_>| Ok::<_, AppError>(tx.prune_tokens(before, TOKENS_AT_ONCE)?);
        let pruned = self.store.write(prune).await?;
        self.forget_tokens(&pruned);
        Ok(pruned.len() as u64)
    }

    /// All blobs with who names them; those that were used last long ago come first.
    async fn blobs_by_use(&self) -> Result<Vec<(StoredBlob, BlobUse)>, AppError> {
        let Some(blobs) = &self.blobs else { return Ok(Vec::new()) };
        let stored = blobs.list().await?;
        let mut named = self
            .store
            .read(move |db| {
                let with_use = |blob: StoredBlob| Ok::<_, AppError>((blob, db.blob_use(&blob.digest.to_string())?));
                stored.into_iter().map(with_use).collect::<Result<Vec<_>, _>>()
            })
            .await?;
        named.retain(|(_, of)| *of != BlobUse::InUse);
        named.sort_by_key(|(_, of)| match of {
            BlobUse::Unused | BlobUse::InUse => Timestamp::MIN,
            BlobUse::Ended(at) => *at,
        });
        Ok(named)
    }

    async fn prune_blob(
        &self,
        retention: &Retention,
        now: Timestamp,
        blob: &StoredBlob,
        bytes: u64,
    ) -> Result<bool, AppError> {
        let Some(blobs) = &self.blobs else { return Ok(false) };
        let name = blob.digest.to_string();
        // Looked up once more: it may have been named since the list was made.
        let goes = match self.store.read(move |db| Ok::<_, AppError>(db.blob_use(&name)?)).await? {
            BlobUse::InUse => false,
            BlobUse::Unused => true,
            BlobUse::Ended(at) => {
                retention.blobs_max_bytes.is_some_and(|max| bytes > max)
                    || retention.blobs.and_then(|age| earlier(now, age)).is_some_and(|limit| at < limit)
            }
        };
        // Whoever is about to name it has touched it, so that it is young.
        Ok(goes && blobs.remove_if_older(blob.digest, earlier(now, UNUSED_BLOB)).await?)
    }

    /// The number of the last event that was pruned.
    pub async fn events_pruned_to(&self) -> Result<u64, AppError> {
        self.store.read(|db| Ok(db.events_pruned_to()?)).await
    }
}

fn earlier(now: Timestamp, age: Duration) -> Option<Timestamp> {
    now.checked_sub(SignedDuration::try_from(age).ok()?).ok()
}
