//! Scripts that misbehave.

use conveyor::domain::job::spec::{JobSpec, Payload};

use super::Target;
use crate::harness::{REPOSITORY, job};

#[test]
fn a_script_that_misbehaves_fails_its_job_and_publishes_nothing() {
    let target = Target::start();
    let cases = [
        ("exit code", "echo x >hostile/x; exit 3", "script_failed", "code 3"),
        ("signal", "echo x >hostile/x; kill -SEGV $$", "script_failed", "SIGSEGV"),
        ("beside the lease", "mkdir -p other && echo x >other/x", "conflict", "outside the lease path"),
        ("above the lease", "echo x >x", "conflict", "outside the lease path"),
        ("the lease becomes a link", "rmdir hostile && ln -s /etc hostile", "conflict", "lease path"),
        ("the lease becomes a file", "rmdir hostile && echo x >hostile", "conflict", "lease path"),
        (
            "a very deep tree",
            "d=$(printf '%0200d/' 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15); mkdir -p hostile/$d; cd hostile/$d; mkdir -p $d",
            "conflict",
            "",
        ),
        ("input", "read line", "script_failed", "code 1"),
    ];
    for (case, text, code, said) in cases {
        let failure = target.fail(job(REPOSITORY, "/hostile", target.script(text)));
        assert_eq!(failure.code, code, "{case}: {failure:?}");
        assert!(failure.message.contains(said), "{case}: {}", failure.message);
    }
    let endless =
        JobSpec { timeout_s: 1, ..job(REPOSITORY, "/hostile", target.script("trap '' TERM; while :; do :; done")) };
    let failure = target.fail(endless);
    assert_eq!(failure.code, "timed_out", "{failure:?}");
    for (case, content, said) in [
        ("no interpreter", &b"#!/no/such/interpreter\n"[..], "interpreter"),
        ("no program", b"\x00\x01\x02", "cannot run"),
    ] {
        let source = target.blob(content);
        let failure = target.fail(job(REPOSITORY, "/hostile", Payload::Script { source, args: Vec::new() }));
        assert_eq!(failure.code, "script_not_run", "{case}: {failure:?}");
        assert!(failure.message.contains(said), "{case}: {}", failure.message);
    }
    target.stays_unharmed();
}

#[test]
fn nothing_that_a_script_starts_outlives_it() {
    let target = Target::start();
    let before = target.publishes();
    let text = "(trap '' HUP TERM; exec sleep 1000) & echo \"left $!\"
        setsid sh -c 'echo \"left $$\"; exec sleep 1000' & sleep 0.3
        env -i setsid sh -c 'echo \"left $$\"; exec sleep 1000' </dev/null & sleep 0.3
        false";
    let id = target.submit(job(REPOSITORY, "/hostile", target.script(text)));
    assert_eq!(target.ended(id).state.as_str(), "failed");
    let log = target.log(id);
    let left: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("left ")).collect();
    assert!(left.len() >= 2, "{log}");
    let is_alive = |pid: &&&str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
    };
    let alive: Vec<_> = left.iter().filter(is_alive).collect();
    assert!(alive.is_empty(), "{alive:?} of {log}");
    assert_eq!(target.publishes(), before);
    target.stays_unharmed();
}

#[test]
fn a_script_sees_no_secret() {
    let target = Target::start();
    let token = target.token().to_owned();
    let text = format!(
        "env; tr '\\0' '\\n' </proc/$PPID/environ || true; cat '{}/token' || true; false",
        target.state().display()
    );
    let id = target.submit(job(REPOSITORY, "/hostile", target.script(&text)));
    target.ended(id);
    let log = target.log(id);
    assert!(log.contains("CONVEYOR_JOB_ID="), "{log}");
    // Without root, scripts run as the account that the server runs as.
    if nix::unistd::geteuid().is_root() {
        assert!(!log.contains(&token), "{log}");
    }
    target.stays_unharmed();
}

#[test]
fn output_without_end_is_taken_and_cut() {
    let target = Target::start();
    let text = "yes 'a line that is said again and again' | head -c 40000000; echo; echo the end; false";
    let id = target.submit(job(REPOSITORY, "/hostile", target.script(text)));
    assert_eq!(target.ended(id).state.as_str(), "failed");
    let log = target.log(id);
    assert!(log.len() <= 20_000_000, "{}", log.len());
    assert!(log.contains("the end"), "the end is what one wants to read");
    target.stays_unharmed();
}
