//! Scripts, good and hostile.
#![allow(clippy::unwrap_used)]

use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Instant;

use tempfile::TempDir;

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// A script with a home; what it prints is gathered.
pub(super) struct Case {
    pub(super) dir: TempDir,
    pub(super) script: ScriptRun,
    pub(super) cancel: CancellationToken,
}

impl Case {
    pub(super) fn new(text: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["", "root", "tmp"] {
            std::fs::create_dir_all(path(name)).unwrap();
            std::fs::set_permissions(path(name), PermissionsExt::from_mode(0o777)).unwrap();
        }
        std::fs::write(path("script"), text).unwrap();
        let script = ScriptRun {
            run_id: Uuid::now_v7(),
            program: path("script"),
            repository: RepositoryName::new("software.example.org").unwrap(),
            lease_path: LeasePath::new("/apps/x").unwrap(),
            args: Vec::new(),
            directory: path("root"),
            temporary: path("tmp"),
            environment: BTreeMap::new(),
            time_limit: LONG,
            grace: LONG,
            output_limit: 1 << 20,
            run_as: None,
            allow_root: true,
            confinement: None,
        };
        Self { dir, script, cancel: CancellationToken::new() }
    }

    pub(super) fn sh(text: &str) -> Self {
        Self::new(format!("#!/bin/sh\n{text}\n").as_bytes())
    }

    /// Runs it and calls `heard` with all output so far, each time that there is more. Afterwards no process is left.
    pub(super) async fn run_hearing(&self, heard: impl Fn(&str)) -> (Result<ScriptReport, ScriptError>, String) {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(4);
        let listening = async {
            let mut all = String::new();
            while let Some(chunk) = receiver.recv().await {
                all += &String::from_utf8_lossy(&chunk);
                heard(&all);
            }
            all
        };
        let result = tokio::join!(run(self.script.clone(), &self.cancel, sender), listening);
        assert!(processes_of(self.script.run_id).is_empty());
        result
    }

    pub(super) async fn run(&self) -> (Result<ScriptReport, ScriptError>, String) {
        self.run_hearing(|_| ()).await
    }

    /// How it ended and what it said.
    pub(super) async fn end(&self) -> (Ending, String) {
        let (result, output) = self.run().await;
        (result.unwrap().ending, output)
    }

    pub(super) async fn error(&self) -> ScriptError {
        self.run().await.0.unwrap_err()
    }

    pub(super) fn file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("root").join(name)
    }
}

pub(super) const SUCCESS: Ending = Ending::Exited { code: 0 };

/// The process is gone, or nobody has yet taken note of its end.
pub(super) fn is_dead(pid: &str) -> bool {
    match std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())) {
        Ok(stat) => stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'),
        Err(_) => true,
    }
}

pub(super) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_script_is_called_as_it_always_was_and_in_a_clean_environment() {
    let mut case =
        Case::sh("printf '<%s>' \"$@\"; pwd; env | sort; cat; umask; ulimit -c; grep NoNewPrivs /proc/self/status");
    case.script.args = vec!["a b".into(), "$(id)".into(), "".into()];
    case.script.environment.insert("CONVEYOR_JOB_ID".into(), "7".into());
    case.script.environment.insert("PATH".into(), "/evil".into());
    let (ending, output) = case.end().await;
    assert_eq!(ending, SUCCESS);
    let root = case.script.directory.canonicalize().unwrap();
    let tmp = case.script.temporary.display();
    let want = format!(
        "<software.example.org></apps/x><a b><$(id)><>{root}\nCONVEYOR_JOB_ID=7\nCONVEYOR_RUN_ID={}\nHOME={tmp}\n\
         LANG=C.UTF-8\nPATH=/usr/local/bin:/usr/bin:/bin\nPWD={root}\nTMPDIR={tmp}\n0022\n0\nNoNewPrivs:\t1\n",
        case.script.run_id,
        root = root.display(),
    );
    assert_eq!(output, want);
}

#[tokio::test]
async fn both_outputs_come_in_their_order() {
    let case = Case::sh("echo 1; echo 2 >&2; echo 3; exit 3");
    let (report, output) = case.run().await;
    let report = report.unwrap();
    assert_eq!(output, "1\n2\n3\n");
    assert_eq!(
        (report.ending, report.tail.as_slice(), report.output_bytes),
        (Ending::Exited { code: 3 }, &b"1\n2\n3\n"[..], 6)
    );
    assert!(!report.succeeded());
    assert_eq!(report.ending.to_string(), "exited with code 3");
}

#[tokio::test]
async fn a_script_killed_by_a_signal_is_told_from_one_that_exits() {
    for (signal, text) in [
        (9, "was killed by SIGKILL"),
        (11, "was killed by SIGSEGV"),
        (15, "was killed by SIGTERM"),
        (40, "was killed by signal 40"),
    ] {
        let case = Case::sh(&format!("kill -{signal} $$"));
        let (ending, _) = case.end().await;
        assert_eq!((ending, ending.to_string().as_str()), (Ending::Signaled { signal }, text));
    }
    assert_eq!(Case::sh("exit 137").end().await.0, Ending::Exited { code: 137 });
}

#[tokio::test]
async fn no_descriptor_is_inherited() {
    let file = std::fs::File::open("/dev/null").unwrap();
    // The copy is not marked to be closed by exec.
    let leak = nix::unistd::dup(&file).unwrap();
    let case = Case::sh(&format!("ls /proc/$$/fd; ! test -e /proc/$$/fd/{}", leak.as_raw_fd()));
    let (ending, output) = case.end().await;
    assert_eq!(ending, SUCCESS, "{output}");
    // The shell's own script is open as the tenth.
    assert!(output.split_whitespace().all(|fd| ["0", "1", "2", "10", "255"].contains(&fd)), "{output}");
}

#[tokio::test]
async fn what_cannot_be_executed_is_named() {
    let named = |error: &ScriptError, what: &str| {
        assert!(error.to_string().contains(what), "{error}");
        assert!(!error.is_transient(), "{error}");
    };
    let error = Case::new(b"echo no first line\n").error().await;
    assert!(matches!(error, ScriptError::NotAProgram { .. }));
    named(&error, "#!/bin/sh");
    for garbage in [&b""[..], b"\x7fELF\x02\x01\x01 and no more", b"<!DOCTYPE html>", b"#!", b"#!\n"] {
        let error = Case::new(garbage).error().await;
        assert!(!error.is_transient() || matches!(error, ScriptError::Io { .. }), "{garbage:?} {error:?}");
    }
    let error = Case::new(b"#! /no/such/python3 -u\nprint()\n").error().await;
    named(&error, "interpreter \"/no/such/python3\" is not on this host");
    let error = Case::new(b"#!/bin/sh\r\necho\r\n").error().await;
    named(&error, "as on Windows");
    let error = Case::new(b"#!/dev/null\n").error().await;
    assert!(matches!(error, ScriptError::Permission { .. }), "{error}");
}

#[tokio::test]
async fn a_call_that_cannot_be_made_is_named() {
    let mut case = Case::sh("");
    case.script.args = vec!["a\0b".into()];
    assert!(matches!(case.error().await, ScriptError::Arguments { .. }));
    case.script.args = vec!["x".repeat(1 << 20).into()];
    assert!(matches!(case.error().await, ScriptError::Arguments { .. }));
    case.script.args.clear();
    case.script.directory = case.file("absent");
    assert!(matches!(case.error().await, ScriptError::Directory { .. }));
    case.script.directory = case.script.program.clone();
    assert!(matches!(case.error().await, ScriptError::Directory { .. }));
    case.script.program = case.file("absent");
    case.script.directory = case.dir.path().into();
    assert!(matches!(case.error().await, ScriptError::Io { .. }));
}

#[tokio::test]
async fn a_script_still_held_open_for_writing_is_waited_for() {
    let case = Case::sh("echo fine");
    let writer = std::fs::OpenOptions::new().append(true).open(&case.script.program).unwrap();
    let release = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        drop(writer);
    };
    let ((ending, output), ()) = tokio::join!(case.end(), release);
    assert_eq!((ending, output.as_str()), (SUCCESS, "fine\n"));
}

#[tokio::test]
async fn a_script_is_asked_to_end_and_may_say_goodbye() {
    let case = Case::sh("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done");
    let (result, output) = case.run_hearing(|_| case.cancel.cancel()).await;
    assert_eq!(result.unwrap().ending, Ending::Cancelled);
    assert!(output.ends_with("bye\n"), "{output}");
}

#[tokio::test]
async fn a_script_that_runs_too_long_is_ended() {
    for text in ["exec sleep 1000", "kill -STOP $$", "trap '' TERM; while :; do sleep 1000; done"] {
        let mut case = Case::sh(text);
        case.script.time_limit = Duration::from_millis(50);
        case.script.grace = Duration::from_millis(50);
        let (ending, _) = case.end().await;
        assert_eq!(ending, Ending::TimedOut { limit: case.script.time_limit }, "{text}");
        assert_eq!(ending.to_string(), "was ended after its time limit of 50ms");
    }
}

#[tokio::test]
async fn a_script_that_will_not_end_is_killed() {
    for text in [
        "trap '' TERM HUP INT QUIT; echo ready; while :; do sleep 1000; done",
        "trap '' TERM; (trap '' TERM; setsid sleep 1000) & echo ready; wait",
        "echo ready; kill -STOP $$",
        "set -m; sleep 1000 & sleep 1000 & trap '' TERM; echo ready; while :; do wait; done",
    ] {
        let mut case = Case::sh(text);
        case.script.grace = Duration::from_millis(50);
        let (result, _) = case.run_hearing(|_| case.cancel.cancel()).await;
        assert_eq!(result.unwrap().ending, Ending::Cancelled, "{text}");
    }
}

#[tokio::test]
async fn a_script_is_cancelled() {
    let case = Case::sh("echo ready; sleep 1000");
    let (result, _) = case.run_hearing(|_| case.cancel.cancel()).await;
    assert_eq!(result.unwrap().ending, Ending::Cancelled);
    // Also one that has not begun.
    assert_eq!(case.end().await.0, Ending::Cancelled);
}

#[tokio::test]
async fn a_script_whose_future_is_dropped_ends() {
    let case = Case::sh("echo ready; sleep 1000");
    let (sender, mut receiver) = mpsc::channel(1);
    tokio::select! {
        _ = run(case.script.clone(), &case.cancel, sender) => unreachable!("it sleeps"),
        ready = receiver.recv() => assert_eq!(ready.unwrap(), "ready\n"),
    }
    wait_until("the script is gone", || processes_of(case.script.run_id).is_empty());
    assert!(!case.cancel.is_cancelled(), "others may share it");
}

/// Ways to outlive one's parent. Each writes its number into `pid` when it is out.
pub(super) const ESCAPES: [&str; 6] = [
    "sh -c 'echo $$ > pid; exec sleep 1000' &",
    "setsid sh -c 'echo $$ > pid; exec sleep 1000' &",
    "(setsid sh -c 'echo $$ > pid; exec sleep 1000' </dev/null >/dev/null 2>&1 &)",
    "(env -i setsid sh -c 'echo $$ > pid; exec sleep 1000' </dev/null >/dev/null 2>&1 &)",
    "(env -i setsid sh -c 'trap \"\" TERM HUP; (setsid sh -c \"echo \\$\\$ > pid; sleep 1000; :\" &) ' &)",
    "nohup sh -c 'echo $$ > pid; exec sleep 1000' >/dev/null 2>&1 & disown 2>/dev/null",
];
pub(super) const WAIT_FOR_PID: &str = "\nuntil test -s pid; do sleep 0.01; done\n";

#[tokio::test]
async fn nothing_survives_a_script_that_ends_well() {
    for escape in ESCAPES {
        let case = Case::sh(&format!("{escape}{WAIT_FOR_PID}exit 5"));
        assert_eq!(case.end().await.0, Ending::Exited { code: 5 }, "{escape}");
        let pid = std::fs::read_to_string(case.file("pid")).unwrap();
        assert!(is_dead(&pid), "{escape}");
    }
}

#[tokio::test]
async fn nothing_survives_a_script_that_is_ended() {
    for escape in ESCAPES {
        let mut case = Case::sh(&format!("{escape}{WAIT_FOR_PID}echo out; sleep 1000"));
        case.script.grace = Duration::from_millis(50);
        let (result, _) = case.run_hearing(|_| case.cancel.cancel()).await;
        assert_eq!(result.unwrap().ending, Ending::Cancelled, "{escape}");
        assert!(is_dead(&std::fs::read_to_string(case.file("pid")).unwrap()), "{escape}");
    }
}

#[tokio::test]
async fn a_crowd_of_daemons_is_killed() {
    let case = Case::sh(
        "for i in 1 2 3 4 5 6 7 8; do \
           (for j in 1 2 3 4 5; do env -i setsid sleep 1000 & echo $! >> pids; done) & \
         done; wait",
    );
    assert_eq!(case.end().await.0, SUCCESS);
    let pids = std::fs::read_to_string(case.file("pids")).unwrap();
    assert_eq!(pids.lines().count(), 40);
    assert!(pids.lines().all(is_dead));
}

#[tokio::test]
async fn the_last_words_of_a_companion_are_heard() {
    let case = Case::new(b"#!/bin/bash\nexec > >(tee /dev/null)\necho last words\n");
    if !Path::new("/bin/bash").exists() {
        return eprintln!("skipped: no bash on this host");
    }
    assert_eq!(case.end().await, (SUCCESS, "last words\n".into()));
}

#[tokio::test]
async fn a_script_cannot_talk_its_keeper_out_of_it() {
    // Killed, the keeper takes the script along; the mark leads to what got away.
    let case =
        Case::sh(&format!("setsid sh -c 'echo $$ > pid; exec sleep 1000' &{WAIT_FOR_PID}kill -9 $PPID; sleep 1000"));
    assert_eq!(case.end().await.0, Ending::Signaled { signal: 9 });
    assert!(is_dead(&std::fs::read_to_string(case.file("pid")).unwrap()));
    // Orders from the script are orders.
    assert_eq!(Case::sh("kill -HUP $PPID; sleep 1000").end().await.0, Ending::Signaled { signal: 9 });
    assert_eq!(Case::sh("kill -TERM $PPID; sleep 1000").end().await.0, Ending::Signaled { signal: 15 });
    for harmless in ["INT", "USR1", "ALRM", "CHLD", "PIPE", "QUIT"] {
        assert_eq!(Case::sh(&format!("kill -{harmless} $PPID; exit 4")).end().await.0, Ending::Exited { code: 4 });
    }
}

#[tokio::test]
async fn the_keeper_shows_nothing_of_the_worker() {
    let mut case = Case::sh(
        "cat /proc/$PPID/environ /proc/$PPID/maps; head -c 1 /proc/$PPID/mem; ls /proc/$PPID/fd; cat /proc/$PPID/comm",
    );
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can run a script as someone else");
    }
    case.script.run_as = Some((Uid::from_raw(65534), Gid::from_raw(65534)));
    let (_, output) = case.end().await;
    assert_eq!(output.matches("ermission denied").count(), 4, "{output}");
    assert!(output.ends_with("conveyor-keeper\n"), "{output}");
}

#[tokio::test]
async fn a_script_never_runs_as_root_unless_someone_insists() {
    let mut case = Case::sh("id -u; id -g; id -G; echo x > $TMPDIR/x");
    case.script.allow_root = false;
    if geteuid().is_root() {
        assert!(matches!(case.error().await, ScriptError::Root { .. }));
        case.script.run_as = Some((Uid::from_raw(0), Gid::from_raw(65534)));
        assert!(matches!(case.error().await, ScriptError::Root { .. }));
        case.script.run_as = Some((Uid::from_raw(65534), Gid::from_raw(65533)));
        assert_eq!(case.end().await, (SUCCESS, "65534\n65533\n65533\n".into()));
    } else {
        assert_eq!(case.end().await.0, SUCCESS);
        case.script.run_as = Some((geteuid(), Gid::from_raw(65534)));
        assert_eq!(case.end().await.0, SUCCESS);
        case.script.run_as = Some((Uid::from_raw(geteuid().as_raw() + 1), Gid::from_raw(65534)));
        assert!(matches!(case.error().await, ScriptError::CannotBecome { .. }));
    }
}

#[tokio::test]
async fn a_daemon_of_another_user_is_killed_too() {
    let mut case = Case::sh(&format!("{}{WAIT_FOR_PID}", ESCAPES[3]));
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can run a script as someone else");
    }
    case.script.run_as = Some((Uid::from_raw(65534), Gid::from_raw(65534)));
    assert_eq!(case.end().await.0, SUCCESS);
    assert!(is_dead(&std::fs::read_to_string(case.file("pid")).unwrap()));
}

#[tokio::test]
async fn output_beyond_the_limit_is_left_out() {
    let mut case = Case::sh("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo the end");
    case.script.output_limit = 1000;
    let (report, output) = case.run().await;
    let report = report.unwrap();
    assert_eq!((report.output_bytes, report.dropped_bytes), (3_000_009, 2_999_009));
    assert!(report.tail.ends_with(b"xxx\nthe end\n"));
    assert!(output.len() < 1300 && output.contains("limit of 1000 bytes"), "{output}");
}

#[tokio::test]
async fn a_script_that_never_stops_talking_is_ended() {
    let mut case = Case::sh("exec yes");
    case.script.time_limit = Duration::from_millis(200);
    let (report, _) = case.run().await;
    let report = report.unwrap();
    assert!(matches!(report.ending, Ending::TimedOut { .. }));
    assert!(report.tail.len() <= 8 << 10);
}

#[tokio::test]
async fn many_scripts_run_side_by_side() {
    let cases: Vec<Case> = (0..12).map(|i| Case::sh(&format!("sleep 0.05 & echo {i}; exit {i}"))).collect();
    let ends = futures_util::future::join_all(cases.iter().map(Case::end)).await;
    for (i, end) in (0..).zip(ends) {
        assert_eq!(end, (Ending::Exited { code: i }, format!("{i}\n")));
    }
}

/// Where the worker of the next test finds its script.
const DOOMED: &str = "CONVEYOR_TEST_DOOMED_SCRIPT";

#[tokio::test]
#[ignore = "the worker that the next test starts and kills"]
async fn doomed_worker() {
    let Some(text) = std::env::var_os(DOOMED) else { return };
    let mut case = Case::sh("");
    case.script.program = Path::new(&text).join("script");
    case.script.directory = Path::new(&text).join("root");
    let _ = case.run().await;
}

#[test]
fn the_workers_death_is_the_scripts() {
    for escape in ESCAPES {
        let case = Case::sh(&format!("{escape}{WAIT_FOR_PID}echo $$ > self; exec sleep 1000"));
        let mut worker = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "payload::script::tests::doomed_worker"])
            .env(DOOMED, case.dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let pid_in = |name| std::fs::read_to_string(case.file(name)).unwrap_or_default();
        wait_until("the script runs", || pid_in("self").ends_with('\n'));
        assert!(!is_dead(&pid_in("pid")) && !is_dead(&pid_in("self")));
        worker.kill().unwrap();
        worker.wait().unwrap();
        wait_until("the script and all it started are dead", || is_dead(&pid_in("pid")) && is_dead(&pid_in("self")));
    }
}
