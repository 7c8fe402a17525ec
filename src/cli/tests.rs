//! Command lines, old and new, against a server that answers from a script.

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};

use super::failure::{CONFIG, FAILED, UNREACHABLE, USAGE, code, describe};
use super::*;
use crate::client::stub::{Reply, Stub, ended_text, job_json};
use crate::domain::job::spec::{JobSpec, Payload, Source};

const JOB: &str = "01900000-0000-7000-8000-000000000001";
const OTHER: &str = "01900000-0000-7000-8000-000000000002";
const SUBMISSION: &str = "01900000-0000-7000-8000-0000000000ff";

fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from([&["conveyor"], words].concat())
}

/// The job that a command line describes.
fn job(words: &[&str]) -> JobSpec {
    match parse(&[&["submit"], words].concat()).unwrap().command {
        Command::Submit(args) => args.draft().unwrap().spec,
        _ => unreachable!(),
    }
}

/// Runs a command against a stub as a program would, without logging.
async fn against(stub: &str, words: &[&str]) -> anyhow::Result<ExitCode> {
    let cli = parse(words).unwrap();
    let flags = ClientFlags { url: Some(stub.into()), token_file: None };
    let context = Context::new(Config::default(), flags, Duration::ZERO, Output::new(Format::Json, Color::Never));
    match cli.command {
        Command::Submit(args) => submit::run(*args, &context).await,
        Command::Check(args) => check::run(args, &context).await,
        Command::Cancel(args) => cancel::run(args, &context).await,
        Command::List(args) => list::run(args, &context).await,
        _ => unreachable!(),
    }
}

fn is(code: ExitCode, want: u8) -> bool {
    format!("{code:?}") == format!("{:?}", ExitCode::from(want))
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_old_command_lines_still_parse() {
    for words in [
        &["submit", "-j", "a", "-r", "a.b", "-p", "script|http://h/a|x", "-l", "/p", "-d", JOB, "-w"][..],
        &["submit", "--job-name", "a", "--repo", "a.b", "--payload", "", "--lease-path", "", "--deps", "", "--wait"],
        &["submit", "-r=a.b", "-c", "/x", "--debug", "--log-timestamps"],
        &["-c", "/x", "check", "-i", "a,b", "-w", "-e"],
        &["check", "--ids", "a", "--wait", "--full-status"],
        &["server"],
        &["worker", "-n", "w", "-R", "3", "-T", "/t"],
        &["worker", "--worker-name", "w", "--job-retries", "3", "--temp-dir", "/t"],
    ] {
        parse(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }
}

#[test]
fn where_repositories_are_can_be_said_at_the_end_of_every_command() {
    for action in [&["list"][..], &["add", "t"], &["remove", "t"]] {
        let words = [&["repository", "tag", "a.b"], action, &["--repositories-dir", "/r", "--keys-dir", "/k"]].concat();
        let Ok(Cli { command: Command::Repository(repository::RepositoryCommand::Tag(tag)), .. }) = parse(&words)
        else {
            panic!("{words:?}")
        };
        let places = tag.repository.places;
        assert_eq!(places.repositories_dir.as_deref(), Some(std::path::Path::new("/r")), "{words:?}");
        assert_eq!(places.keys_dir.as_deref(), Some(std::path::Path::new("/k")), "{words:?}");
    }
}

#[test]
fn what_makes_no_sense_is_wrong_usage() {
    for words in [
        &["submit"][..],
        &["submit", "-r", "-h"],
        &["submit", "-r", "a.b", "-l", "/../x"],
        &["submit", "-r", "a.b", "--tarball", "x", "--script", "y"],
        &["submit", "-r", "a.b", "--tarball", "x", "-p", ""],
        &["submit", "-r", "a.b", "--delete", "/x", "--spec", "-"],
        &["submit", "--spec", "-", "--priority", "1"],
        &["submit", "-r", "a.b", "--label", "x"],
        &["check"],
        &["list", "--state", "done"],
        &["list", "--limit", "0"],
        &["logs", "x"],
        &["cancel"],
    ] {
        assert_eq!(parse(words).unwrap_err().exit_code(), i32::from(USAGE), "{words:?}");
    }
    for words in [
        &["-d", "nonsense", "-p", ""][..],
        &["--tarball", "x", "--", "arg"],
        &["-p", "", "stray"],
        &["-p", "", "--checksum", "d41d8cd98f00b204e9800998ecf8427e"],
        &["--delete", "/"],
        &["--delete", "/b/c", "-l", "/a"],
        &["-p", "", "--id", "01900000-0000-4000-8000-000000000001"],
        &["--script", "http://user:pw@h/x"],
    ] {
        let Command::Submit(args) = parse(&[&["submit", "-r", "a.b"], words].concat()).unwrap().command else {
            unreachable!()
        };
        assert!(args.draft().is_err(), "{words:?}");
    }
}

#[test]
fn a_command_line_becomes_a_job() {
    let spec = job(&[
        "-r",
        "a.b",
        "-l",
        "x//y",
        "-d",
        &format!("{JOB},,{OTHER}"),
        "--script",
        "http://h/d/run.sh",
        "one",
        "--",
        "--two",
    ]);
    let Payload::Script { source: Source::Url { url, checksum: None }, args } = &spec.publish().payload else {
        panic!()
    };
    assert_eq!((url.as_str(), args.as_slice()), ("http://h/d/run.sh", &["one".to_owned(), "--two".into()][..]));
    assert_eq!(
        (spec.publish().lease_path.as_str(), spec.name.as_str(), spec.dependencies.len()),
        ("/x/y", "run.sh", 2)
    );
    assert!(spec.submitter.contains('@') && spec.attempts == 4 && spec.timeout_s == 7200);
    let spec = job(&[
        "-r",
        "a.b",
        "--tarball",
        "dir/x.tar",
        "--name",
        "n",
        "--priority",
        "-5",
        "--label",
        "k=a=b",
        "--id",
        JOB,
    ]);
    assert_eq!(
        (spec.name.as_str(), spec.priority, spec.labels["k"].as_str(), spec.id.to_string().as_str()),
        ("n", -5, "a=b", JOB)
    );
    assert_eq!(
        job(&["-r", "a.b", "--delete", "/x", "--delete", "y"]).publish().payload,
        Payload::Delete { paths: vec!["/x".into(), "y".into()] }
    );
    // The old program's way to make a job that only waits for others.
    assert_eq!(job(&["--repo", "a.b", "--deps", JOB, "--wait"]).publish().payload, Payload::Empty);
}

#[tokio::test]
async fn a_file_is_uploaded_once_and_the_job_names_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hello\n").unwrap();
    let stub = Stub::start(|_, request| match request.line.split(' ').next() {
        Some("HEAD") => Reply::Headers(404, "", String::new()),
        Some("PUT") => {
            let digest = request.line.rsplit('/').next().unwrap().replace("%3A", ":");
            Reply::Json(201, format!(r#"{{"digest":"{digest}","size":6}}"#))
        }
        _ => Reply::Json(
            201,
            format!(
                r#"{{"submission_id":"{SUBMISSION}","jobs":[{{"job_id":"{JOB}","state":"queued","created":true}}]}}"#
            ),
        ),
    })
    .await;
    let path = file.path().to_str().unwrap();
    assert!(is(against(&stub.url, &["submit", "-r", "a.b", "--tarball", path, "--id", JOB]).await.unwrap(), 0));
    let requests = stub.requests();
    assert_eq!(requests[1].body, b"hello\n");
    assert!(requests[2].line.starts_with("POST /api/v1/jobs?submission="));
    let sent: Vec<JobSpec> = serde_json::from_slice(&requests[2].body).unwrap();
    let digest = crate::domain::digest::Sha256Digest::of(b"hello\n");
    assert_eq!(sent[0].publish().payload, Payload::Tarball { source: Source::Blob { digest } });
}

#[tokio::test]
async fn waiting_for_a_job_that_fails_is_a_failure_and_reads_its_log() {
    let failed = r#""failed","failure":{"code":"script_failed","message":"exit status 3"}"#;
    let stub = Stub::start(move |_, request| {
        let path = request.line.split(' ').nth(1).unwrap().to_owned();
        match path.as_str() {
            path if path.starts_with("/api/v1/watch") => Reply::Events(ended_text(JOB, failed)),
            path if path.contains("/log?tail=") => Reply::Headers(200, "", "line\n".repeat(30)),
            path if path.starts_with("/api/v1/jobs?") => {
                Reply::Json(201, format!(r#"{{"submission_id":"{SUBMISSION}","jobs":[{{"job_id":"{JOB}","state":"queued","created":true}}]}}"#))
            }
            _ => Reply::Json(200, job_json(JOB, SUBMISSION, failed)),
        }
    })
    .await;
    let code = against(&stub.url, &["submit", "-r", "a.b", "-p", "", "--wait", "--id", JOB]).await.unwrap();
    assert!(is(code, FAILED));
    assert_eq!(stub.lines().last().unwrap(), &format!("GET /api/v1/jobs/{JOB}/log?tail=16384"));
}

#[tokio::test]
async fn a_failed_job_is_an_answer_and_an_unknown_one_a_failure() {
    let failed = r#""failed","failure":{"code":"x","message":"y"}"#;
    let stub = Stub::start(move |_, request| {
        if request.line.ends_with("/watch") {
            Reply::Events(ended_text(JOB, failed))
        } else if request.line.ends_with(JOB) {
            Reply::Json(200, job_json(JOB, SUBMISSION, failed))
        } else {
            Reply::Json(404, r#"{"error":{"code":"unknown_job","message":"no","hint":""}}"#.into())
        }
    })
    .await;
    assert!(is(against(&stub.url, &["check", "-w", "-i", JOB]).await.unwrap(), 0));
    assert!(is(against(&stub.url, &["check", "-w", "-e", "-i", JOB]).await.unwrap(), 0));
    let lines = ["POST /api/v1/watch", "POST /api/v1/watch", &format!("GET /api/v1/jobs/{JOB}")].map(str::to_owned);
    assert_eq!(stub.lines(), lines, "one stream, and each job once where all of it is wanted");
    assert!(is(against(&stub.url, &["check", "-i", JOB, OTHER]).await.unwrap(), FAILED));
    assert_eq!(code(&against(&stub.url, &["check", "-i", "x"]).await.unwrap_err()), USAGE);
}

#[tokio::test]
async fn cancelling_twice_is_cancelling_once() {
    let stub = Stub::start(|_, request| match (request.line.starts_with("POST"), request.line.contains(JOB)) {
        (true, _) => Reply::Json(409, r#"{"error":{"code":"already_ended","message":"it ended","hint":""}}"#.into()),
        (false, true) => Reply::Json(200, job_json(JOB, SUBMISSION, r#""cancelled""#)),
        (false, false) => Reply::Json(200, job_json(OTHER, SUBMISSION, r#""succeeded","revision":1,"root_hash":"a""#)),
    })
    .await;
    assert!(is(against(&stub.url, &["cancel", JOB]).await.unwrap(), 0));
    assert!(is(against(&stub.url, &["cancel", JOB, OTHER]).await.unwrap(), FAILED));
}

#[tokio::test]
async fn a_listing_goes_over_pages_up_to_the_limit() {
    let stub = Stub::start(|_, _| {
        let job = job_json(JOB, SUBMISSION, r#""queued""#);
        Reply::Json(200, format!(r#"{{"jobs":[{job},{job}],"next_cursor":7}}"#))
    })
    .await;
    against(&stub.url, &["list", "--limit", "4", "--state", "queued"]).await.unwrap();
    assert_eq!(
        stub.lines(),
        ["GET /api/v1/jobs?state=queued&limit=4", "GET /api/v1/jobs?state=queued&limit=2&cursor=7"]
    );
}

#[tokio::test]
async fn an_absent_server_is_69_and_says_what_to_do() {
    let url = Stub::start(|_, _| Reply::Cut).await.url.clone();
    let error = against(&url, &["check", "-i", JOB]).await.unwrap_err();
    assert_eq!(code(&error), UNREACHABLE);
    let text = describe(&error);
    assert!(text.starts_with(&format!("error: cannot look at the job: no answer from {url}: ")), "{text}");
    assert!(text.contains("\nhint: check the address") && !text.contains("client error"), "{text}");
    assert_eq!(code(&against("ftp://h", &["check", "-i", JOB]).await.unwrap_err()), CONFIG);
}
