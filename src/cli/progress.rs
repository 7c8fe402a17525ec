//! Waiting, with something to look at: on a terminal a line for each job, elsewhere nothing.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::ended::remark;
use super::output::printable;
use crate::client::{Change, Client, Wait, Waited};
use crate::domain::ids::{JobId, SubmissionId};
use crate::domain::job::event::JobEvent;
use crate::domain::job::state::StateKind;
use crate::domain::progress::JobProgress;

/// With more jobs there is one line for all.
const MOST_LINES: usize = 15;

/// Lines on standard error that follow the jobs.
struct Lines {
    states: HashMap<JobId, StateKind>,
    counts: HashMap<StateKind, usize>,
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
        Self { states: HashMap::new(), counts: HashMap::new(), bars, all }
    }

    fn show(&mut self, job: JobId, state: StateKind, name: Option<&str>, remark: &str) {
        // Counted as they come: to count thousands anew for each event would take longer than the jobs.
        *self.counts.entry(state).or_default() += 1;
        if let Some(count) = self.states.insert(job, state).and_then(|before| self.counts.get_mut(&before)) {
            *count -= 1;
        }
        if let Some(all) = &self.all {
            let count =
                |kind: StateKind| self.counts.get(&kind).filter(|count| **count > 0).map(|n| format!("{n} {kind}"));
            all.set_message(StateKind::ALL.into_iter().filter_map(count).collect::<Vec<_>>().join(", "));
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
        if let (Some(line), Some(state @ (StateKind::Running | StateKind::Distributing))) =
            (self.bars.get(&of.job_id), self.states.get(&of.job_id))
        {
            line.say(*state, &of.progress.to_string());
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
        JobEvent::Unchanged { .. } => "nothing was published".into(),
        JobEvent::AttemptFailed { failure, .. } => failure.message.clone(),
        JobEvent::Busy { holder, .. } => holder.clone(),
        JobEvent::WorkerLost { node } => format!("waits for node {node}, whose worker was lost"),
        JobEvent::RecoveryGivenUp { reason } => format!("needs an operator: {reason}"),
        _ => String::new(),
    }
}

/// Waits for jobs to end. Elsewhere than on a terminal nothing is shown, and nothing but the ends is asked for.
pub(super) async fn wait(
    client: &Client,
    jobs: &[JobId],
    submission: Option<SubmissionId>,
    limit: Option<Duration>,
) -> anyhow::Result<Waited> {
    let mut lines = Lines::new(jobs);
    let ends = !std::io::stderr().is_terminal();
    let waited = client
        .wait_for(Wait { jobs, submission, limit, ends }, |change| match change {
            _ if ends => {}
            Change::Seen(job) => lines.show(job.job_id, job.state, Some(&job.name), &remark(job)),
            Change::Progress(progress) => lines.show_progress(progress),
            Change::Event(event) => lines.show(event.job_id, event.state, None, &news(&event.event)),
        })
        .await;
    lines.bars.values().for_each(|line| line.bar.finish());
    lines.all.iter().for_each(ProgressBar::finish);
    Ok(waited?)
}
