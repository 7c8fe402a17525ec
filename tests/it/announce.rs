//! What is published is announced: by jobs, by a watcher, and to whoever comes back.

use std::path::{Path, PathBuf};

use conveyor::cvmfs::keys::NewKeys;
use conveyor::cvmfs::stratum0::{CreateOptions, NewTag, Stratum0};
use nix::sys::signal::Signal;

use crate::harness::{Daemon, Dev, Program, REPOSITORY, Served, bare, job, port_of, until};

/// A repository that nobody of ours publishes.
pub(crate) struct Foreign {
    base: tempfile::TempDir,
    stratum0: Stratum0,
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

impl Foreign {
    pub(crate) fn new() -> Self {
        let base = tempfile::Builder::new().prefix("conveyor-it-").tempdir().unwrap();
        let (root, keys) = (base.path().join("root"), base.path().join("keys"));
        NewKeys::generate(REPOSITORY, now()).unwrap().store(&keys, REPOSITORY).unwrap();
        // Nobody looks by himself while a test runs.
        let options = CreateOptions { ttl: 86_400, ..CreateOptions::default() };
        let stratum0 = Stratum0::create(root.join(REPOSITORY), REPOSITORY, keys, &options, now()).unwrap();
        Self { base, stratum0 }
    }

    /// Makes a revision.
    pub(crate) fn publish(&self) -> u64 {
        let draft = self.stratum0.begin(self.stratum0.lock().unwrap().unwrap(), now()).unwrap();
        let tag = format!("t{}", draft.base().manifest().revision);
        draft.commit(Some(NewTag { name: &tag, description: "" }), now(), &|_| {}).unwrap().revision
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.base.path().join("root")
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.base.path().join("keys")
    }

    pub(crate) fn manifest(&self) -> Vec<u8> {
        std::fs::read(self.stratum0.directory().join(".cvmfspublished")).unwrap()
    }

    pub(crate) fn notify_table(&self) -> String {
        let (keys, pattern) = (self.base.path().join("keys"), self.root().join("@fqrn@"));
        format!("[server]\nkeys_dir = {keys:?}\n[notify]\nopen_publish = true\nrepository_url = {pattern:?}\n")
    }
}

/// `conveyor notify server`.
pub(crate) struct Notifier {
    process: Daemon,
    base: tempfile::TempDir,
    address: String,
}

impl Notifier {
    /// With further settings, which may need a directory.
    pub(crate) fn start(of: &Foreign, more: impl FnOnce(&Path) -> String) -> Self {
        let base = tempfile::Builder::new().prefix("conveyor-it-").tempdir().unwrap();
        let text = format!("{}{}", of.notify_table(), more(base.path()));
        std::fs::write(base.path().join("server.toml"), text).unwrap();
        std::fs::write(base.path().join("client.toml"), "").unwrap();
        let (process, address) = Self::launch(base.path(), "127.0.0.1:0", None);
        Self { process, base, address }
    }

    fn launch(base: &Path, listen: &str, dies_at: Option<&str>) -> (Daemon, String) {
        let mut command = bare(base);
        command.arg("-c").arg(base.join("server.toml")).args(["notify", "server", "--listen", listen, "--state-dir"]);
        command.arg(base.join("state")).envs(dies_at.map(|point| ("CONVEYOR_CRASH_AT", point)));
        let mut process = Daemon::start(&mut command);
        let address = process.said("the service of notifications is ready", |_, stderr| {
            let (_, rest) = stderr.split_once("notifications at http://")?;
            Some(rest.split_once('\n')?.0.trim().to_owned())
        });
        (process, address)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        port_of(&self.address)
    }

    pub(crate) fn stop(&mut self) {
        assert!(self.process.terminate().success(), "{}", self.process.stderr());
    }

    pub(crate) fn kill9(&mut self) {
        self.process.kill9();
    }

    pub(crate) fn send(&mut self, signal: Signal) {
        self.process.send(signal);
    }

    pub(crate) fn start_again(&mut self, dies_at: Option<&str>) {
        (self.process, _) = Self::launch(self.base.path(), &self.address, dies_at);
    }

    pub(crate) fn died(&mut self) {
        self.process.wait();
    }

    pub(crate) fn said(&self) -> String {
        self.process.stderr()
    }

    pub(crate) fn program(&self) -> Program {
        Program::new(&self.base.path().join("client.toml"), self.base.path())
    }

    /// Waits until a new subscriber is told this revision.
    #[track_caller]
    pub(crate) fn tells(&self, revision: u64) {
        let (url, from) = (self.url(), revision.to_string());
        let subscribe = [
            "--url",
            &url,
            "notify",
            "subscribe",
            REPOSITORY,
            "--min-revision",
            &from,
            "--count",
            "1",
            "--output",
            "json",
        ];
        let mut told = Daemon::start(&mut self.program().command(&subscribe));
        until(&format!("revision {revision} is told"), || told.poll());
        let line: serde_json::Value = serde_json::from_str(told.stdout().trim()).unwrap_or_else(|error| {
            panic!("{error}: {}\n{}\n{}", told.stdout(), told.stderr(), self.said());
        });
        assert_eq!((&line["repository"], &line["revision"]), (&REPOSITORY.into(), &revision.into()), "{}", self.said());
        assert_eq!(line["root_hash"].as_str().map(str::len), Some(40));
    }

    pub(crate) fn publish(&self, repository: &Path) {
        let mut publishing = self.publishing(repository);
        assert!(publishing.wait().success(), "{}", publishing.stderr());
    }

    /// Begins to publish, and tries for a while.
    pub(crate) fn publishing(&self, repository: &Path) -> Daemon {
        let url = self.url();
        Daemon::start(&mut self.program().command(&["--url", &url, "notify", "publish", repository.to_str().unwrap()]))
    }
}

#[test]
fn a_directory_and_a_page_are_watched_and_their_revisions_announced() {
    let foreign = Foreign::new();
    let served = Served::new(&foreign.root());
    let path = foreign.root().join(REPOSITORY);
    let by_path =
        Notifier::start(&foreign, |_| format!("[repositories.\"{REPOSITORY}\"]\npath = {path:?}\nwatch_s = 3600\n"));
    let page = format!("{}/cvmfs/{REPOSITORY}", served.url());
    let by_url =
        Notifier::start(&foreign, |_| format!("[repositories.\"{REPOSITORY}\"]\nurl = {page:?}\nwatch_s = 1\n"));
    for _ in 0..2 {
        let revision = foreign.publish();
        by_path.tells(revision);
        by_url.tells(revision);
    }
}

#[test]
fn a_program_is_run_for_each_revision_without_a_shell() {
    let foreign = Foreign::new();
    let service = Notifier::start(&foreign, |_| String::new());
    let revision = foreign.publish();
    service.publish(&foreign.root().join(REPOSITORY));
    let (program, out) = (foreign.root().join("tell it; true"), foreign.root().join("out"));
    let script = format!(
        "#!/bin/sh\necho \"$CONVEYOR_REPOSITORY $CONVEYOR_REVISION $CONVEYOR_ROOT_HASH $#\" >>{}\nexit 3\n",
        out.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let run = service.program().good(&[
        "--url",
        &service.url(),
        "notify",
        "subscribe",
        REPOSITORY,
        "--count",
        "1",
        "--output",
        "json",
        "--exec",
        program.to_str().unwrap(),
    ]);
    let told = run.last();
    let expected = format!("{REPOSITORY} {revision} {} 0\n", told["root_hash"].as_str().unwrap());
    assert_eq!(std::fs::read_to_string(out).unwrap(), expected);
    assert!(run.stderr.contains("waiting for revisions of test.example.org"), "{}", run.stderr);
    assert!(run.stderr.contains("ended with exit status: 3"), "{}", run.stderr);
}

#[cfg(feature = "crash-points")]
#[test]
fn a_publish_is_announced_also_where_the_server_dies_before_or_after_it_could_tell() {
    for point in ["worker.published", "outcome.after", "announce.before", "announce.told"] {
        let mut dev = Dev::start_dying_at(point);
        let submitted = job(REPOSITORY, "/a", dev.script("mkdir -p a && echo x >a/x"));
        // It may die before it answers, and does not care who has gone.
        let id = dev.submit(submitted);
        dev.died();
        dev.start_again();
        dev.ended(id);
        let revision = dev.reader().manifest().revision;
        let run = dev.program().good(&["notify", "subscribe", REPOSITORY, "--count", "1", "--output", "json"]);
        assert_eq!(run.last()["revision"], revision, "{point}: {}", dev.said());
    }
}
