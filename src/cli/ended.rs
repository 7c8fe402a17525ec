//! How a job stands or ended, for people and for programs.

use serde_json::{Map, Value, json};

use super::failure::tell;
use super::output::{Output, printable};
use crate::client::Client;
use crate::domain::job::state::{JobState, StateKind};
use crate::domain::standing::JobStanding;

/// Lines of the log that are shown with a failure.
const TAIL_LINES: usize = 20;
/// Bytes that are fetched for them.
const TAIL_BYTES: u64 = 16 * 1024;

/// What is to be known about a job beyond its state, in one sentence.
pub(super) fn remark(job: &JobStanding) -> String {
    match &job.status {
        JobState::Queued if !job.held.is_empty() => job.held.join("; "),
        JobState::Queued => match job.ahead {
            None => String::new(),
            Some(0) => "first of its repository".into(),
            Some(1) => "one job of its repository goes first".into(),
            Some(ahead) => format!("{ahead} jobs of its repository go first"),
        },
        JobState::Waiting | JobState::Cancelled => String::new(),
        JobState::AwaitingApproval => "waits for somebody's approval".into(),
        JobState::Backoff { until, reason } => format!("until {until}: {reason}"),
        JobState::Offered { .. } => "waits for a worker".into(),
        JobState::Running { node, cancel_requested, .. } => {
            let mut remark = format!("on {node}");
            if *cancel_requested {
                remark += ", to be cancelled";
            }
            match job.progress.map(|progress| progress.to_string()) {
                Some(said) if !said.is_empty() => remark + ", " + &said,
                _ => remark,
            }
        }
        JobState::Recovering { node, .. } => format!("waits for node {node}, whose worker was lost"),
        JobState::NeedsOperator { node, reason, .. } => format!("needs an operator (was on {node}): {reason}"),
        JobState::Distributing { revision, unchanged, until, .. } => {
            let what = if *unchanged { "nothing was to be published" } else { "published" };
            let seen = job
                .progress
                .map_or_else(|| format!("replicas do not serve revision {revision} yet"), |seen| seen.to_string());
            let until = until.map(|until| format!(", until {until}")).unwrap_or_default();
            format!("{what}; {seen}{until}")
        }
        JobState::Succeeded { revision, root_hash, unchanged: true } => {
            format!("nothing was published; the repository is at revision {revision} ({root_hash})")
        }
        JobState::Succeeded { revision, root_hash, .. } if root_hash.is_empty() => {
            format!("revision {revision}, as an operator said")
        }
        JobState::Succeeded { revision, root_hash, .. } => format!("revision {revision} ({root_hash})"),
        JobState::Failed { failure, .. } => failure.message.clone(),
        JobState::Skipped { dependency } => format!("because of job {dependency}"),
    }
}

/// A job as one compact object: `job_id`, `name`, `state`, `attempt`, and what is known of its end.
pub(super) fn line(job: &JobStanding) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("job_id".into(), json!(job.job_id));
    line.insert("name".into(), json!(job.name));
    line.insert("state".into(), json!(job.state));
    line.insert("attempt".into(), json!(job.attempt));
    if job.state.is_final() {
        line.insert("success".into(), json!(job.state == StateKind::Succeeded));
    }
    if let Some(progress) = &job.progress {
        line.insert("progress".into(), json!(progress));
    }
    match &job.status {
        JobState::Succeeded { revision, root_hash, unchanged } => {
            line.insert("published".into(), json!(!unchanged));
            line.insert("revision".into(), json!(revision));
            line.insert("root_hash".into(), json!(root_hash));
        }
        JobState::Failed { failure, published } => {
            if let Some(published) = published {
                line.insert("published".into(), json!(!published.unchanged));
                line.insert("revision".into(), json!(published.revision));
                line.insert("root_hash".into(), json!(published.root_hash));
            }
            line.insert("error".into(), json!(failure.message));
            line.insert("error_code".into(), json!(failure.code));
        }
        status => {
            if let JobState::Distributing { revision, root_hash, unchanged, .. } = status {
                line.insert("published".into(), json!(!unchanged));
                line.insert("revision".into(), json!(revision));
                line.insert("root_hash".into(), json!(root_hash));
            }
            let remark = remark(job);
            if !remark.is_empty() {
                line.insert("remark".into(), json!(remark));
            }
        }
    }
    line
}

/// Says how a job that was waited for ended: on standard output, and where it failed why, on standard error, with the end of
/// its log where that is wanted.
pub(super) async fn announce(job: &JobStanding, client: &Client, output: Output, with_log: bool) -> anyhow::Result<()> {
    let success = job.state == StateKind::Succeeded;
    if !success {
        tell(&format!("job {} ({}) {}: {}", job.job_id, printable(&job.name), job.state, printable(&remark(job))));
    }
    if job.state == StateKind::Failed && with_log {
        tell_log(job, client).await;
    }
    if output.is_json() {
        let mut line = line(job);
        line.insert("level".into(), json!(if success { "info" } else { "error" }));
        line.insert("message".into(), json!("job finished"));
        output.json(&line)
    } else if success {
        output.line(&format!("job {} ({}) succeeded: {}", job.job_id, printable(&job.name), printable(&remark(job))))
    } else {
        Ok(())
    }
}

/// The end of a failed job's log. That there is none is no reason to fail a second time.
async fn tell_log(job: &JobStanding, client: &Client) {
    let Ok(log) = client.log(job.job_id, None, Some(TAIL_BYTES)).await else { return };
    let text = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return;
    }
    let shown = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    tell(&format!("end of its log (all of it: conveyor logs {}):", job.job_id));
    for line in shown {
        tell(&format!("  {}", printable(line)));
    }
}
