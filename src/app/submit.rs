//! Accepts jobs: all of a submission or none, and the same job twice as one.

use std::collections::HashSet;

use crate::app::dispatch::Dispatcher;
use crate::app::{AppError, Engine};
use crate::domain::access::TokenName;
use crate::domain::dependencies::{self, Readiness, readiness};
use crate::domain::ids::{JobId, SubmissionId};
use crate::domain::job::event::JobEvent;
use crate::domain::job::spec::{JobSpec, MAX_JOBS_PER_SUBMISSION, Source};
use crate::domain::job::state::StateKind;
use crate::domain::protocol::{SubmitReply, SubmittedJob};
use crate::planted::{self, Bug};
use crate::store::{NewJob, Tx};

impl Engine {
    /// Accepts jobs of nobody in particular, otherwise as [`Engine::submit_as`].
    pub async fn submit(&self, submission: Option<SubmissionId>, specs: Vec<JobSpec>) -> Result<SubmitReply, AppError> {
        self.submit_as(None, submission, specs).await
    }

    /// Accepts jobs. When this returns, they are on stable storage.
    ///
    /// `owner`: name of the token that submits them.
    pub async fn submit_as(
        &self,
        owner: Option<TokenName>,
        submission: Option<SubmissionId>,
        mut specs: Vec<JobSpec>,
    ) -> Result<SubmitReply, AppError> {
        let submitter_is_owner = self.dispatcher.rules().submitter_is_owner;
        let is_submitter = owner.as_ref().filter(|_| submitter_is_owner);
        if let Some(owner) = is_submitter {
            specs.iter_mut().for_each(|spec| spec.submitter = owner.as_str().to_owned());
        }
        let ignore_submitter = is_submitter.is_some();
        if specs.is_empty() || specs.len() > MAX_JOBS_PER_SUBMISSION {
            let message = format!("a submission has 1 to {MAX_JOBS_PER_SUBMISSION} jobs, this one has {}", specs.len());
            return Err(AppError::invalid("bad_submission", message, "send it in several submissions"));
        }
        let mut references = Vec::with_capacity(specs.len());
        for spec in &specs {
            spec.validate().map_err(|e| AppError::invalid("bad_job", e, "correct the job and submit it again"))?;
            references.push(Some(self.check_references(spec).await));
        }
        let order = dependencies::order(&specs)
            .map_err(|e| AppError::invalid("bad_dependencies", e, "correct the dependencies and submit again"))?;
        let submission = submission.unwrap_or_else(|| SubmissionId(self.dispatcher.entropy.uuid(self.clock.now())));

        crate::crash::point("submit.before");
        let reply = self
            .write(move |tx, now, dispatcher| {
                let mut states: Vec<Option<SubmittedJob>> = vec![None; specs.len()];
                let mut reply_id = None;
                for index in order {
                    let spec = &specs[index];
                    let submitted = match existing(tx, spec, ignore_submitter)? {
                        Some((state, earlier)) => {
                            if planted::is(Bug::SubmitsTwice) {
                                let again = JobSpec { id: JobId(dispatcher.entropy.uuid(now)), ..spec.clone() };
                                let new = NewJob { submission, owner: owner.as_ref(), spec: &again, bytes: 0, rank: 0 };
                                accept(tx, now, dispatcher, new)?;
                            }
                            reply_id.get_or_insert(earlier);
                            SubmittedJob { job_id: spec.id, state, created: false }
                        }
                        None => {
                            // Only a new job needs them: one that is known may outlive its blob and its repository.
                            let bytes = references[index].take().transpose()?.unwrap_or(0);
                            let job = NewJob { submission, owner: owner.as_ref(), spec, bytes, rank: 0 };
                            let state = accept(tx, now, dispatcher, job)?;
                            dispatcher.touch_repository(&spec.publish().repository);
                            SubmittedJob { job_id: spec.id, state, created: true }
                        }
                    };
                    states[index] = Some(submitted);
                }
                let jobs: Vec<_> = states.into_iter().flatten().collect();
                let created = jobs.iter().any(|job| job.created);
                let submission_id = if created { submission } else { reply_id.unwrap_or(submission) };
                Ok(SubmitReply { submission_id, jobs })
            })
            .await?;
        crate::crash::point("submit.after");
        Ok(reply)
    }

    /// Checks that the repository is served here, that its URLs may be asked, and that the blob is here; its size in bytes, 0 where there is none.
    async fn check_references(&self, spec: &JobSpec) -> Result<u64, AppError> {
        let publish = spec.publish();
        if !self.repositories().contains_key(&publish.repository) {
            let message =
                format!("job {} ({:?}): repository {} is not served here", spec.id, spec.name, publish.repository);
            return Err(AppError::invalid(
                "unknown_repository",
                message,
                "check the name; an operator adds repositories in the server's configuration",
            ));
        }
        let rules = self.dispatcher.rules();
        if let Some(url) = spec.visible_at.iter().find(|url| !rules.visible_urls.allows(url)) {
            let message = format!("job {} ({:?}): this server does not ask {url} what it serves", spec.id, spec.name);
            return Err(AppError::invalid(
                "url_not_allowed",
                message,
                "an operator names the URLs that jobs may wait for: [server] visible_urls; conveyor wait-revision asks from here",
            ));
        }
        let (Some(Source::Blob { digest }), Some(blobs)) = (publish.payload.source(), &self.blobs) else {
            return Ok(0);
        };
        blobs.keep(*digest).await?.ok_or_else(|| {
            let message = format!("job {} ({:?}): blob {digest} was not uploaded", spec.id, spec.name);
            AppError::invalid("unknown_blob", message, "upload it first: PUT /api/v1/blobs/DIGEST")
        })
    }
}

/// The job that was submitted under this id before, if it is the same one.
///
/// `ignore_submitter`: it is not the client's to say, and the one who asks again may have another token.
fn existing(
    tx: &Tx<'_>,
    spec: &JobSpec,
    ignore_submitter: bool,
) -> Result<Option<(StateKind, SubmissionId)>, AppError> {
    let is_same = |there: &JobSpec| {
        there == spec || ignore_submitter && *there == JobSpec { submitter: there.submitter.clone(), ..spec.clone() }
    };
    match tx.job(spec.id)? {
        None => Ok(None),
        Some(job) if is_same(&job.spec) => Ok(Some((job.progress.state.kind(), job.submission))),
        Some(_) => {
            let message = format!("job {} exists with another specification", spec.id);
            Err(AppError::conflict("different_job", message, "choose a new id for a new job"))
        }
    }
}

fn accept(
    tx: &mut Tx<'_>,
    now: jiff::Timestamp,
    dispatcher: &Dispatcher,
    mut new: NewJob<'_>,
) -> Result<StateKind, AppError> {
    let spec = new.spec;
    if let Some(deadline) = spec.deadline.filter(|deadline| *deadline <= now) {
        let message = format!("job {} ({:?}): its deadline, {deadline}, has passed", spec.id, spec.name);
        return Err(AppError::invalid("deadline_passed", message, "give it a later one, or none"));
    }
    let mut known = Vec::with_capacity(spec.dependencies.len());
    let mut unknown: HashSet<JobId> = HashSet::new();
    for dependency in &spec.dependencies {
        match tx.job_state(dependency.job_id)? {
            Some((_, state)) => known.push((dependency.job_id, dependency.condition, state)),
            None => drop(unknown.insert(dependency.job_id)),
        }
    }
    if let Some(id) = unknown.iter().min() {
        let message = format!("job {} ({:?}) depends on job {id}, which does not exist", spec.id, spec.name);
        return Err(AppError::invalid("unknown_dependency", message, "submit that job first or in the same array"));
    }
    let readiness = readiness(known);
    let first = JobEvent::Submitted {
        waiting: readiness != Readiness::Met,
        needs_approval: false,
        dry_run: spec.publish().dry_run,
        distributed: !spec.visible_at.is_empty(),
    };
    if readiness == Readiness::Met {
        new.rank = dispatcher.rank(spec);
    }
    let state = tx.insert_job(now, &new, &first)?;
    if let Readiness::Unmet(dependency) = readiness
        && let Some(job) = tx.job(spec.id)?
    {
        return Ok(tx.apply(now, job, &JobEvent::DependencyUnmet { dependency })?.progress.state.kind());
    }
    Ok(state)
}
