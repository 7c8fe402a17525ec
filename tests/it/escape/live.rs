//! A workspace that everybody on the machine sees, as on a publisher of `cvmfs_server`: a real overlay, made by the test, in
//! which the script runs as the owner. Another repository is mounted beside it, whose publish must not wait.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use conveyor::domain::names::{LeasePath, RepositoryName};
use conveyor::payload::script::{self, Confinement, Ending, ScriptRun, processes_of};
use conveyor::publisher::mounts::holders;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::prison::{NOBODY, Warden, directory};
use crate::harness::{Place, copy_apart, missing, until};

/// A writable repository: an overlay over something read-only.
struct Overlay {
    spool: PathBuf,
    at: PathBuf,
}

impl Overlay {
    fn new(base: &Path, name: &str) -> Result<Self, nix::errno::Errno> {
        let spool = directory(base.join("spool").join(name), 0o755);
        let [lower, upper, work] = ["rdonly", "scratch", "work"].map(|name| directory(spool.join(name), 0o755));
        for name in ["apps", "apps/x", "other"] {
            nix::unistd::chown(&directory(lower.join(name), 0o755), Some(NOBODY.into()), Some(NOBODY.into())).unwrap();
        }
        std::fs::write(lower.join("other/file"), "old").unwrap();
        nix::unistd::chown(&lower.join("other/file"), Some(NOBODY.into()), Some(NOBODY.into())).unwrap();
        let at = directory(base.join("cvmfs").join(name), 0o755);
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        mount(Some("overlay"), &at, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
        Ok(Self { spool, at })
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

/// In which directory the test finds what was made for it, where it runs as the owner.
const BASE: &str = "CONVEYOR_TEST_LIVE";

const SCRIPT: &str = "#!/bin/sh
cat /proc/self/mountinfo >apps/x/mounts
echo fine >apps/x/file && id -u >apps/x/uid
for try in 'echo x >other/file' 'rm -rf other' 'chmod 777 other' 'touch other/file' 'mkdir apps/y' 'echo x >beside' \\
    'mount -o remount,bind,rw .' 'mount -o remount,rw .' 'umount .' 'umount -l .' 'ls -A ../../spool | grep .' \\
    'ls ../b.example.org | grep .' 'unshare -Urm sh -c \"mount -o remount,bind,rw .; echo x >other/file\"' \\
    'unshare -Urm sh -c \"umount -l .; ls ../../spool | grep .\"' \\
    'unshare -Urm sh -c \"umount ../../spool; ls ../../spool | grep .\"'; do
    ( eval \"$try\" ) >/dev/null 2>&1 && echo \"escaped: $try\"
    echo tried
done
(env -i setsid sh -c 'exec 5>apps/x/open; exec sleep 1000' >/dev/null 2>&1 &)
(cd apps/x; unshare -Urm setsid sh -c 'mount -t tmpfs x /tmp; exec sleep 1000' >/dev/null 2>&1 &)
echo ready
while ! test -e /proc/1/gone && ! test -e apps/x/go; do sleep 0.02; done
exit 0
";

fn script(base: &Path, run_as: Option<u32>) -> ScriptRun {
    let own = base.join("cvmfs/a.example.org");
    ScriptRun {
        run_id: uuid::Uuid::now_v7(),
        program: base.join("job/script"),
        repository: RepositoryName::new("a.example.org").unwrap(),
        lease_path: LeasePath::new("/apps/x").unwrap(),
        args: Vec::new(),
        directory: own.clone(),
        temporary: base.join("job/tmp"),
        environment: BTreeMap::new(),
        time_limit: Duration::from_secs(120),
        grace: Duration::from_secs(1),
        output_limit: 1 << 20,
        run_as: run_as.map(|uid| (uid.into(), uid.into())),
        allow_root: false,
        confinement: Some(Confinement {
            writable: own.join("apps/x"),
            hidden: vec![base.join("spool"), base.join("job")],
            mounts: vec![base.join("cvmfs"), base.join("spool")],
        }),
    }
}

/// Runs the script; while it is there, the other repository is free, and when it has ended, its own is.
fn stays_in_its_lease(base: &Path, run_as: Option<u32>) {
    let (own, other) = (base.join("cvmfs/a.example.org"), base.join("cvmfs/b.example.org"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (sender, mut receiver) = mpsc::channel::<bytes::Bytes>(16);
    let cancel = CancellationToken::new();
    let script = script(base, run_as);
    let run_id = script.run_id;
    let running = script::run(script, &cancel, sender);
    // Scripts of other tests have copies of all mounts, too.
    let held_by_it = |path: &PathBuf| {
        let its = processes_of(run_id);
        holders(std::slice::from_ref(path)).unwrap().into_iter().filter(|holder| its.contains(&holder.pid)).count()
    };
    let watching = async {
        let mut said = String::new();
        while let Some(chunk) = receiver.recv().await {
            said += &String::from_utf8_lossy(&chunk);
            if said.contains("ready\n") && !own.join("apps/x/go").exists() {
                assert_eq!(held_by_it(&other), 0, "it holds another repository");
                assert!(held_by_it(&own) > 0);
                std::fs::write(own.join("apps/x/go"), "").unwrap();
            }
        }
        said
    };
    let (report, said) = runtime.block_on(async { tokio::join!(running, watching) });
    assert_eq!(report.unwrap().ending, Ending::Exited { code: 0 }, "{said}");
    assert!(!said.contains("escaped"), "{said}");
    assert_eq!(said.matches("tried\n").count(), 15, "{said}");
    assert!(processes_of(run_id).is_empty());
    until("nobody holds it", || holders(&[own.clone(), base.join("spool")]).unwrap().is_empty().then_some(()));
    let read = |name: &str| std::fs::read_to_string(own.join("apps/x").join(name)).unwrap();
    assert_eq!((read("file").as_str(), read("uid").trim()), ("fine\n", NOBODY.to_string().as_str()));
    let mounts = read("mounts");
    assert!(mounts.contains("a.example.org") && !mounts.contains(other.to_str().unwrap()), "{mounts}");
    assert_eq!(std::fs::read_to_string(own.join("other/file")).unwrap(), "old");
}

fn live(warden: Warden) {
    if !nix::unistd::geteuid().is_root() {
        missing("isolation", Some("only root can mount an overlay to try this on".into()));
        return;
    }
    if warden.cannot_be_tried() {
        return;
    }
    let place = Place::below(Path::new("/run"));
    let base = place.path().canonicalize().unwrap();
    let overlays = ["a.example.org", "b.example.org"].map(|name| Overlay::new(&base, name));
    let why = overlays.iter().find_map(|made| made.as_ref().err());
    if missing("isolation", why.map(|error| format!("cannot mount an overlay: {error}"))) {
        return;
    }
    let [own, _other] = overlays.map(Result::unwrap);
    for name in ["job", "job/tmp"] {
        nix::unistd::chown(&directory(base.join(name), 0o755), Some(NOBODY.into()), Some(NOBODY.into())).unwrap();
    }
    std::fs::write(base.join("job/script"), SCRIPT).unwrap();
    nix::unistd::chown(&base.join("job/script"), Some(NOBODY.into()), Some(NOBODY.into())).unwrap();
    match warden {
        Warden::Root => stays_in_its_lease(&base, Some(NOBODY)),
        Warden::Ordinary => {
            let program = base.join("test");
            copy_apart(&std::env::current_exe().unwrap(), &program);
            let run = Command::new("setpriv")
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .arg(&program)
                .args(["--exact", "--ignored", "--nocapture", "escape::live::as_the_owner"])
                .env(BASE, &base)
                .output()
                .unwrap();
            let said = [run.stdout, run.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
            assert!(run.status.success() && said.contains("1 passed"), "{said}");
        }
    }
    // Only what is in the lease was written, and nothing keeps it: neither a file that was left open nor a directory.
    let written: Vec<_> = walkdir::WalkDir::new(own.spool.join("scratch"))
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.path().to_owned())
        .collect();
    assert!(written.iter().all(|path| path.starts_with(own.spool.join("scratch/apps/x"))), "{written:?}");
    // What was just read, a child that another test has forked has open until its exec.
    until("nothing keeps it", || umount2(&own.at, MntFlags::empty()).ok());
}

#[test]
fn a_script_in_a_live_repository_of_roots_worker_stays_in_its_lease() {
    live(Warden::Root);
}

#[test]
fn a_script_in_a_live_repository_of_its_owners_worker_stays_in_its_lease() {
    live(Warden::Ordinary);
}

#[test]
#[ignore = "what the test before starts as the owner"]
fn as_the_owner() {
    let Some(base) = std::env::var_os(BASE).map(PathBuf::from) else { return };
    stays_in_its_lease(&base, None);
}
