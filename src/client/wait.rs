//! Waiting for jobs to end.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::{Client, ClientError, EventStream, ListQuery, StreamItem};
use crate::domain::ids::{JobId, SubmissionId};
use crate::domain::job::LoggedEvent;
use crate::domain::progress::JobProgress;
use crate::domain::protocol::JobView;

/// How often states are read although no event came.
const POLL: Duration = Duration::from_secs(60);
/// Submissions followed at the same time.
const STREAMS: usize = 16;
/// More jobs of a submission than this are read from the listing.
const ONE_BY_ONE: usize = 4;
/// Jobs on one page of the listing.
const PAGE: u32 = 500;

/// News of a job that is waited for.
#[derive(Debug)]
pub enum Change<'a> {
    /// It was looked at.
    Seen(&'a JobView),
    /// Something happened to it.
    Event(&'a LoggedEvent),
    /// Its attempt has come further.
    Progress(&'a JobProgress),
}

/// What all streams of one wait share.
struct Board<F> {
    wanted: HashSet<JobId>,
    pending: HashSet<JobId>,
    on_change: F,
}

impl Client {
    /// Waits until all these jobs have ended and gives them in this order, each once. Server restarts are sat out. An unknown job
    /// is [`ClientError::Refused`] with status 404.
    ///
    /// `submission`, when it is known that all jobs are of that one, saves looking it up.
    pub async fn wait<F: FnMut(Change<'_>)>(
        &self,
        jobs: &[JobId],
        submission: Option<SubmissionId>,
        limit: Option<Duration>,
        on_change: F,
    ) -> Result<Vec<JobView>, ClientError> {
        let all: HashSet<JobId> = jobs.iter().copied().collect();
        let board = Mutex::new(Board { wanted: all.clone(), pending: all, on_change });
        let waiting = self.wait_on(jobs, submission, &board);
        let Some(limit) = limit else { return waiting.await };
        match tokio::time::timeout(limit, waiting).await {
            Ok(result) => result,
            Err(_) => {
                let board = lock(&board);
                let (pending, jobs) = (board.pending.len(), board.wanted.len());
                Err(ClientError::WaitedTooLong { pending, jobs, seconds: limit.as_secs() })
            }
        }
    }

    async fn wait_on<F: FnMut(Change<'_>)>(
        &self,
        jobs: &[JobId],
        submission: Option<SubmissionId>,
        board: &Mutex<Board<F>>,
    ) -> Result<Vec<JobView>, ClientError> {
        let mut groups: BTreeMap<SubmissionId, Vec<JobId>> = BTreeMap::new();
        if let Some(submission) = submission {
            groups.insert(submission, lock(board).wanted.iter().copied().collect());
        } else {
            let distinct: Vec<JobId> = lock(board).wanted.iter().copied().collect();
            let views = stream::iter(distinct).map(|id| self.job(id)).buffer_unordered(STREAMS);
            for view in views.try_collect::<Vec<_>>().await? {
                groups.entry(view.submission_id).or_default().push(view.job_id);
            }
        }
        let ended = stream::iter(groups)
            .map(|(submission, jobs)| self.wait_for_group(submission, jobs, board))
            .buffer_unordered(STREAMS)
            .try_collect::<Vec<_>>()
            .await?;
        let mut ended: BTreeMap<JobId, JobView> = ended.into_iter().flatten().collect();
        // An id that was given twice is found once.
        Ok(jobs.iter().filter_map(|id| ended.remove(id)).collect())
    }

    async fn wait_for_group<F: FnMut(Change<'_>)>(
        &self,
        submission: SubmissionId,
        jobs: Vec<JobId>,
        board: &Mutex<Board<F>>,
    ) -> Result<BTreeMap<JobId, JobView>, ClientError> {
        let mut events = match jobs.as_slice() {
            [only] => self.job_events(*only),
            _ => self.events(Some(submission), None),
        };
        loop {
            if !self.next_change(&mut events, &jobs, board).await? {
                continue;
            }
            let views = self.read(submission, &jobs).await?;
            let mut board = lock(board);
            for view in views.values() {
                (board.on_change)(Change::Seen(view));
                board.note(view.job_id, view.state.is_final());
            }
            if !jobs.iter().any(|id| board.pending.contains(id)) {
                return Ok(views);
            }
        }
    }

    /// Takes the next item; tells whether the states are to be read.
    async fn next_change<F: FnMut(Change<'_>)>(
        &self,
        events: &mut EventStream,
        jobs: &[JobId],
        board: &Mutex<Board<F>>,
    ) -> Result<bool, ClientError> {
        let Ok(item) = tokio::time::timeout(POLL, events.next()).await else { return Ok(true) };
        match item? {
            StreamItem::Opened | StreamItem::Reset => Ok(true),
            StreamItem::Progress(progress) => {
                let mut board = lock(board);
                // One may come late: a job that has ended makes none.
                if board.pending.contains(&progress.job_id) {
                    (board.on_change)(Change::Progress(&progress));
                }
                Ok(false)
            }
            StreamItem::Job(event) => {
                let mut board = lock(board);
                if !board.wanted.contains(&event.job_id) {
                    return Ok(false);
                }
                (board.on_change)(Change::Event(&event));
                board.note(event.job_id, event.state.is_final());
                // An event may be old news: before the end is believed, the states are read.
                Ok(!jobs.iter().any(|id| board.pending.contains(id)))
            }
        }
    }

    async fn read(&self, submission: SubmissionId, jobs: &[JobId]) -> Result<BTreeMap<JobId, JobView>, ClientError> {
        let mut found = BTreeMap::new();
        if jobs.len() > ONE_BY_ONE {
            let mut query = ListQuery { submission: Some(submission), limit: Some(PAGE), ..ListQuery::default() };
            loop {
                let page = self.list(&query).await?;
                found.extend(page.jobs.into_iter().map(|view| (view.job_id, view)));
                match page.next_cursor {
                    Some(cursor) => query.cursor = Some(cursor),
                    None => break,
                }
            }
            let wanted: HashSet<&JobId> = jobs.iter().collect();
            found.retain(|id, _| wanted.contains(id));
        }
        for id in jobs {
            if !found.contains_key(id) {
                found.insert(*id, self.job(*id).await?);
            }
        }
        Ok(found)
    }
}

impl<F> Board<F> {
    fn note(&mut self, job: JobId, ended: bool) {
        if ended {
            self.pending.remove(&job)
        } else {
            self.pending.insert(job)
        };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
