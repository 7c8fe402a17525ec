//! Scripts that misbehave.

use conveyor::domain::job::spec::{JobSpec, Payload};

use super::Target;
use crate::harness::{REPOSITORY, job, processes_with};

#[test]
fn a_script_that_misbehaves_fails_its_job_and_publishes_nothing() {
    let target = Target::start();
    // Where scripts are isolated nothing else can be written at all, and the script hears of it.
    let beside = if target.isolates() { ("script_failed", "code") } else { ("conflict", "outside the lease path") };
    let lease = if target.isolates() { ("script_failed", "code") } else { ("conflict", "lease path") };
    let cases = [
        ("exit code", "echo x >hostile/x; exit 3", "script_failed", "code 3"),
        ("signal", "echo x >hostile/x; kill -SEGV $$", "script_failed", "SIGSEGV"),
        ("beside the lease", "mkdir -p other && echo x >other/x", beside.0, beside.1),
        ("above the lease", "echo x >x", beside.0, beside.1),
        ("the lease becomes a link", "rmdir hostile && ln -s /etc hostile", lease.0, lease.1),
        ("the lease becomes a file", "rmdir hostile && echo x >hostile", lease.0, lease.1),
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
    // In a PID namespace a process does not know its number outside.
    let word = format!("1{:018}", uuid::Uuid::now_v7().as_u128() % 1_000_000_000_000_000_000);
    let text = format!(
        "(trap '' HUP TERM; exec sleep {word}) & echo left
        setsid sh -c 'echo left; : >hostile/1; exec sleep {word}' &
        env -i setsid sh -c 'echo left; : >hostile/2; exec sleep {word}' </dev/null &
        until [ -e hostile/1 ] && [ -e hostile/2 ]; do sleep 0.02; done
        false"
    );
    let id = target.submit(job(REPOSITORY, "/hostile", target.script(&text)));
    assert_eq!(target.ended(id).state.as_str(), "failed");
    let log = target.log(id);
    assert_eq!(log.matches("left\n").count(), 3, "{log}");
    assert_eq!(processes_with(&word), Vec::<String>::new(), "{log}");
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
