//! Many small jobs on one repository that `cvmfs_server` publishes: bare commands one after the other, beside Conveyor with
//! batches of one, with batches, and with batches of which every fiftieth job fails.
//!
//! `CONVEYOR_BENCH_REPOSITORY=NAME cargo bench --bench publisher -- [--jobs 100]`, as root or the repository's owner, on a
//! machine with that repository. It publishes into it, below `/bench-…`. Server and worker are processes of their own. One
//! JSON line a figure. Without the variable it says so and ends.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use conveyor::client::Client;
use conveyor::domain::ids::JobId;
use conveyor::domain::job::spec::{JobSpec, Payload, Publish, Source, Work};
use conveyor::domain::job::state::JobState;
use conveyor::domain::names::{LeasePath, RepositoryName};
use conveyor::domain::token::Token;
use serde_json::json;

const TOKEN: &str = "benchmark";
/// Files of each job.
const FILES: usize = 10;
/// One job in so many fails, where some do.
const ONE_FAILS_IN: usize = 50;

/// Server and worker; they end with this.
struct Running {
    client: Client,
    processes: Vec<Child>,
    _state: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| arguments.iter().position(|word| word == name).and_then(|at| arguments.get(at + 1));
    let jobs = after("--jobs").map_or(100, |number| number.parse().expect("--jobs takes a number"));
    let Ok(name) = std::env::var("CONVEYOR_BENCH_REPOSITORY") else {
        println!("skipped: CONVEYOR_BENCH_REPOSITORY names no repository that cvmfs_server publishes here");
        return;
    };
    let repository = RepositoryName::new(name).expect("CONVEYOR_BENCH_REPOSITORY is a repository's name");
    let bare = bare(&repository, jobs);
    say("bare commands", jobs, bare, jobs, None, json!({}));
    for (what, batch, failing) in
        [("batches of one", 1, false), ("batches", 1000, false), ("batches, one job in 50 fails", 1000, true)]
    {
        let running = start(&repository, batch).await;
        let (took, revisions, figures) = conveyor(&running.client, &repository, jobs, failing).await;
        say(what, jobs, took, revisions, Some(bare), figures);
    }
}

fn say(what: &str, jobs: usize, took: Duration, revisions: usize, bare: Option<Duration>, more: serde_json::Value) {
    let seconds = took.as_secs_f64();
    let ratio = bare.map(|bare| bare.as_secs_f64() / seconds);
    println!(
        "{}",
        json!({
            "name": what, "jobs": jobs, "seconds": round(seconds), "ms_per_job": round(1000.0 * seconds / jobs as f64),
            "ms_per_revision": round(1000.0 * seconds / revisions as f64), "revisions": revisions,
            "times_bare": ratio.map(round), "mean_ms": more,
        })
    );
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// What a person would type, for each job: the seconds of all of them.
fn bare(repository: &RepositoryName, jobs: usize) -> Duration {
    let began = Instant::now();
    let top = Path::new("/cvmfs").join(repository.as_str()).join(format!("bench-bare-{}", std::process::id()));
    for job in 0..jobs {
        cvmfs_server(&["transaction", repository.as_str()]);
        let directory = top.join(job.to_string());
        std::fs::create_dir_all(&directory).unwrap();
        for file in 0..FILES {
            std::fs::write(directory.join(file.to_string()), content(job, file)).unwrap();
        }
        cvmfs_server(&["publish", repository.as_str()]);
    }
    began.elapsed()
}

fn cvmfs_server(words: &[&str]) {
    // Not to a pipe: a remount leaves a process that keeps it open.
    let log = tempfile::tempfile().unwrap();
    let (out, err) = (log.try_clone().unwrap(), log);
    let status = Command::new("cvmfs_server")
        .args(words)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .status()
        .unwrap();
    assert!(status.success(), "cvmfs_server {words:?} ended with {status}");
}

fn content(job: usize, file: usize) -> String {
    format!("job {job}, file {file}, of {}\n", uuid::Uuid::now_v7())
}

/// Starts server and worker as users would.
async fn start(repository: &RepositoryName, batch: usize) -> Running {
    let state = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = |name: &str| state.path().join(name).display().to_string();
    write_private(&state.path().join("token"), TOKEN);
    let url = format!("http://127.0.0.1:{port}");
    let text = format!(
        "[client]\nurl = \"{url}\"\n[server]\nlisten = [\"127.0.0.1:{port}\"]\nstate_dir = {:?}\ntoken_file = {token:?}\n\
         [batches]\nmax_jobs = {batch}\n[repositories.\"{repository}\"]\n[worker]\ntoken_file = {token:?}\nstate_dir = {:?}\n\
         publisher = \"cvmfs-server\"\nrepositories = [\"{repository}\"]\n",
        path("server"),
        path("worker"),
        token = path("token"),
    );
    let config = state.path().join("config.toml");
    write_private(&config, &text);
    let start = |role: &str| {
        let mut command = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_conveyor")));
        let log = std::fs::File::create(state.path().join(format!("{role}.log"))).unwrap();
        command.arg("-c").arg(&config).arg(role).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.spawn().unwrap()
    };
    let mut processes = vec![start("server")];
    let client = Client::new(&url, Some(Token::new(TOKEN).unwrap())).unwrap();
    while client.workers().await.is_err() {}
    processes.push(start("worker"));
    while client.workers().await.unwrap().workers.is_empty() {}
    Running { client, processes, _state: state }
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Submits all jobs one by one and waits for the last; the time, the revisions, and the means of what workers tell.
async fn conveyor(
    client: &Client,
    repository: &RepositoryName,
    jobs: usize,
    failing: bool,
) -> (Duration, usize, serde_json::Value) {
    let top = format!("bench-{}", uuid::Uuid::now_v7().simple());
    let mut specs = Vec::with_capacity(jobs);
    for job in 0..jobs {
        let archive = match failing && job % ONE_FAILS_IN == ONE_FAILS_IN / 2 {
            true => b"this is no archive".to_vec(),
            false => archive(job),
        };
        let digest = client.put_blob(archive.into()).await.unwrap().digest;
        specs.push(spec(repository, &format!("/{top}/{job}"), digest));
    }
    let began = Instant::now();
    for spec in &specs {
        client.submit(std::slice::from_ref(spec), None).await.unwrap();
    }
    let ids: Vec<JobId> = specs.iter().map(|spec| spec.id).collect();
    let ended = client.wait(&ids, None, None, |_| {}).await.unwrap();
    let took = began.elapsed();
    let mut by_revision: BTreeMap<u64, BTreeMap<String, String>> = BTreeMap::new();
    let mut failed = 0;
    for job in &ended {
        match &job.status {
            JobState::Succeeded { revision, .. } => drop(by_revision.insert(*revision, job.outputs.clone())),
            _ => failed += 1,
        }
    }
    let expected = if failing { jobs.div_ceil(ONE_FAILS_IN) } else { 0 };
    assert!(failed <= expected, "{failed} jobs failed");
    let mut means = serde_json::Map::new();
    let keys: Vec<String> =
        by_revision.values().flat_map(BTreeMap::keys).filter(|key| key.ends_with("_ms")).cloned().collect();
    for key in keys {
        let values = by_revision.values().filter_map(|outputs| outputs.get(&key)?.parse::<f64>().ok());
        let (count, sum) = values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
        means.insert(key, json!(round(sum / count)));
    }
    (took, by_revision.len(), means.into())
}

fn archive(job: usize) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in 0..FILES {
        let content = content(job, file);
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, file.to_string(), content.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

fn spec(repository: &RepositoryName, path: &str, digest: conveyor::domain::digest::Sha256Digest) -> JobSpec {
    let publish = Publish {
        repository: repository.clone(),
        lease_path: LeasePath::new(path).unwrap(),
        payload: Payload::Tarball { source: Source::Blob { digest } },
        publish_anyway: false,
        dry_run: false,
    };
    JobSpec {
        id: JobId(uuid::Uuid::now_v7()),
        name: "benchmark".into(),
        work: Work::Publish(publish),
        dependencies: Vec::new(),
        priority: 0,
        attempts: 1,
        timeout_s: 600,
        alone: false,
        deadline: None,
        visible_at: Vec::new(),
        visible_within_s: None,
        labels: BTreeMap::new(),
        submitter: "benchmark".into(),
    }
}
