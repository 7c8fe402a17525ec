//! A person settles what nobody could find out; and what is done with evidence that comes after a batch is settled.

use jiff::Timestamp;

use crate::app::advance::advance;
use crate::app::{AppError, Engine, batch_or_not_found, job_or_not_found};
use crate::domain::batch::{Batch, BatchState};
use crate::domain::ids::{BatchId, JobId};
use crate::domain::job::event::{JobEvent, Verdict};
use crate::domain::job::state::JobState;
use crate::domain::protocol::{JobView, ResolveRequest, Unclear};
use crate::store::{Db, StoreError, Tx};

/// Characters of a person's text that are kept.
const TEXT: usize = 4000;

impl Engine {
    /// Settles the batch of a job that needs an operator, for all of its jobs: they share one publish. Saying the same again
    /// is no error.
    pub async fn resolve(&self, id: JobId, request: ResolveRequest) -> Result<JobView, AppError> {
        let (by, reason) = (shorten(&request.by), shorten(&request.reason));
        let (job, settled) = self
            .write(move |tx, now, dispatcher| {
                let job = job_or_not_found(tx, id)?;
                let unclear = match &job.progress.state {
                    JobState::NeedsOperator { batch, .. } if request.batch_id.is_none_or(|of| of == *batch) => *batch,
                    JobState::NeedsOperator { batch, .. } => {
                        let message =
                            format!("job {id} needs an operator for batch {batch}, not for the one that is named");
                        return Err(AppError::conflict("different_batch", message, "look again: conveyor check"));
                    }
                    _ if said_before(tx, id, &request)? => return Ok((job, None)),
                    state => {
                        let message =
                            format!("job {id} ({:?}) is {}, and needs no operator", job.spec.name, state.kind());
                        return Err(AppError::conflict("needs_no_operator", message, "look again: conveyor check"));
                    }
                };
                let mut batch = batch_or_not_found(tx, unclear)?;
                let permitted = matches!(batch.state, BatchState::Recovering { intent: Some(_), .. });
                if matches!(request.verdict, Verdict::Published { .. }) && !permitted {
                    let message = format!("batch {} was never permitted to publish: no revision can hold it", batch.id);
                    return Err(AppError::conflict("not_permitted", message, "resolve it with --not-published"));
                }
                let event = JobEvent::Resolved { batch: batch.id, verdict: request.verdict, by, reason };
                for member in batch.jobs.clone() {
                    let job = job_or_not_found(tx, member.job_id)?;
                    if matches!(job.progress.state, JobState::NeedsOperator { batch: of, .. } if of == batch.id) {
                        advance(tx, now, dispatcher, job, &event)?;
                    }
                }
                let node = batch.state.node().unwrap_or_default().to_owned();
                let settled = (batch.id, (node, batch.repository.clone()));
                batch.state = BatchState::Settled;
                tx.update_batch(&batch)?;
                dispatcher.touch_repository(&batch.repository);
                Ok((job_or_not_found(tx, id)?, Some(settled)))
            })
            .await?;
        if let Some((batch, place)) = settled {
            tracing::info!(job.id = %id, batch.id = %batch, state = %job.progress.state.kind(), "an operator settled a batch");
            let mut live = self.live();
            live.unreadable.remove(&batch);
            live.unconfirmed.insert(batch, place);
        }
        Ok(job.into())
    }
}

/// What is known of the batch that a job needs an operator for.
pub(super) fn unclear(db: &Db<'_>, state: &JobState) -> Result<Option<Unclear>, StoreError> {
    let JobState::NeedsOperator { batch, .. } = state else { return Ok(None) };
    let Some(batch) = db.batch(*batch)? else { return Ok(None) };
    let key = batch.id.key();
    Ok(match batch.state {
        BatchState::Recovering { node, since, intent, .. } => {
            Some(Unclear { batch_id: batch.id, key, repository: batch.repository, node, since, intent })
        }
        _ => None,
    })
}

/// Tells whether somebody said exactly this about the batch.
fn said_before(db: &Db<'_>, id: JobId, request: &ResolveRequest) -> Result<bool, StoreError> {
    let same = |event: &JobEvent| matches!(event, JobEvent::Resolved { batch, verdict, .. } if request.batch_id.is_none_or(|of| of == *batch) && *verdict == request.verdict);
    let is_verdict = |event: &&JobEvent| matches!(event, JobEvent::Resolved { .. });
    Ok(db.story(id)?.iter().rev().find(is_verdict).is_some_and(same))
}

/// Looks at evidence about a batch that is settled. The answer is no other than before: it may be told twice. But where it
/// says otherwise than what is recorded, each job's story and the log say so.
///
/// * `published`: the revision and root hash that the evidence names; `None` where it says that nothing was published
/// * `from`: who says so, for people
pub(super) fn compare(
    tx: &mut Tx<'_>,
    now: Timestamp,
    batch: &Batch,
    published: Option<(u64, &str)>,
    from: &str,
) -> Result<(), StoreError> {
    let said = match published {
        Some((revision, root_hash)) => format!("revision {revision} ({root_hash}) holds it"),
        None => "it was not published".into(),
    };
    for member in &batch.jobs {
        let Some(job) = tx.job(member.job_id)? else { continue };
        let story = tx.story(member.job_id)?;
        let recorded = recorded(&story, batch.id);
        if agree(recorded.as_ref(), published) {
            continue;
        }
        let evidence = format!("{from} says of tag {}: {said}", batch.id.key());
        // Told again by whoever missed the answer, it is the same contradiction.
        if story
            .iter()
            .any(|event| matches!(event, JobEvent::Contradicted { evidence: before, .. } if *before == evidence))
        {
            continue;
        }
        tracing::error!(job.id = %member.job_id, batch.id = %batch.id, repository = %batch.repository, recorded = ?recorded, evidence, "evidence contradicts how a batch was settled; compare the repository's history with the job's");
        tx.apply(now, job, &JobEvent::Contradicted { batch: batch.id, evidence })?;
    }
    Ok(())
}

/// The revision and root hash that a job's story gives to a batch, where it was published.
fn recorded(story: &[JobEvent], id: BatchId) -> Option<(u64, String)> {
    let ours =
        story.iter().skip_while(|event| !matches!(event, JobEvent::Claimed { batch, .. } if *batch == id)).skip(1);
    ours.take_while(|event| !matches!(event, JobEvent::Claimed { .. })).find_map(|event| match event {
        JobEvent::Succeeded { revision, root_hash, .. }
        | JobEvent::Resolved { verdict: Verdict::Published { revision, root_hash }, .. } => {
            Some((*revision, root_hash.clone()))
        }
        _ => None,
    })
}

fn agree(recorded: Option<&(u64, String)>, published: Option<(u64, &str)>) -> bool {
    match (recorded, published) {
        (None, None) => true,
        // An operator need not say the root hash.
        (Some((revision, root_hash)), Some((found, found_hash))) => {
            *revision == found && (root_hash.is_empty() || root_hash == found_hash)
        }
        _ => false,
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(TEXT).collect()
}
