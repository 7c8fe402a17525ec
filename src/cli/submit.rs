//! `conveyor submit`.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::context::Context;
use super::failure::{FAILED, Usage, tell};
use super::payload::{Origin, last_segment, parse_old};
use super::{changes, ended, progress, spec_file, upload};
use crate::client::{Client, ClientError, Waited};
use crate::domain::digest::{Checksum, Sha256Digest};
use crate::domain::ids::{JobId, SubmissionId};
use crate::domain::job::spec::{
    Condition, DEFAULT_ATTEMPTS, DEFAULT_TIMEOUT_S, Dependency, JobSpec, Payload, Publish, Source, Work,
};
use crate::domain::job::state::StateKind;
use crate::domain::names::{LeasePath, RepositoryName};
use crate::domain::protocol::SubmitReply;

/// Failed jobs whose logs are shown: each costs a request, and nobody reads more.
const MOST_LOGS: usize = 10;

/// Arguments of `conveyor submit`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["tarball", "script", "delete", "payload", "spec"]))]
pub(super) struct SubmitArgs {
    /// Repository to publish into, such as software.example.org
    #[arg(short, long, visible_alias = "repository", value_name = "NAME", required_unless_present = "spec")]
    repo: Option<RepositoryName>,
    /// Path in the repository that the job may write under; "" is the root
    #[arg(short, long, value_name = "PATH", default_value = "/")]
    lease_path: LeasePath,
    /// Archive (tar, plain or gzip, zstd, xz) to unpack into the lease path
    #[arg(long, value_name = "FILE|URL")]
    tarball: Option<String>,
    /// Program to run as `script REPOSITORY LEASE_PATH ARG…` in the repository's root
    #[arg(long, value_name = "FILE|URL")]
    script: Option<String>,
    /// Path to remove, from the repository's root; may be repeated
    #[arg(long, value_name = "PATH")]
    delete: Vec<String>,
    /// Payload as the old conveyor wrote it: 'script|URL' or 'script|URL|ARG'; "" publishes without a change
    #[arg(short, long)]
    payload: Option<String>,
    /// File with one job or an array of jobs as JSON; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["args", "repo", "lease_path", "job_name", "checksum", "deps", "priority", "attempts", "timeout", "alone", "publish_anyway", "dry_run", "deadline", "visible_at", "visible_within", "labels", "id"])]
    spec: Option<PathBuf>,
    /// Arguments of the script
    #[arg(value_name = "ARG")]
    args: Vec<String>,
    /// What the tarball or script must hash to: [md5|sha1|sha256:]HEX
    #[arg(long)]
    checksum: Option<Checksum>,
    /// Name of the job [default: the payload's file name]
    #[arg(short, long, visible_alias = "name", value_name = "NAME")]
    job_name: Option<String>,
    /// Jobs that must succeed before this one runs, separated by commas
    #[arg(short, long, value_name = "ID,…", value_delimiter = ',')]
    deps: Vec<String>,
    /// From -100 to 100; higher goes first
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, default_value_t = 0)]
    priority: i32,
    /// How often it may be tried in all
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_ATTEMPTS)]
    attempts: u32,
    /// Time limit of one attempt's payload
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_TIMEOUT_S)]
    timeout: u32,
    /// Share no publish with other jobs: for a script that should not run a second time because of another job
    #[arg(long)]
    alone: bool,
    /// Make a revision also where the payload changes nothing
    #[arg(long, conflicts_with = "dry_run")]
    publish_anyway: bool,
    /// Publish nothing; with --wait the paths that would change are printed, each behind A (added), M (modified) or D (removed)
    #[arg(long)]
    dry_run: bool,
    /// Give up what is not permitted to publish by then: a time such as 2026-12-24T18:00:00Z, or a span such as 90m or 2h30m
    #[arg(long, value_name = "TIME|SPAN", value_parser = moment)]
    deadline: Option<Timestamp>,
    /// Succeed only once this base of the repository serves the job's revision, such as http://HOST/cvmfs/NAME; may be repeated
    #[arg(long, value_name = "URL")]
    visible_at: Vec<url::Url>,
    /// How long to wait for that [default: 3600]
    #[arg(long, value_name = "SECONDS", requires = "visible_at")]
    visible_within: Option<u32>,
    /// Word to find the job by; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Id of the job, a UUID of version 7: submitting it again is no second job
    #[arg(long, value_name = "UUID")]
    id: Option<JobId>,
    /// Wait for the end; exit with 1 unless the job succeeds
    #[arg(short, long)]
    wait: bool,
}

/// Reads `key=value`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.into(), value.into())).ok_or_else(|| "write it as KEY=VALUE".into())
}

/// Reads a time, or a span from now on.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let span: SignedDuration = text.parse().map_err(|_| "write a time as 2026-12-24T18:00:00Z or a span as 90m")?;
    Timestamp::now().checked_add(span).map_err(|_| "this is too far away".into())
}

/// Reads ids that were separated by commas; empty ones do not count.
pub(super) fn ids(texts: &[String]) -> Result<Vec<JobId>, Usage> {
    let parse = |text: &str| text.parse().map_err(|error| Usage::new(format!("{text:?} is not a job id: {error}")));
    texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).map(parse).collect()
}

/// A job whose bytes may still be on this machine.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) spec: JobSpec,
    /// What its source's place holder stands for.
    pub(super) file: Option<PathBuf>,
}

impl SubmitArgs {
    /// The job that the arguments describe, checked.
    pub(super) fn draft(&self) -> Result<Draft, Usage> {
        let repository = self.repo.clone().ok_or_else(|| Usage::new("the repository is missing: --repo NAME"))?;
        if self.checksum.is_some() && self.tarball.is_none() && self.script.is_none() {
            return Err(Usage::new("--checksum is about a --tarball or --script"));
        }
        if !self.args.is_empty() && self.script.is_none() {
            return Err(Usage::new(format!(
                "{:?} belongs to no option; only a --script takes arguments",
                self.args[0]
            )));
        }
        let (payload, file, name) = self.payload()?;
        let dependency = |job_id| Dependency { job_id, condition: Condition::Success };
        let spec = JobSpec {
            id: self.id.unwrap_or_else(|| JobId(Uuid::now_v7())),
            name: self.job_name.clone().filter(|name| !name.is_empty()).unwrap_or(name),
            work: Work::Publish(Publish {
                repository,
                lease_path: self.lease_path.clone(),
                payload,
                publish_anyway: self.publish_anyway,
                dry_run: self.dry_run,
            }),
            dependencies: ids(&self.deps)?.into_iter().map(dependency).collect(),
            priority: self.priority,
            attempts: self.attempts,
            timeout_s: self.timeout,
            alone: self.alone,
            deadline: self.deadline,
            visible_at: self.visible_at.clone(),
            visible_within_s: self.visible_within,
            labels: self.labels.iter().cloned().collect(),
            submitter: spec_file::submitter(),
        };
        spec.validate().map_err(|error| Usage::new(error.to_string()))?;
        Ok(Draft { spec, file })
    }

    /// The payload, the local file in it, and what the job is called when nobody says.
    fn payload(&self) -> Result<(Payload, Option<PathBuf>, String), Usage> {
        if let Some(text) = self.tarball.as_ref().or(self.script.as_ref()) {
            let origin = Origin::parse(text)?;
            let name = origin.name().unwrap_or_else(|| "job".into());
            let (source, file) = match origin {
                Origin::File(path) => (Source::Blob { digest: Sha256Digest::new([0; 32]) }, Some(path)),
                Origin::Url(url) => (Source::Url { url, checksum: self.checksum }, None),
            };
            let script = self.script.is_some();
            let payload =
                if script { Payload::Script { source, args: self.args.clone() } } else { Payload::Tarball { source } };
            return Ok((payload, file, name));
        }
        if !self.delete.is_empty() {
            return Ok((Payload::Delete { paths: self.delete.clone() }, None, "delete".into()));
        }
        if self.payload.is_none() {
            tell("note: no payload is given, so this publishes without a change (-p '' says so)");
        }
        let (payload, note) = parse_old(self.payload.as_deref().unwrap_or(""))?;
        if let Some(note) = note {
            tell(&format!("note: {note}"));
        }
        let name = match payload.source() {
            Some(Source::Url { url, .. }) => last_segment(url).unwrap_or_else(|| "script".into()),
            _ => "empty".into(),
        };
        Ok((payload, None, name))
    }
}

/// Submits what the arguments describe.
pub(super) async fn run(args: SubmitArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let drafts = match &args.spec {
        Some(path) => spec_file::read(path)?.into_iter().map(|spec| Draft { spec, file: None }).collect(),
        None => vec![args.draft()?],
    };
    let client = context.client()?;
    let mut jobs = Vec::with_capacity(drafts.len());
    for Draft { mut spec, file } in drafts {
        if let Some(path) = file {
            let uploaded = upload::upload(&client, &path, args.checksum).await?;
            let Work::Publish(publish) = &mut spec.work;
            if let Payload::Script { source, .. } | Payload::Tarball { source } = &mut publish.payload {
                *source = Source::Blob { digest: uploaded };
            }
        }
        jobs.push(spec);
    }
    let reply =
        client.submit(&jobs, Some(SubmissionId(Uuid::now_v7()))).await.inspect_err(|error| doubt(error, &jobs))?;
    for (job, spec) in reply.jobs.iter().zip(&jobs) {
        if context.output.is_json() {
            // Scripts of the old program read the last line: `tail -1 | jq -r .job_id`.
            context.output.json(&json!({
                "level": "info",
                "message": "job submitted successfully",
                "job_id": job.job_id,
                "name": spec.name,
                "state": job.state,
                "created": job.created,
                "submission_id": reply.submission_id,
            }))?;
        } else {
            let again = if job.created { "" } else { "; it was submitted before" };
            context.output.line(&format!("submitted {} ({}), {}{again}", job.job_id, spec.name, job.state))?;
        }
    }
    if !args.wait {
        return Ok(ExitCode::SUCCESS);
    }
    let dry_runs = jobs.iter().filter(|job| job.publish().dry_run).map(|job| job.id).collect();
    wait(&reply, &dry_runs, &client, context).await
}

pub(super) async fn wait(
    reply: &SubmitReply,
    dry_runs: &HashSet<JobId>,
    client: &Client,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let ids: Vec<JobId> = reply.jobs.iter().map(|job| job.job_id).collect();
    // A job that was there before may be of another submission.
    let submission = reply.jobs.iter().all(|job| job.created).then_some(reply.submission_id);
    let Waited { mut ended, unknown } = progress::wait(client, &ids, submission, context.config.wait_limit()).await?;
    // Whoever reads only the end should read of the failure.
    ended.sort_by_key(|job| job.state != StateKind::Succeeded);
    let mut logs = MOST_LOGS;
    for job in &ended {
        if job.state == StateKind::Succeeded && dry_runs.contains(&job.job_id) {
            changes::print_dry_run(job.job_id, client, context.output).await?;
        }
        ended::announce(job, client, context.output, logs > 0).await?;
        if job.state == StateKind::Failed {
            logs = logs.saturating_sub(1);
        }
    }
    for id in &unknown {
        tell(&format!("error: job {id} is no longer known to {}", client.url()));
    }
    let good = unknown.is_empty() && ended.iter().all(|job| job.state == StateKind::Succeeded);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// Without an answer the jobs may have been accepted all the same.
fn doubt(error: &ClientError, jobs: &[JobSpec]) {
    let sent = match error {
        ClientError::Unreachable { source, .. } => !source.is_connect(),
        ClientError::Answer { .. } => true,
        _ => error.is_transient(),
    };
    if let ([job], true) = (jobs, sent) {
        tell(&format!(
            "note: the job may have been accepted; the same command with --id {} asks again without a second job",
            job.id
        ));
    }
}
