//! A few real jobs: a program, the tree that it came from, a script that runs what was published, and one that fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use super::place::Place;
use super::sources;
use crate::cli::Context;
use crate::cli::upload::upload;
use crate::client::Client;
use crate::cvmfs::reader::Expiry;
use crate::domain::ids::JobId;
use crate::domain::job::spec::{Condition, DEFAULT_TIMEOUT_S, Dependency, JobSpec, Payload, Publish, Source, Work};
use crate::domain::job::state::{JobState, StateKind};
use crate::domain::names::{LeasePath, RepositoryName};
use crate::domain::protocol::JobView;
use crate::domain::token::Token;

/// Runs the program that the first job published, out of its check-out of the lease path.
const STAMP: &str = "#!/bin/sh\nset -e\n./tools/conveyor/bin/conveyor --version | tee tools/conveyor/VERSION\n";
/// A job that cannot succeed.
const BROKEN: &str = "#!/bin/sh\necho 'looking for a compiler that is not here'\nexit 3\n";

/// Submits the demo's jobs, waits for them, tells what happened. Fails unless exactly the job that must fail failed.
pub(super) async fn run(place: &Place, url: &str, context: &Context) -> anyhow::Result<ExitCode> {
    let client = Client::new(url, Some(Token::new(&place.token)?))?;
    let repository = place.repositories.first().context("no repository")?;
    let jobs = submit(&client, repository).await?;
    let ended = client.wait(&jobs.map(|(id, _)| id), None, None, |_| {}).await?;
    for job in &ended {
        tell(job, &client, context).await?;
    }
    history(place, repository, context)?;
    if !context.output.is_json() {
        how_to_mount(place, repository, url, context)?;
    }
    let as_planned = ended.iter().zip(&jobs).all(|(job, (_, expected))| job.state == *expected);
    anyhow::ensure!(as_planned, "the demo did not go as it should: a job ended otherwise than planned");
    Ok(ExitCode::SUCCESS)
}

/// The jobs, each with the state that it must end in.
async fn submit(client: &Client, repository: &RepositoryName) -> anyhow::Result<[(JobId, StateKind); 4]> {
    let folder = tempfile::tempdir().context("cannot make a temporary directory")?;
    let (program, tree) = (folder.path().join("program.tar.zst"), folder.path().join("tree.tar.zst"));
    let (to, and) = (program.clone(), tree.clone());
    tokio::task::spawn_blocking(move || sources::program(&to).and_then(|()| sources::tree(&and))).await??;
    let program = Payload::Tarball { source: uploaded(client, &program).await? };
    let tree = Payload::Tarball { source: uploaded(client, &tree).await? };
    let stamp = Payload::Script { source: blob(client, STAMP).await?, args: Vec::new() };
    let broken = Payload::Script { source: blob(client, BROKEN).await?, args: Vec::new() };

    let program = spec("the program itself", repository, "/tools/conveyor", program, &[])?;
    let tree = spec("the tree it was built from", repository, "/sources/conveyor", tree, &[program.id])?;
    let stamp = spec("run what was published", repository, "/tools/conveyor", stamp, &[program.id])?;
    let broken = JobSpec { attempts: 1, ..spec("a job that fails on purpose", repository, "/broken", broken, &[])? };
    let jobs = [
        (program.id, StateKind::Succeeded),
        (tree.id, StateKind::Succeeded),
        (stamp.id, StateKind::Succeeded),
        (broken.id, StateKind::Failed),
    ];
    client.submit(&[program, tree, stamp, broken], None).await?;
    Ok(jobs)
}

fn spec(
    name: &str,
    repository: &RepositoryName,
    lease_path: &str,
    payload: Payload,
    after: &[JobId],
) -> anyhow::Result<JobSpec> {
    let dependencies =
        after.iter().map(|job_id| Dependency { job_id: *job_id, condition: Condition::Success }).collect();
    Ok(JobSpec {
        id: JobId(uuid::Uuid::now_v7()),
        name: name.into(),
        work: Work::Publish(Publish::new(repository.clone(), LeasePath::new(lease_path)?, payload)),
        dependencies,
        priority: 0,
        attempts: 2,
        timeout_s: DEFAULT_TIMEOUT_S,
        alone: false,
        deadline: None,
        visible_at: Vec::new(),
        visible_within_s: None,
        labels: BTreeMap::from([("demo".into(), "yes".into())]),
        submitter: "conveyor dev --demo".into(),
    })
}

async fn blob(client: &Client, text: &'static str) -> anyhow::Result<Source> {
    let digest = client.put_blob(bytes::Bytes::from_static(text.as_bytes())).await?.digest;
    Ok(Source::Blob { digest })
}

async fn uploaded(client: &Client, file: &Path) -> anyhow::Result<Source> {
    Ok(Source::Blob { digest: upload(client, file, None).await? })
}

async fn tell(job: &JobView, client: &Client, context: &Context) -> anyhow::Result<()> {
    if context.output.is_json() {
        return context.output.json(job);
    }
    let detail = match &job.status {
        JobState::Succeeded { revision, .. } => {
            let output = |name: &str| job.outputs.get(name).map_or("?", String::as_str);
            format!("revision {revision}, {} paths, published in {} ms", output("paths_changed"), output("publish_ms"))
        }
        JobState::Failed { failure, .. } => failure.message.clone(),
        state => state.kind().to_string(),
    };
    context.output.line(&format!("{:<10} {:<28} {detail}", job.state.as_str(), job.name))?;
    if job.state == StateKind::Failed {
        let log = client.log(job.job_id, None, Some(2000)).await?;
        for line in String::from_utf8_lossy(&log).lines() {
            context.output.line(&format!("           | {line}"))?;
        }
    }
    Ok(())
}

/// The chain of revisions, as the repository itself has it.
fn history(place: &Place, repository: &RepositoryName, context: &Context) -> anyhow::Result<()> {
    let reader = place.stratum0(repository).reader(Expiry::Ignore)?;
    let tags = reader.tags()?;
    for revision in reader.revisions() {
        let revision = revision?;
        let tag = tags.iter().find(|tag| tag.revision == revision.revision && tag.name.starts_with("cj-"));
        let tag = tag.map_or("", |tag| tag.name.as_str());
        if context.output.is_json() {
            context.output.json(&serde_json::json!({"revision": revision.revision, "root_hash": revision.root_hash.to_string(), "tag": tag}))?;
        } else {
            context.output.line(&format!("revision {:<4} {} {tag}", revision.revision, revision.root_hash))?;
        }
    }
    Ok(())
}

fn how_to_mount(place: &Place, repository: &RepositoryName, url: &str, context: &Context) -> anyhow::Result<()> {
    let key = place.public_key(repository);
    context.output.line("")?;
    context.output.line("To mount it with the CernVM-FS client, while `conveyor dev` runs, as root:")?;
    for line in [
        "mkdir -p /tmp/cvmfs-cache".to_owned(),
        format!("printf '%s\\n' CVMFS_SERVER_URL={url}/cvmfs/{repository} CVMFS_HTTP_PROXY=DIRECT \\"),
        format!("  CVMFS_PUBLIC_KEY={} CVMFS_SHARED_CACHE=no \\", key.display()),
        "  CVMFS_CACHE_BASE=/tmp/cvmfs-cache CVMFS_RELOAD_SOCKETS=/tmp/cvmfs-cache >/tmp/cvmfs.conf".to_owned(),
        format!("mkdir -p /mnt/{repository} && cvmfs2 -o config=/tmp/cvmfs.conf {repository} /mnt/{repository}"),
    ] {
        context.output.line(&format!("  {line}"))?;
    }
    Ok(())
}
