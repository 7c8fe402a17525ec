//! Submitting: the old flags, what is printed, and waiting.

use std::io::Write;
use std::process::Stdio;

use crate::harness::{Dev, Origin, Page, REPOSITORY, Run, job};

#[test]
fn the_old_programs_flags_mean_what_they_meant() {
    let dev = Dev::start();
    let origin = Origin::start();
    let script = b"#!/bin/sh\necho \"$# $1 $2 $3\" >old/arguments\n".to_vec();
    let md5 = "?checksum=md5:".to_owned() + &hex::encode(<md5::Md5 as md5::Digest>::digest(&script));
    origin.page("/a.sh", Page::Content(script));
    let payload = format!("script|{}{md5}|one two", origin.url("/a.sh"));

    let first = dev.program().good(&["submit", "-r", REPOSITORY, "-l", "", "-p", ""]).job_id().to_string();
    let arguments = ["submit", "-j", "a name", "-r", REPOSITORY, "-p", &payload, "-l", "old", "-d", &first, "-w"];
    let run = dev.program().good(&arguments);
    assert_eq!(dev.published("old/arguments").unwrap(), format!("3 {REPOSITORY} /old one two\n").as_bytes());
    let [submitted, ended] = &run.lines()[..] else { panic!("{run:?}") };
    assert_eq!((&submitted["message"], &submitted["level"]), (&"job submitted successfully".into(), &"info".into()));
    assert_eq!((&ended["success"], &ended["name"]), (&true.into(), &"a name".into()));
    assert_eq!(submitted["job_id"], ended["job_id"]);

    let ids = format!("{first},{}", run.job_id());
    let checked = dev.program().good(&["check", "-i", &ids, "-w", "-e"]).lines();
    assert_eq!(checked.len(), 2);
    assert_eq!(checked[1]["spec"]["dependencies"][0]["job_id"], first.as_str());
    assert!(checked.iter().all(|job| job["state"] == "succeeded" && job["status"]["revision"].is_u64()), "{checked:?}");
}

#[test]
fn the_last_line_says_which_job_it_is() {
    let dev = Dev::start();
    let run = dev.program().good(&["submit", "-r", REPOSITORY, "-p", ""]);
    assert_eq!(run.lines().len(), 1);
    let id = run.job_id();
    assert_eq!(dev.ended(id).job_id, id);
    let waited = dev.program().good(&["check", "--wait", &id.to_string()]);
    assert_eq!(waited.last()["job_id"], id.to_string().as_str());
}

#[test]
fn a_job_that_fails_is_told_with_its_reason_and_the_end_of_its_log() {
    let dev = Dev::start();
    let script = dev.base().join("fails");
    std::fs::write(&script, "#!/bin/sh\nfor n in $(seq 100); do echo \"line $n.\"; done\nexit 7\n").unwrap();
    let path = script.to_str().unwrap();
    let run = dev.program().run(&["submit", "-r", REPOSITORY, "--script", path, "--attempts", "1", "--wait"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("code 7"), "{run:?}");
    assert!(run.stderr.contains("line 100.") && !run.stderr.contains("line 50."), "{run:?}");
    let last = run.last();
    assert_eq!((&last["success"], &last["state"]), (&false.into(), &"failed".into()));
    assert!(last["error"].as_str().unwrap().contains("code 7"), "{last}");
    assert_eq!(last["error_code"], "script_failed");
    // To look at it is no failure.
    assert_eq!(dev.program().run(&["check", &run.job_id().to_string()]).code, 0);
}

#[test]
fn a_job_submitted_again_under_its_id_is_no_second_one() {
    let dev = Dev::start();
    let id = uuid::Uuid::now_v7().to_string();
    let submit = |name: &str| dev.program().run(&["submit", "-r", REPOSITORY, "-p", "", "-j", name, "--id", &id, "-w"]);
    let (first, second) = (submit("x"), submit("x"));
    assert_eq!((first.code, second.code), (0, 0), "{second:?}");
    assert_eq!((&first.lines()[0]["created"], &second.lines()[0]["created"]), (&true.into(), &false.into()));
    assert_eq!(dev.publishes(), 1);
    let other = submit("y");
    assert_eq!(other.code, 1, "{other:?}");
    assert!(other.stderr.contains("different_job") && other.stderr.contains("hint: "), "{other:?}");
}

#[test]
fn many_jobs_come_from_standard_input_and_run_in_order() {
    let dev = Dev::start();
    let mut jobs: Vec<_> =
        (0..5).map(|n| job(REPOSITORY, "/chain", dev.script(&format!("echo {n} >>chain/order")))).collect();
    for n in 0..4 {
        let after = serde_json::from_value(serde_json::json!([{"job_id": jobs[n + 1].id}])).unwrap();
        jobs[n].dependencies = after;
    }
    let mut child = dev
        .program()
        .command(&["submit", "--spec", "-", "--wait"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(&jobs).unwrap()).unwrap();
    let run = Run::of(&child.wait_with_output().unwrap());
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.lines().len(), 10);
    assert_eq!(dev.published("chain/order").unwrap(), b"4\n3\n2\n1\n0\n");
}

#[test]
fn a_job_behind_one_that_failed_is_skipped() {
    let dev = Dev::start();
    let failing = dev.submit(job(REPOSITORY, "/x", dev.script("exit 1")));
    let behind = dev.program().run(&["submit", "-r", REPOSITORY, "-p", "", "-d", &failing.to_string(), "--wait"]);
    assert_eq!(behind.code, 1, "{behind:?}");
    assert_eq!(behind.last()["state"], "skipped");
    assert!(behind.stderr.contains(&failing.to_string()), "{behind:?}");
    assert_eq!(dev.publishes(), 0);
}
