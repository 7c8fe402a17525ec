//! Scripts in a view of their own.
#![allow(clippy::unwrap_used)]

use super::tests::{Case, ESCAPES, SUCCESS, WAIT_FOR_PID, is_dead};
use super::*;

const NOBODY: (Uid, Gid) = (Uid::from_raw(65534), Gid::from_raw(65534));

/// A script that may write in `root/lease` and not see `secret`.
fn confined(text: &str) -> Case {
    let mut case = Case::sh(text);
    let path = |name: &str| case.dir.path().join(name);
    for name in ["root/lease", "root/beside", "secret"] {
        std::fs::create_dir(path(name)).unwrap();
        std::fs::set_permissions(path(name), PermissionsExt::from_mode(0o777)).unwrap();
    }
    std::fs::write(path("secret/key"), "the key").unwrap();
    std::fs::write(path("token"), "the token").unwrap();
    std::fs::set_permissions(case.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let (writable, hidden) = (path("root/lease"), vec![path("secret"), path("token")]);
    case.script.confinement = Some(Confinement { writable, hidden, mounts: Vec::new() });
    if geteuid().is_root() {
        case.script.run_as = Some(NOBODY);
        case.script.allow_root = false;
    }
    case
}

/// Says that this host cannot isolate at all.
async fn impossible() -> bool {
    match confined("").run().await.0 {
        Err(error @ ScriptError::Isolation { .. }) => {
            eprintln!("skipped: {error}");
            true
        }
        _ => false,
    }
}

#[tokio::test]
async fn a_script_writes_where_it_is_to_and_nowhere_else() {
    if impossible().await {
        return;
    }
    let case = confined(
        "echo fine > lease/file && echo fine > \"$TMPDIR/file\" && echo fine > /tmp/file && echo fine > /dev/null || exit 1
         for place in beside/x x /var/x /etc/x \"$0\"; do
             (echo x >> $place) 2>&1 && exit 2
         done
         pwd; echo $TMPDIR; exit 0",
    );
    let (ending, output) = case.end().await;
    assert_eq!(ending, SUCCESS, "{output}");
    assert!(output.matches("Read-only file system").count() >= 3, "{output}");
    assert!(output.contains(&case.script.directory.canonicalize().unwrap().display().to_string()), "{output}");
    assert_eq!(std::fs::read(case.file("lease/file")).unwrap(), b"fine\n");
    assert_eq!(std::fs::read(case.script.temporary.join("file")).unwrap(), b"fine\n");
    assert!(!std::path::Path::new("/tmp/file").exists());
}

#[tokio::test]
async fn what_is_hidden_is_not_to_be_seen() {
    if impossible().await {
        return;
    }
    let case = confined("ls -A ../secret; cat ../token; ls /tmp; ls -d /proc/[0-9]*; cat /proc/1/environ");
    let (_, output) = case.end().await;
    assert!(!output.contains("key") && !output.contains("the token"), "{output}");
    assert!(output.contains("/proc/1\n") && !output.contains(&format!("/proc/{}\n", std::process::id())), "{output}");
    assert!(output.contains("ermission denied"), "{output}");
}

#[tokio::test]
async fn a_script_has_no_rights() {
    if impossible().await {
        return;
    }
    let (ending, output) =
        confined("grep -E 'Cap|NoNew|Groups|Uid|Gid' /proc/self/status; ulimit -c; grep processes /proc/self/limits")
            .end()
            .await;
    assert_eq!(ending, SUCCESS, "{output}");
    let sets: Vec<_> = output.lines().filter(|line| line.starts_with("Cap")).collect();
    assert!(sets.len() == 5 && sets.iter().all(|set| set.ends_with("\t0000000000000000")), "{output}");
    assert!(output.contains("NoNewPrivs:\t1") && output.contains("\n0\n") && output.contains(" 4096 "), "{output}");
    if geteuid().is_root() {
        assert!(output.contains("Groups:\t \n") || output.contains("Groups:\t\n"), "{output}");
        assert!(output.contains("Uid:\t65534\t65534\t65534\t65534"), "{output}");
    }
}

#[tokio::test]
async fn ends_are_told_as_without_a_view() {
    if impossible().await {
        return;
    }
    assert_eq!(confined("exit 7").end().await.0, Ending::Exited { code: 7 });
    for signal in [6, 9, 11, 15, 40] {
        assert_eq!(confined(&format!("kill -{signal} $$")).end().await.0, Ending::Signaled { signal });
    }
    // On a busy machine a short limit comes before the script has begun.
    for limit_ms in [300, 3000, 30_000] {
        let mut late = confined("trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.01; done");
        late.script.time_limit = Duration::from_millis(limit_ms);
        let (ending, output) = late.end().await;
        assert!(matches!(ending, Ending::TimedOut { .. }), "{ending} {output}");
        if output.contains("ready\n") {
            assert!(output.ends_with("bye\n"), "{output}");
            break;
        }
        assert!(limit_ms < 30_000, "it never began: {output}");
    }
    let mut deaf = confined("trap '' TERM; echo ready; while :; do sleep 1000; done");
    deaf.script.grace = Duration::from_millis(50);
    let (result, _) = deaf.run_hearing(|_| deaf.cancel.cancel()).await;
    assert_eq!(result.unwrap().ending, Ending::Cancelled);
}

#[tokio::test]
async fn nothing_survives_a_view() {
    if impossible().await {
        return;
    }
    for escape in ESCAPES {
        let case = confined(&format!("cd lease; {escape}{WAIT_FOR_PID}exit 5"));
        // Its number is that in the namespace: the mark tells whether it is gone, see `run_hearing`.
        assert_eq!(case.end().await.0, Ending::Exited { code: 5 }, "{escape}");
    }
    let case = confined(
        "(env -i setsid sh -c 'while :; do echo x >>lease/more; done' &) ; until test -s lease/more; do :; done",
    );
    assert_eq!(case.end().await.0, SUCCESS);
    let size = || std::fs::metadata(case.file("lease/more")).unwrap().len();
    assert_eq!(size(), size());
    assert!(is_dead(&i32::MAX.to_string()));
}

#[tokio::test]
async fn the_keeper_of_a_view_can_be_neither_killed_nor_read() {
    if impossible().await {
        return;
    }
    let case = confined("kill -9 1; cat /proc/1/environ /proc/1/maps; head -c 1 /proc/1/mem; cat /proc/1/comm; exit 4");
    let (ending, output) = case.end().await;
    assert_eq!(ending, Ending::Exited { code: 4 }, "{output}");
    assert!(output.ends_with("conveyor-keeper\n"), "{output}");
    assert_eq!(output.matches("ermission denied").count(), 3, "{output}");
}

/// A temporary file system at `directory/NAME`; unmounted when dropped.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(at: std::path::PathBuf) -> Self {
        std::fs::create_dir(&at).unwrap();
        nix::mount::mount(Some("test"), &at, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>).unwrap();
        std::fs::write(at.join("here"), "").unwrap();
        std::fs::set_permissions(&at, PermissionsExt::from_mode(0o777)).unwrap();
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// Where the next test, as an ordinary user, finds the mounts that it may not make itself.
const REPOSITORIES: &str = "CONVEYOR_TEST_REPOSITORIES";

async fn holds_its_own_mount_only(mounts: std::path::PathBuf, own: std::path::PathBuf) {
    let mut case =
        confined("cat /proc/self/mountinfo; ls . ../; echo x >here; echo x 2>&1 >lease/x; pwd; ls /etc/hostname /bin");
    let _ = std::fs::create_dir(own.join("lease"));
    let _ = std::fs::set_permissions(own.join("lease"), PermissionsExt::from_mode(0o777));
    case.script.directory = own.clone();
    let hidden = vec![case.dir.path().join("secret")];
    case.script.confinement = Some(Confinement { writable: own.join("lease"), hidden, mounts: vec![mounts.clone()] });
    let (ending, output) = case.end().await;
    assert_eq!(ending, SUCCESS, "{output}");
    assert!(!output.contains(&format!("{}/b.example.org", mounts.display())), "{output}");
    assert!(output.contains(&format!(" {} ", own.display())), "{output}");
    assert!(output.contains("Read-only file system") && own.join("lease/x").exists(), "{output}");
}

#[tokio::test]
async fn a_script_holds_no_mount_but_its_own() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can mount what a script must let go of");
    }
    let base = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let mounts = base.path().canonicalize().unwrap().join("repositories");
    std::fs::create_dir(&mounts).unwrap();
    let own = Mounted::new(mounts.join("a.example.org"));
    let _other = Mounted::new(mounts.join("b.example.org"));
    holds_its_own_mount_only(mounts.clone(), own.0.clone()).await;
    // The same without root, which cannot unmount what it was given.
    let program = base.path().join("test");
    // By another process: a child of another test, forked meanwhile, would keep the file open for writing.
    let copied = std::process::Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success());
    let place = base.path().join("tmp");
    std::fs::create_dir(&place).unwrap();
    std::fs::set_permissions(&place, PermissionsExt::from_mode(0o777)).unwrap();
    std::fs::remove_file(own.0.join("lease/x")).unwrap();
    let run = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&program)
        .args(["--exact", "--ignored", "--nocapture", "payload::script::confined_tests::as_an_ordinary_user"])
        .env(REPOSITORIES, &mounts)
        .env("TMPDIR", &place)
        .output();
    let Ok(run) = run else { return eprintln!("skipped: no setpriv on this host") };
    let said = [run.stdout, run.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "what the test before starts as another user"]
async fn as_an_ordinary_user() {
    let Some(mounts) = std::env::var_os(REPOSITORIES).map(std::path::PathBuf::from) else { return };
    if impossible().await {
        return;
    }
    holds_its_own_mount_only(mounts.clone(), mounts.join("a.example.org")).await;
}

#[tokio::test]
async fn what_cannot_be_isolated_is_named_and_does_not_run() {
    if impossible().await {
        return;
    }
    let mut case = confined("echo ran");
    let hidden = case.script.confinement.as_ref().unwrap().writable.join("inside");
    std::fs::create_dir(&hidden).unwrap();
    case.script.confinement.as_mut().unwrap().hidden.push(hidden);
    let (result, output) = case.run().await;
    let error = result.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("must be hidden"), "{error:?}");
    assert_eq!(output, "");
}
