//! Waiting for a submission of ten thousand jobs: one connection each, whatever happens to the server.

mod stand_in;

use std::collections::HashSet;
use std::process::Command;
use std::time::Instant;

use conveyor::domain::ids::JobId;
use conveyor::domain::job::spec::{Condition, Dependency, JobSpec, Payload};
use serde_json::{Value, json};

use crate::harness::{Daemon, Relay, Server, job, until};
use stand_in::StandIn;

const JOBS: usize = 10_000;
const REPOSITORIES: usize = 40;

fn repository(number: usize) -> String {
    format!("waiting-{}.example.org", number % REPOSITORIES)
}

fn server() -> Server {
    Server::start_with("", |_| {
        (0..REPOSITORIES).map(|number| format!("[repositories.\"{}\"]\n", repository(number))).collect()
    })
}

/// Jobs of which `running` are carried out; the last of these fails, and all others depend on it and are skipped.
fn jobs(running: usize) -> Vec<JobSpec> {
    let mut jobs: Vec<_> = (0..JOBS).map(|number| job(&repository(number), "/", Payload::Empty)).collect();
    let gate = jobs[running - 1].id;
    for job in &mut jobs[running..] {
        job.dependencies = vec![Dependency { job_id: gate, condition: Condition::Success }];
    }
    // The gate comes when all before it have ended.
    let before: Vec<_> = jobs[..running - 1].iter().map(|job| job.id).collect();
    let ended = |job_id: &JobId| Dependency { job_id: *job_id, condition: Condition::Success };
    jobs[running - 1].dependencies = before.iter().rev().take(50).map(ended).collect();
    jobs
}

/// A command that talks to the server by a relay.
fn through(server: &Server, relay: &Relay, arguments: &[String]) -> Daemon {
    let url = format!("http://127.0.0.1:{}", relay.port());
    let mut command: Command = server.program().command(&[&["--url".to_owned(), url], arguments].concat());
    Daemon::start(&mut command)
}

fn port(server: &Server) -> u16 {
    server.url().rsplit(':').next().unwrap().parse().unwrap()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn objects(text: &str, message: &str) -> Vec<Value> {
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["message"] == message).collect()
}

#[test]
fn waiting_for_ten_thousand_jobs_takes_one_connection_and_outlives_the_server() {
    const RUNNING: usize = 300;
    let mut server = server();
    let jobs = jobs(RUNNING);
    let failing = HashSet::from([jobs[RUNNING - 1].id]);
    let spec = server.base().join("jobs.json");
    std::fs::write(&spec, serde_json::to_vec(&jobs).unwrap()).unwrap();

    let (by_submit, by_check) = (Relay::to(port(&server)), Relay::to(port(&server)));
    let mut submit = through(&server, &by_submit, &words(&["submit", "--spec", spec.to_str().unwrap(), "--wait"]));
    submit.said("all are submitted", |stdout, _| (stdout.lines().count() >= JOBS).then_some(()));
    let ids: Vec<String> = jobs.iter().map(|job| job.id.to_string()).collect();
    let mut check = through(&server, &by_check, &[words(&["check", "--wait"]), ids].concat());

    until("both wait", || (by_submit.connections() > 0 && by_check.connections() > 0).then_some(()));

    let work = StandIn::start(server.url(), server.token(), 4, failing);
    let do_a_third = |done: usize| {
        work.allow(RUNNING / 3);
        until("a third more is done", || (work.done() == done).then_some(()));
    };
    do_a_third(RUNNING / 3);
    assert_eq!((by_submit.connections(), by_check.connections()), (1, 1));
    assert!(server.process().terminate().success());
    server.start_again(None);
    do_a_third(RUNNING * 2 / 3);
    server.crash_and_restart();
    do_a_third(RUNNING);

    assert_eq!(submit.wait().code(), Some(1), "{}", submit.stderr());
    assert_eq!(check.wait().code(), Some(0), "{}", check.stderr());
    submit.until_quiet();
    check.until_quiet();
    // Each restart costs one connection more.
    assert!(
        by_submit.connections() <= 3 && by_check.connections() <= 3,
        "{} {}",
        by_submit.connections(),
        by_check.connections()
    );
    let finished = objects(&submit.stdout(), "job finished");
    let count = |lines: &[Value], state: &str| lines.iter().filter(|line| line["state"] == state).count();
    let counts = |lines: &[Value]| ["succeeded", "failed", "skipped"].map(|state| count(lines, state));
    assert_eq!(counts(&finished), [RUNNING - 1, 1, JOBS - RUNNING]);
    let checked: Vec<Value> = check.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(counts(&checked), [RUNNING - 1, 1, JOBS - RUNNING]);
    assert_eq!(
        checked.iter().map(|line| line["job_id"].clone()).collect::<Vec<_>>(),
        jobs.iter().map(|job| json!(job.id)).collect::<Vec<_>>()
    );
    // Each job is told about when it begins and when it ends, in a few hundred bytes.
    let per_job = by_check.bytes() / JOBS as u64;
    assert!(per_job < 1500, "{per_job} bytes a job");
}

/// Processor time that a process has used, in seconds.
fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // The unit of this file is a hundredth of a second on Linux.
    ticks as f64 / 100.0
}

/// Prints what waiting costs: `cargo test --release --test it cost_of_waiting -- --ignored --nocapture`.
#[test]
#[ignore = "prints figures; takes minutes"]
fn cost_of_waiting() {
    const RUNNING: usize = 2_000;
    for waiters in [0, 1, 10] {
        let mut server = server();
        let jobs = jobs(RUNNING);
        let failing = HashSet::from([jobs[RUNNING - 1].id]);
        let ids = server.try_submit(&jobs).unwrap();
        let submission = server.view(ids[0]).submission_id;
        let relay = Relay::to(port(&server));
        let process = server.process().id();
        let (began, before) = (Instant::now(), cpu_seconds(process));
        let check = [words(&["check", "--wait"]), ids.iter().map(ToString::to_string).collect()].concat();
        let mut waiting: Vec<_> = (0..waiters).map(|_| through(&server, &relay, &check)).collect();
        let work = StandIn::start(server.url(), server.token(), 4, failing);
        work.allow(RUNNING);
        server.ended(ids[JOBS - 1]);
        for daemon in &mut waiting {
            assert!(daemon.wait().success());
        }
        drop(work);
        let figures = json!({
            "submission": submission, "waiters": waiters, "jobs": JOBS, "carried_out": RUNNING,
            "seconds": began.elapsed().as_secs_f64(), "server_cpu_seconds": cpu_seconds(process) - before,
            "connections": relay.connections(), "bytes": relay.bytes(),
        });
        println!("{figures}");
    }
}
