#![allow(clippy::unwrap_used)]

use super::*;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        Self { directory }
    }

    fn script(&self, text: &str) -> Script {
        let program = self.directory.path().join("script");
        std::fs::write(&program, text).unwrap();
        let run_as = nix::unistd::geteuid().is_root().then_some((65534, 65534));
        make_executable(&program, run_as).unwrap();
        Script {
            program,
            arguments: vec!["software.example.org".into(), "/a".into(), "x y".into()],
            directory: self.directory.path().to_owned(),
            temporary: self.directory.path().to_owned(),
            environment: vec![("CONVEYOR_JOB_ID".into(), "1".into())],
            run_as,
            time_limit: Duration::from_secs(60),
        }
    }

    async fn run(
        &self,
        script: Script,
        cancelled: impl Future<Output = ()>,
    ) -> (Result<ScriptEnd, ScriptError>, String) {
        let (output, mut pieces) = mpsc::channel::<Bytes>(8);
        let collect = tokio::spawn(async move {
            let mut all = Vec::new();
            while let Some(piece) = pieces.recv().await {
                all.extend_from_slice(&piece);
            }
            String::from_utf8_lossy(&all).into_owned()
        });
        let end = run(script, output, cancelled).await;
        (end, collect.await.unwrap())
    }
}

/// A script's process is gone when nothing with this pid lives, or only a zombie.
fn is_gone(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_directory_and_environment_are_as_promised() {
    let place = Place::new();
    let script = place.script("#!/bin/sh\nprintf '%s|' \"$@\"; pwd; env | sort; cat; umask; exit 7\n");
    let (end, output) = place.run(script, std::future::pending()).await;
    assert_eq!(end.unwrap(), ScriptEnd::Exited(7));
    assert!(output.starts_with("software.example.org|/a|x y|"), "{output}");
    assert!(output.contains("CONVEYOR_JOB_ID=1\n") && output.contains("0022\n"), "{output}");
    let inherited = output.lines().filter(|line| line.starts_with("CARGO")).count();
    assert_eq!(inherited, 0, "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_whose_time_is_over_is_ended_with_its_children() {
    let place = Place::new();
    let mut script = place.script("#!/bin/sh\ntrap '' TERM\n(trap '' TERM; sleep 1000) & echo $!\nwait\nwait\n");
    script.time_limit = Duration::from_millis(300);
    let (end, output) = place.run(script, std::future::pending()).await;
    assert_eq!(end.unwrap(), ScriptEnd::TimedOut);
    assert!(is_gone(output.trim()), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_left_the_session_does_not_survive() {
    let place = Place::new();
    let script = place.script("#!/bin/sh\nsetsid sh -c 'echo $$; exec sleep 1000' &\nsleep 0.3\n");
    let (end, output) = place.run(script, std::future::pending()).await;
    assert_eq!(end.unwrap(), ScriptEnd::Exited(0));
    assert!(is_gone(output.trim()), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_script_ends() {
    let place = Place::new();
    let (end, _) = place.run(place.script("#!/bin/sh\nexec sleep 1000\n"), std::future::ready(())).await;
    assert_eq!(end.unwrap(), ScriptEnd::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_dies_of_a_signal_says_so() {
    let place = Place::new();
    let (end, _) = place.run(place.script("#!/bin/sh\nkill -SEGV $$\n"), std::future::pending()).await;
    assert_eq!(end.unwrap(), ScriptEnd::Signaled(11));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interpreter_that_is_not_here_is_named_as_the_reason() {
    let place = Place::new();
    let (end, _) = place.run(place.script("#!/no/such/interpreter\n"), std::future::pending()).await;
    let error = end.unwrap_err();
    assert!(matches!(error, ScriptError::Start { .. }) && !error.is_transient(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn root_runs_no_payload() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    for run_as in [None, Some((0, 0))] {
        let mut script = place.script("#!/bin/sh\n");
        script.run_as = run_as;
        let (end, _) = place.run(script, std::future::pending()).await;
        assert!(matches!(end, Err(ScriptError::Root { .. })));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_larger_than_a_pipe_arrives_whole() {
    let place = Place::new();
    let (end, output) = place
        .run(place.script("#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' x; echo end >&2\n"), std::future::pending())
        .await;
    assert_eq!(end.unwrap(), ScriptEnd::Exited(0));
    assert_eq!(output.len(), 3_000_004);
}
