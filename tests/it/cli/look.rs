//! Looking at jobs: `check`, `list`, `logs`.

use serde_json::Value;

use crate::harness::{Daemon, Dev, Gate, REPOSITORY, job};

#[test]
fn a_listing_shows_what_was_asked_for_newest_first() {
    let dev = Dev::start();
    let submit = |name: &str, label: &str| {
        let arguments = ["submit", "-r", REPOSITORY, "-p", "", "-j", name, "--label", label, "-w"];
        dev.program().good(&arguments).lines()[0].clone()
    };
    let first = submit("first", "kind=a");
    submit("second", "kind=b");
    dev.fail(job(REPOSITORY, "/x", dev.script("exit 1")));
    let names = |arguments: &[&str]| -> Vec<String> {
        let lines = dev.program().good(&[&["list"], arguments].concat()).lines();
        lines.iter().map(|job| job["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&[]), ["test", "second", "first"]);
    assert_eq!(names(&["--limit", "2"]), ["test", "second"]);
    assert_eq!(names(&["--state", "failed"]), ["test"]);
    assert_eq!(names(&["--state", "succeeded,queued"]), ["second", "first"]);
    assert_eq!(names(&["--label", "kind=a"]), ["first"]);
    assert_eq!(names(&["--name", "second"]), ["second"]);
    assert_eq!(names(&["--repo", REPOSITORY, "--submitter", "tests"]), ["test"]);
    assert_eq!(names(&["--submission", first["submission_id"].as_str().unwrap()]), ["first"]);
    assert_eq!(names(&["--repo", "other.example.org"]).len(), 0);
    assert_eq!(dev.program().run(&["list", "--state", "happy"]).code, 2);
}

#[test]
fn a_table_is_for_people() {
    let dev = Dev::start();
    let id = dev.program().good(&["submit", "-r", REPOSITORY, "-p", "", "-w"]).job_id().to_string();
    for arguments in [&["list"][..], &["check", &id]] {
        let run = dev.program().good(&[arguments, &["--output", "table"]].concat());
        assert!(run.stdout.contains(&id) && run.stdout.contains("succeeded"), "{run:?}");
        assert!(run.stdout.lines().next().unwrap().starts_with("ID "), "{run:?}");
        assert!(!run.stdout.contains('\u{1b}'), "{run:?}");
    }
    let full = dev.program().good(&["check", "-e", &id, "--output", "table"]);
    assert_eq!(serde_json::from_str::<Value>(&full.stdout).unwrap()["job_id"], id.as_str());
}

#[test]
fn an_unknown_job_is_named_and_the_known_ones_are_shown() {
    let dev = Dev::start();
    let known = dev.program().good(&["submit", "-r", REPOSITORY, "-p", "", "-w"]).job_id().to_string();
    let unknown = uuid::Uuid::now_v7().to_string();
    let run = dev.program().run(&["check", &known, &unknown]);
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(run.last()["job_id"], known.as_str());
    assert!(run.stderr.contains(&unknown), "{run:?}");
    for command in ["logs", "cancel", "retry"] {
        let run = dev.program().run(&[command, &unknown]);
        assert_eq!(run.code, 1, "{run:?}");
        assert!(run.stderr.contains(&unknown), "{run:?}");
    }
}

#[test]
fn a_log_is_followed_to_the_end_of_its_job() {
    let dev = Dev::start();
    let gate = Gate::new();
    let text = format!("echo before\n{}\necho after; mkdir -p x", gate.script());
    let id = dev.submit(job(REPOSITORY, "/x", dev.script(&text)));
    let mut follow = Daemon::start(&mut dev.program().command(&["logs", "--follow", &id.to_string()]));
    follow.said("the first line, while the script runs", |stdout, _| stdout.contains("before\n").then_some(()));
    assert!(!follow.stdout().contains("after"));
    gate.open();
    assert_eq!(follow.wait().code(), Some(0));
    follow.until_quiet();
    let whole = dev.program().good(&["logs", &id.to_string()]).stdout;
    assert!(whole.contains("before\nafter\n"), "{whole}");
    assert_eq!(follow.stdout(), whole);
    assert_eq!(dev.program().good(&["logs", "--tail", "5", &id.to_string()]).stdout, whole[whole.len() - 5..]);
}
