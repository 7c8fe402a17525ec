//! Waiting, with something to look at: on a terminal a line for each job, elsewhere nothing.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::ended::remark;
use super::output::printable;
use crate::client::{Change, Client};
use crate::domain::ids::{JobId, SubmissionId};
use crate::domain::job::event::JobEvent;
use crate::domain::job::state::StateKind;
use crate::domain::progress::JobProgress;
use crate::domain::protocol::JobView;

/// With more jobs there is one line for all.
const MOST_LINES: usize = 15;

/// Lines on standard error that follow the jobs.
struct Lines {
    states: HashMap<JobId, StateKind>,
    bars: HashMap<JobId, Line>,
    all: Option<ProgressBar>,
}

/// The line of one job.
struct Line {
    bar: ProgressBar,
    title: String,
    /// What is known beyond the state.
    remark: String,
}

impl Lines {
    fn new(jobs: &[JobId]) -> Self {
        let group = MultiProgress::new();
        let spinner = || {
            let bar = group.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        };
        let (mut bars, mut all) = (HashMap::new(), None);
        if jobs.len() > MOST_LINES {
            all = Some(spinner());
        } else {
            let line = |id: &JobId| Line { bar: spinner(), title: id.to_string(), remark: String::new() };
            bars.extend(jobs.iter().map(|id| (*id, line(id))));
        }
        Self { states: HashMap::new(), bars, all }
    }

    fn show(&mut self, job: JobId, state: StateKind, name: Option<&str>, remark: &str) {
        self.states.insert(job, state);
        if let Some(all) = &self.all {
            let mut counts: Vec<String> = Vec::new();
            for kind in StateKind::ALL {
                let count = self.states.values().filter(|state| **state == kind).count();
                if count > 0 {
                    counts.push(format!("{count} {kind}"));
                }
            }
            all.set_message(counts.join(", "));
        }
        if let Some(line) = self.bars.get_mut(&job) {
            if let Some(name) = name {
                line.title = format!("{job} {}", printable(name));
            }
            line.remark = printable(remark).replace('\n', " ");
            line.say(state, "");
            if state.is_final() {
                line.bar.finish();
            }
        }
    }

    fn show_progress(&mut self, of: &JobProgress) {
        // One may come late, and says nothing of a job that stands elsewhere now.
        if let (Some(line), Some(StateKind::Running)) = (self.bars.get(&of.job_id), self.states.get(&of.job_id)) {
            line.say(StateKind::Running, &of.progress.to_string());
        }
    }
}

impl Line {
    fn say(&self, state: StateKind, progress: &str) {
        let remark = [&self.remark, progress].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
        let colon = if remark.is_empty() { "" } else { ": " };
        self.bar.set_message(format!("{} {state}{colon}{}", self.title, remark.join(", ")));
    }
}

/// What an event adds to the state that it led to.
fn news(event: &JobEvent) -> String {
    match event {
        JobEvent::Claimed { node, .. } => format!("on {node}"),
        JobEvent::PublishPermitted { .. } => "publishing".into(),
        JobEvent::CancelRequested => "to be cancelled".into(),
        JobEvent::Succeeded { revision, .. } => format!("revision {revision}"),
        JobEvent::AttemptFailed { failure, .. } => failure.message.clone(),
        JobEvent::Busy { holder, .. } => holder.clone(),
        JobEvent::WorkerLost { node } => format!("waits for node {node}, whose worker was lost"),
        JobEvent::RecoveryGivenUp { reason } => format!("needs an operator: {reason}"),
        _ => String::new(),
    }
}

/// Waits for jobs to end.
pub(super) async fn wait(
    client: &Client,
    jobs: &[JobId],
    submission: Option<SubmissionId>,
    limit: Option<Duration>,
) -> anyhow::Result<Vec<JobView>> {
    let mut lines = Lines::new(jobs);
    let ended = client
        .wait(jobs, submission, limit, |change| match change {
            Change::Seen(job) => lines.show(job.job_id, job.state, Some(&job.name), &remark(job)),
            Change::Progress(progress) => lines.show_progress(progress),
            Change::Event(event) => lines.show(event.job_id, event.state, None, &news(&event.event)),
        })
        .await;
    lines.bars.values().for_each(|line| line.bar.finish());
    lines.all.iter().for_each(ProgressBar::finish);
    Ok(ended?)
}
