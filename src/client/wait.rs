//! Waiting for jobs to end: one stream for all of them, for as long as it takes.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;

use super::sse::{Sse, SseItem};
use super::{Client, ClientError, ListQuery};
use crate::domain::ids::{JobId, SubmissionId};
use crate::domain::job::LoggedEvent;
use crate::domain::progress::JobProgress;
use crate::domain::protocol::JobView;
use crate::domain::standing::{JobStanding, UnknownJob, WatchRequest};

/// More jobs of a submission than this are read from the listing.
const ONE_BY_ONE: usize = 4;
/// Jobs on one page of the listing.
const PAGE: u32 = 500;

/// News of a job that is waited for.
#[derive(Debug)]
pub enum Change<'a> {
    /// How it stands: once at the beginning, and whenever it ends.
    Seen(&'a JobStanding),
    /// Something happened to it.
    Event(&'a LoggedEvent),
    /// Its attempt has come further.
    Progress(&'a JobProgress),
}

/// What to wait for.
#[derive(Debug, Clone, Copy)]
pub struct Wait<'a> {
    /// The jobs.
    pub jobs: &'a [JobId],
    /// Their submission, where they are all of its jobs: that is said in fewer words.
    pub submission: Option<SubmissionId>,
    /// How long at most.
    pub limit: Option<Duration>,
    /// Whether only ends matter; otherwise all that happens is told on the way.
    pub ends: bool,
}

/// How a wait ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Waited {
    /// The jobs, each once, in the order in which they were named.
    pub ended: Vec<JobStanding>,
    /// Those that the server does not know.
    pub unknown: Vec<JobId>,
}

/// What is known while it goes on.
#[derive(Default)]
struct Board {
    standings: HashMap<JobId, JobStanding>,
    unknown: HashSet<JobId>,
}

impl Client {
    /// Waits until all these jobs have ended and gives them in this order, each once. Server restarts are sat out. An unknown
    /// job is [`ClientError::Refused`] with status 404.
    ///
    /// `submission`, where the jobs are all of that one, saves naming them.
    pub async fn wait<F: FnMut(Change<'_>)>(
        &self,
        jobs: &[JobId],
        submission: Option<SubmissionId>,
        limit: Option<Duration>,
        on_change: F,
    ) -> Result<Vec<JobView>, ClientError> {
        let waited = self.wait_for(Wait { jobs, submission, limit, ends: false }, on_change).await?;
        // Says so in the server's words.
        for id in &waited.unknown {
            self.job(*id).await?;
        }
        let ids: Vec<JobId> = waited.ended.iter().map(|job| job.job_id).collect();
        self.views(&ids, submission).await
    }

    /// Waits until all these jobs have ended, over one connection at a time. Server restarts are sat out.
    pub async fn wait_for<F: FnMut(Change<'_>)>(&self, wait: Wait<'_>, on_change: F) -> Result<Waited, ClientError> {
        let mut board = Board::default();
        if !wait.jobs.is_empty() {
            let following = self.follow(wait, &mut board, on_change);
            match wait.limit {
                None => following.await?,
                Some(limit) => match tokio::time::timeout(limit, following).await {
                    Ok(result) => result?,
                    Err(_) => {
                        let wanted: HashSet<&JobId> = wait.jobs.iter().collect();
                        let has_ended = |id: &&JobId| board.standings.get(id).is_some_and(|job| job.state.is_final());
                        let pending = wanted.iter().filter(|id| !has_ended(id)).count();
                        return Err(ClientError::WaitedTooLong {
                            pending,
                            jobs: wanted.len(),
                            seconds: limit.as_secs(),
                        });
                    }
                },
            }
        }
        let mut waited = Waited::default();
        for id in wait.jobs {
            // An id that was given twice is found once.
            if let Some(job) = board.standings.remove(id) {
                waited.ended.push(job);
            } else if board.unknown.remove(id) {
                waited.unknown.push(*id);
            }
        }
        Ok(waited)
    }

    async fn follow<F: FnMut(Change<'_>)>(
        &self,
        wait: Wait<'_>,
        board: &mut Board,
        mut on_change: F,
    ) -> Result<(), ClientError> {
        let mut stream = self.watch(wait)?;
        loop {
            let SseItem::Message(message) = stream.next().await? else { continue };
            let data = message.data.as_str();
            match message.event.as_str() {
                "standing" => {
                    let job: JobStanding = serde_json::from_str(data).map_err(|error| stream.garbled(&error))?;
                    on_change(Change::Seen(&job));
                    board.unknown.remove(&job.job_id);
                    board.standings.insert(job.job_id, job);
                }
                "unknown" => {
                    let UnknownJob { job_id } = serde_json::from_str(data).map_err(|error| stream.garbled(&error))?;
                    // One that has ended before it was forgotten has ended.
                    if !board.standings.get(&job_id).is_some_and(|job| job.state.is_final()) {
                        board.standings.remove(&job_id);
                        board.unknown.insert(job_id);
                    }
                }
                "reset" => *board = Board::default(),
                "end" => {
                    stream.finish().await;
                    return Ok(());
                }
                // These are only shown: what a newer server says and is not understood is left out.
                "job" => {
                    if let Ok(event) = serde_json::from_str(data) {
                        on_change(Change::Event(&event));
                    }
                }
                "progress" => {
                    if let Ok(progress) = serde_json::from_str(data) {
                        on_change(Change::Progress(&progress));
                    }
                }
                _ => {}
            }
        }
    }

    fn watch(&self, wait: Wait<'_>) -> Result<Sse, ClientError> {
        let action = "wait for the jobs";
        let mut url = self.route(&["watch"]);
        if let Some(submission) = wait.submission {
            url.query_pairs_mut().append_pair("submission", &submission.to_string());
            if wait.ends {
                url.query_pairs_mut().append_pair("ends", "true");
            }
            return Ok(Sse::new(self, action, url));
        }
        let request = WatchRequest { jobs: wait.jobs.to_vec(), ends: wait.ends };
        let body = serde_json::to_vec(&request).map_err(|error| self.makes_no_sense(action, error.to_string()))?;
        Ok(Sse::new(self, action, url).with_body(Bytes::from(body)))
    }

    /// All that is known of jobs, in this order.
    async fn views(&self, jobs: &[JobId], submission: Option<SubmissionId>) -> Result<Vec<JobView>, ClientError> {
        let mut found = HashMap::new();
        if let Some(submission) = submission.filter(|_| jobs.len() > ONE_BY_ONE) {
            let mut query = ListQuery { submission: Some(submission), limit: Some(PAGE), ..ListQuery::default() };
            loop {
                let page = self.list(&query).await?;
                found.extend(page.jobs.into_iter().map(|view| (view.job_id, view)));
                match page.next_cursor {
                    Some(cursor) => query.cursor = Some(cursor),
                    None => break,
                }
            }
        }
        let mut views = Vec::with_capacity(jobs.len());
        for id in jobs {
            views.push(match found.remove(id) {
                Some(view) => view,
                None => self.job(*id).await?,
            });
        }
        Ok(views)
    }
}
