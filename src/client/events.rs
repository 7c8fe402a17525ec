//! What happens to jobs, as it happens.

use super::sse::{Sse, SseItem};
use super::{Client, ClientError};
use crate::domain::ids::{JobId, SubmissionId};
use crate::domain::job::LoggedEvent;
use crate::domain::progress::JobProgress;

/// What an [`EventStream`] brings.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamItem {
    /// A connection stands. What is read from now on is not older than what the stream will say.
    Opened,
    /// Something happened to a job.
    Job(Box<LoggedEvent>),
    /// How far a running job has come.
    Progress(JobProgress),
    /// Events are missing, or one was not understood: read the states anew.
    Reset,
}

/// Events of jobs over as many connections as it takes.
pub struct EventStream(Sse);

impl Client {
    /// Events of all jobs or of one submission, from after event number `after` where it is given.
    pub fn events(&self, submission: Option<SubmissionId>, after: Option<u64>) -> EventStream {
        let mut url = self.route(&["events"]);
        if let Some(submission) = submission {
            url.query_pairs_mut().append_pair("submission", &submission.to_string());
        }
        if let Some(after) = after {
            url.query_pairs_mut().append_pair("after", &after.to_string());
        }
        EventStream(Sse::new(self, "follow the events", url))
    }

    /// Events of one job.
    pub fn job_events(&self, job: JobId) -> EventStream {
        EventStream(Sse::new(self, "follow the job", self.route(&["jobs", &job.to_string(), "events"])))
    }
}

impl EventStream {
    /// Waits for what comes next. It may be dropped and called again without losing anything.
    pub async fn next(&mut self) -> Result<StreamItem, ClientError> {
        loop {
            match self.0.next().await? {
                SseItem::Opened => return Ok(StreamItem::Opened),
                SseItem::Message(message) if message.event == "reset" => return Ok(StreamItem::Reset),
                SseItem::Message(message) if message.event == "job" => {
                    // A newer server may know events that this client does not.
                    return Ok(serde_json::from_str(&message.data)
                        .map_or(StreamItem::Reset, |event| StreamItem::Job(Box::new(event))));
                }
                SseItem::Message(message) if message.event == "progress" => {
                    // It is only shown: what is not understood is left out.
                    if let Ok(progress) = serde_json::from_str(&message.data) {
                        return Ok(StreamItem::Progress(progress));
                    }
                }
                SseItem::Message(_) => {}
            }
        }
    }
}
