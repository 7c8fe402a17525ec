//! Undoes a job: makes the job that does it, or says why none can.

use std::collections::BTreeMap;

use crate::app::{AppError, Engine, job_or_not_found, readable_batch, readable_job};
use crate::domain::access::TokenName;
use crate::domain::ids::{BatchId, JobId};
use crate::domain::job::Job;
use crate::domain::job::event::JobEvent;
use crate::domain::job::spec::{DEFAULT_ATTEMPTS, JobSpec, Payload, Publish, Work};
use crate::domain::job::state::JobState;
use crate::domain::protocol::SubmitReply;
use crate::domain::repository::RevertRequest;
use crate::store::Db;

/// Characters of the new job's name.
const NAME: usize = 200;

impl Engine {
    /// Submits the job that undoes another one, below that one's lease path. Whether it can be done is known in the end to
    /// the repository only: the new job fails, with the reason, where tag or revision are gone or were built upon.
    pub async fn revert(
        &self,
        owner: Option<TokenName>,
        id: JobId,
        request: RevertRequest,
    ) -> Result<SubmitReply, AppError> {
        let spec = self.store.read(move |db| reverting(db, id, request)).await?;
        self.submit_as(owner, None, vec![spec]).await
    }
}

fn reverting(db: &Db<'_>, id: JobId, request: RevertRequest) -> Result<JobSpec, AppError> {
    let job = job_or_not_found(db, id)?;
    let refuse = |code, message: String, hint| Err(AppError::conflict(code, message, hint));
    match &job.progress.state {
        state if state.published().is_some() => {}
        JobState::Succeeded { .. } | JobState::Distributing { .. } | JobState::Failed { published: Some(_), .. } => {
            return refuse(
                "nothing_published",
                format!("job {id} changed nothing: no revision was made for it"),
                "there is nothing to revert",
            );
        }
        state => {
            let message = format!("job {id} is {}: it was not published", state.kind());
            return refuse("not_published", message, "only a job that has succeeded can be reverted");
        }
    }
    let claimed = |event: &JobEvent| match event {
        JobEvent::Claimed { batch, .. } => Some(*batch),
        _ => None,
    };
    let Some(batch) = db.story(id)?.iter().rev().find_map(claimed) else {
        return refuse(
            "no_batch",
            format!("nobody can tell which publish held job {id}"),
            "compare the repository's revisions: conveyor repository diff",
        );
    };
    if let Some(why) = shared(db, &job, batch)?.filter(|_| !request.force) {
        return refuse(
            "shared_batch",
            why,
            "look first: conveyor revert --force --dry-run --wait; --force reverts all of it below this job's path",
        );
    }
    let Publish { repository, lease_path, .. } = job.spec.publish().clone();
    let payload = Payload::Revert { job: id, tag: batch.key(), force: request.force };
    let publish = Publish { dry_run: request.dry_run, ..Publish::new(repository, lease_path, payload) };
    Ok(JobSpec {
        id: request.id,
        name: format!("revert {}", job.spec.name).chars().take(NAME).collect(),
        work: Work::Publish(publish),
        dependencies: Vec::new(),
        priority: 0,
        attempts: DEFAULT_ATTEMPTS,
        timeout_s: job.spec.timeout_s,
        alone: false,
        deadline: None,
        visible_at: Vec::new(),
        visible_within_s: None,
        labels: BTreeMap::from([("reverts".to_owned(), id.to_string())]),
        submitter: request.submitter,
    })
}

/// Why what the job changed cannot be told from what others of its batch did, where it cannot.
fn shared(db: &Db<'_>, job: &Job, id: BatchId) -> Result<Option<String>, AppError> {
    let Some(batch) = readable_batch(db, id)? else {
        let alone = job.progress.outputs.get("batch_jobs").is_some_and(|jobs| jobs == "1");
        let why = || format!("nobody can tell which jobs shared a publish with job {}", job.id());
        return Ok((!alone).then(why));
    };
    for member in batch.jobs.iter().filter(|member| member.job_id != job.id()) {
        let Some(other) = readable_job(db, member.job_id)? else {
            return Ok(Some(format!(
                "job {} shared its publish with job {}, whose row cannot be read",
                job.id(),
                member.job_id
            )));
        };
        let (ours, theirs) = (&job.spec.publish().lease_path, &other.spec.publish().lease_path);
        if ours.contains(theirs) || theirs.contains(ours) {
            return Ok(Some(format!(
                "job {} shared its publish with job {} on {theirs}: what each of them changed cannot be told apart",
                job.id(),
                other.id()
            )));
        }
    }
    Ok(None)
}
