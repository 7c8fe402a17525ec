//! Many jobs in one publish, by a server, a worker and a repository that are real.

use std::collections::BTreeSet;

use conveyor::domain::ids::JobId;
use conveyor::domain::job::spec::JobSpec;
use conveyor::domain::job::state::{JobState, StateKind};
use conveyor::domain::protocol::JobView;

use crate::harness::{Gate, REPOSITORY, Server, job, packed, until};

fn script(server: &Server, lease_path: &str, text: &str) -> JobSpec {
    job(REPOSITORY, lease_path, server.script(text))
}

/// What these jobs came to, in their order.
fn ended(server: &Server, ids: &[JobId]) -> Vec<JobView> {
    ids.iter().map(|id| server.ended(*id)).collect()
}

fn revisions(jobs: &[JobView]) -> BTreeSet<u64> {
    let revision = |job: &JobView| match job.status {
        JobState::Succeeded { revision, .. } => revision,
        ref other => panic!("{other:?}"),
    };
    jobs.iter().map(revision).collect()
}

#[test]
fn what_queues_while_a_publish_runs_is_the_next_publish() {
    let server = Server::start_batching();
    let gate = Gate::new();
    let first = server.submit(script(&server, "/first", &gate.script()));
    let _worker = server.worker("one");
    gate.until_runs(1);
    let tarball = |n: usize| job(REPOSITORY, "/many", server.tarball(packed(&[(&format!("file-{n}"), "x")])));
    let ids: Vec<_> = (0..100).map(|n| server.submit(tarball(n))).collect();
    gate.open();
    assert_eq!(server.ended(first).state, StateKind::Succeeded);
    let jobs = ended(&server, &ids);
    assert!(revisions(&jobs).len() <= 2, "{:?}", revisions(&jobs));
    assert!(jobs.iter().all(|job| job.outputs["staged_files"] == "1"), "each is told what it put there");
    assert_eq!(server.files("many").len(), 100);
    assert!(server.publishes() <= 3);
}

#[test]
fn a_script_that_fails_is_the_only_one_that_does() {
    let server = Server::start_batching();
    let good = |n: usize| script(&server, "/x", &format!("echo {n} >x/good-{n}"));
    let bad = JobSpec { attempts: 2, ..script(&server, "/x", "echo spoilt >x/spoilt; exit 3") };
    let ids: Vec<_> = (0..3).map(|n| server.submit(good(n))).collect();
    let bad = server.submit(bad);
    let more: Vec<_> = (3..6).map(|n| server.submit(good(n))).collect();
    let _worker = server.worker("one");
    let jobs = ended(&server, &[ids, more].concat());
    assert!(jobs.iter().all(|job| job.state == StateKind::Succeeded && job.failures == 0), "{jobs:?}");
    let failed = server.ended(bad);
    assert_eq!((failed.state, failed.failures), (StateKind::Failed, 2));
    assert_eq!(server.files("x"), (0..6).map(|n| format!("good-{n}")).collect::<BTreeSet<_>>());
}

#[test]
fn each_script_sees_what_came_before_it_and_writes_within_its_own_path_only() {
    let server = Server::start_batching();
    let put = server.submit(job(REPOSITORY, "/a", server.tarball(packed(&[("base", "from the tarball")]))));
    let add = server.submit(script(&server, "/a", "cat a/base >a/copy; echo more >>a/base"));
    let read = server.submit(script(&server, "/a", "grep -q more a/base && mv a/copy a/moved"));
    let stray = server.submit(JobSpec { attempts: 1, ..script(&server, "/b", "mkdir -p a; echo x >a/stray") });
    let _worker = server.worker("one");
    let jobs = ended(&server, &[put, add, read]);
    assert_eq!(revisions(&jobs).len(), 1, "{jobs:?}");
    assert_eq!(server.ended(stray).state, StateKind::Failed);
    let wanted: BTreeSet<String> = ["base", "moved"].map(String::from).into();
    assert_eq!(server.files("a"), wanted);
}

#[test]
fn cancelling_one_of_a_batch_that_is_staged_gives_the_others_back() {
    let server = Server::start_batching();
    let gate = Gate::new();
    let held = server.submit(script(&server, "/x", &gate.script()));
    let others: Vec<_> = (0..3).map(|n| server.submit(script(&server, "/x", &format!("echo x >x/{n}")))).collect();
    let _worker = server.worker("one");
    gate.until_runs(1);
    until("all of them run", || others.iter().all(|id| server.view(*id).state == StateKind::Running).then_some(()));
    assert_eq!(server.run(&["cancel", &held.to_string()]).code, 0);
    assert_eq!(server.ended(held).state, StateKind::Cancelled);
    let jobs = ended(&server, &others);
    assert!(jobs.iter().all(|job| job.state == StateKind::Succeeded && job.failures == 0), "{jobs:?}");
    assert_eq!(revisions(&jobs).len(), 1);
}

#[test]
fn a_worker_that_is_killed_in_mid_batch_costs_nothing_but_time() {
    let server = Server::start_batching();
    let gate = Gate::new();
    let ids: Vec<_> =
        (0..5).map(|n| server.submit(script(&server, "/x", &format!("{}\necho {n} >>x/{n}", gate.script())))).collect();
    let mut worker = server.worker("one");
    gate.until_runs(1);
    worker.kill9();
    gate.open();
    let _again = server.worker("one");
    let jobs = ended(&server, &ids);
    assert!(jobs.iter().all(|job| job.interruptions == 1 && job.failures == 0), "{jobs:?}");
    assert_eq!(revisions(&jobs).len(), 1);
    assert_eq!(server.publishes(), 1);
}
