//! Published jobs that wait until their URLs serve their revision. Whoever asks the URLs is elsewhere; here is decided what
//! follows from their answers. How long a job waits counts on the clock that does not jump; after a restart it is what is left
//! of it by the time of day, and every URL is asked anew.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use url::Url;

use super::progress::Member;
use crate::app::advance::advance;
use crate::app::{AppError, Engine, readable_job};
use crate::domain::ids::JobId;
use crate::domain::job::Job;
use crate::domain::job::event::JobEvent;
use crate::domain::job::state::JobState;
use crate::domain::names::RepositoryName;
use crate::domain::progress::ProgressView;
use crate::domain::protocol::JobView;
use crate::domain::visible::{Answer, ReplicaView, Verdict, count, judge};
use crate::planted::{self, Bug};

/// Jobs that are waited for at the same time; the others come when these have ended.
const AT_ONCE: usize = 10_000;

/// The last answer of each base of a repository.
pub type Answers = HashMap<(RepositoryName, Url), Answer>;

/// A job that waits for its URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// The job.
    pub job: JobId,
    /// Its repository.
    pub repository: RepositoryName,
    /// The bases of the repository that must serve it.
    pub urls: Vec<Url>,
    /// The revision.
    pub revision: u64,
    /// When its time is over, on the clock that does not jump.
    pub deadline: Duration,
}

/// What is known of one of them.
pub(super) struct Distribution {
    awaited: Awaited,
    /// Which wait it is: a retry begins another.
    until: Timestamp,
    member: [Member; 1],
    seen: Option<Seen>,
}

/// What its URLs said last.
struct Seen {
    view: ProgressView,
    replicas: Vec<ReplicaView>,
    /// The number of the change that it was.
    number: u64,
}

impl Distribution {
    /// Of a job that waits.
    fn new(job: &Job, now: Timestamp, monotonic: Duration) -> Option<Self> {
        let JobState::Distributing { revision, until: Some(until), .. } = &job.progress.state else { return None };
        // Never longer than it was meant, should the time of day have been set back since.
        let most = Duration::from_secs(job.spec.visible_within_s().into());
        let left = Duration::try_from(until.duration_since(now)).unwrap_or_default().min(most);
        let awaited = Awaited {
            job: job.id(),
            repository: job.spec.publish().repository.clone(),
            urls: job.spec.visible_at.clone(),
            revision: *revision,
            deadline: monotonic + left,
        };
        let member = Member { job_id: job.id(), submission: job.submission, attempt: job.progress.attempt };
        Some(Self { awaited, until: *until, member: [member], seen: None })
    }

    /// How far it has come.
    pub(super) fn progress(&self) -> Option<ProgressView> {
        self.seen.as_ref().map(|seen| seen.view)
    }

    /// How far it has come, with the number of that change.
    pub(super) fn reported(&self) -> Option<(u64, ProgressView, &[Member])> {
        self.seen.as_ref().map(|seen| (seen.number, seen.view, self.member.as_slice()))
    }
}

impl Engine {
    /// The time that [`Awaited::deadline`] and [`Answer::asked`] are told in.
    pub fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// The jobs that wait for their URLs.
    pub async fn awaited(&self) -> Result<Vec<Awaited>, AppError> {
        let jobs = self.store.read(|db| Ok::<_, AppError>(db.distributing(AT_ONCE)?)).await?;
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let mut live = self.live();
        let mut before = std::mem::take(&mut live.distributing);
        for job in &jobs {
            let Some(fresh) = Distribution::new(job, now, monotonic) else { continue };
            let known = before.remove(&job.id()).filter(|known| known.until == fresh.until);
            live.distributing.insert(job.id(), known.unwrap_or(fresh));
        }
        let mut awaited: Vec<_> = live.distributing.values().map(|of| of.awaited.clone()).collect();
        awaited.sort_unstable_by_key(|of| of.job);
        Ok(awaited)
    }

    /// Takes note of what URLs serve: jobs whose URLs all serve their revision have succeeded, those whose time is over failed.
    pub async fn note_answers(&self, answers: &Answers) -> Result<(), AppError> {
        let decided = self.judge_all(answers);
        if decided.is_empty() {
            return Ok(());
        }
        crate::crash::point("visible.before");
        self.write(move |tx, now, dispatcher| {
            for (id, wait, event) in &decided {
                // Its row may have been settled by a leader that came after us.
                let is_it = |job: &Job| {
                    matches!(&job.progress.state, JobState::Distributing { until: Some(until), .. } if until == wait)
                };
                if let Some(job) = readable_job(tx, *id)?.filter(is_it) {
                    advance(tx, now, dispatcher, job, event)?;
                }
            }
            Ok(())
        })
        .await?;
        crate::crash::point("visible.after");
        Ok(())
    }

    /// What follows for whom; what is only news is told to whoever follows.
    fn judge_all(&self, answers: &Answers) -> Vec<(JobId, Timestamp, JobEvent)> {
        let mut live = self.live();
        let before = *self.progress_changed.borrow();
        let (mut number, mut decided) = (before, Vec::new());
        for (id, of) in &mut live.distributing {
            let Awaited { repository, urls, revision, deadline, .. } = &of.awaited;
            let (mut verdict, replicas) =
                judge(*revision, *deadline, urls, |url| answers.get(&(repository.clone(), url.clone())));
            if planted::is(Bug::BelievesOneReplica) && replicas.iter().any(|replica| replica.serves) {
                verdict = Verdict::Visible;
            }
            match verdict {
                Verdict::Visible => decided.push((*id, of.until, JobEvent::Visible)),
                Verdict::OutOfTime { lacking } => decided.push((*id, of.until, JobEvent::NotVisible { lacking })),
                Verdict::NotYet => {}
            }
            let view = ProgressView::from(count(*revision, &replicas));
            if of.seen.as_ref().is_none_or(|seen| seen.view != view) {
                number += 1;
                of.seen = Some(Seen { view, replicas, number });
            } else if let Some(seen) = &mut of.seen {
                seen.replicas = replicas;
            }
        }
        decided.sort_unstable_by_key(|(id, ..)| *id);
        if number > before {
            // Still under the lock: numbers and reports are seen in one order.
            self.progress_changed.send_replace(number);
        }
        decided
    }

    /// Adds what the URLs of a job that waits for them serve.
    pub(super) fn add_replicas(&self, job: &mut JobView) {
        if !matches!(job.status, JobState::Distributing { .. }) {
            return;
        }
        let live = self.live();
        let seen = live.distributing.get(&job.job_id).and_then(|of| of.seen.as_ref());
        let unasked = || job.spec.visible_at.iter().map(|url| ReplicaView::new(url, 0, None)).collect();
        job.replicas = seen.map_or_else(unasked, |seen| seen.replicas.clone());
    }
}
