//! `cvmfs2` and `cvmfs_swissknife notify` as processes that end with the test.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::harness::{Daemon, Place, Served, is_mounted, unmount, until};
use crate::site::find;

fn cvmfs2() -> Option<PathBuf> {
    find("CONVEYOR_TEST_CVMFS2", "cvmfs2")
}

fn swissknife() -> Option<PathBuf> {
    find("CONVEYOR_TEST_SWISSKNIFE", "cvmfs_swissknife")
}

/// What this machine lacks for them.
pub(super) fn impossible() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("the real cvmfs2 and cvmfs_swissknife are tested as root".into());
    }
    if cvmfs2().is_none() || swissknife().is_none() {
        return Some(
            "no cvmfs2 and cvmfs_swissknife are installed (CONVEYOR_TEST_CVMFS2, CONVEYOR_TEST_SWISSKNIFE)".into(),
        );
    }
    if !Path::new("/etc/cvmfs").is_dir() {
        return Some("there is no /etc/cvmfs, in whose place cvmfs_swissknife is given keys".into());
    }
    let fuse = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    fuse.err().map(|error| format!("/dev/fuse cannot be used: {error}"))
}

/// Both, for one repository and one service of notifications.
pub(super) struct Tools {
    repository: String,
    url: String,
    key: PathBuf,
    api: String,
    /// What `cvmfs_swissknife` has in the place of `/etc/cvmfs`.
    etc: Place,
}

impl Tools {
    pub(super) fn new(repository: &str, served: &Served, keys: &Path, service: &str) -> Self {
        let etc = Place::new();
        let url = format!("{}/cvmfs/{repository}", served.url());
        let key = keys.join(format!("{repository}.pub"));
        let settings = etc.path().join("repositories.d").join(repository);
        std::fs::create_dir_all(&settings).unwrap();
        std::fs::write(settings.join("client.conf"), format!("CVMFS_SERVER_URL={url}\n")).unwrap();
        std::fs::create_dir(etc.path().join("keys")).unwrap();
        std::fs::copy(&key, etc.path().join("keys").join(key.file_name().unwrap())).unwrap();
        Self { repository: repository.into(), url, key, api: format!("http://{service}/api/v1"), etc }
    }

    /// Mounts the repository.
    pub(super) fn mount(&self) -> Mounted {
        let place = Place::new();
        let path = |name: &str| place.path().join(name);
        for directory in ["mount", "cache", "run"] {
            std::fs::create_dir(path(directory)).unwrap();
        }
        std::fs::write(path("log"), "").unwrap();
        let settings = [
            format!("CVMFS_SERVER_URL={}", self.url),
            format!("CVMFS_NOTIFICATION_SERVER={}", self.api),
            format!("CVMFS_PUBLIC_KEY={}", self.key.display()),
            format!("CVMFS_CACHE_BASE={}", path("cache").display()),
            format!("CVMFS_RELOAD_SOCKETS={}", path("run").display()),
            format!("CVMFS_USYSLOG={}", path("log").display()),
        ];
        let more = "CVMFS_HTTP_PROXY=DIRECT\nCVMFS_SHARED_CACHE=no\nCVMFS_QUOTA_LIMIT=4000\nCVMFS_CLAIM_OWNERSHIP=no\n\
                    CVMFS_CHECK_PERMISSIONS=no\nCVMFS_NFILES=512\nCVMFS_USE_GEOAPI=no\nCVMFS_SEND_INFO_HEADER=no\n\
                    CVMFS_SYSLOG_LEVEL=0\n";
        std::fs::write(path("config"), settings.join("\n") + "\n" + more).unwrap();
        let options =
            format!("config={},simple_options_parsing,disable_watchdog,fsname=conveyor-test", path("config").display());
        let mut command = Command::new(cvmfs2().unwrap());
        without_proxy(command.args(["-f", "-o", &options, &self.repository]).arg(path("mount")));
        let mut mounted = Mounted { process: Daemon::start(&mut command), place };
        until("the repository is mounted", || {
            assert!(mounted.process.poll().is_none(), "{}{}", mounted.process.stdout(), mounted.log());
            is_mounted(&mounted.directory()).then_some(())
        });
        until("the client subscribes", || mounted.log().contains("Entering subscription loop").then_some(()));
        mounted
    }

    /// `notify -s -c`: is told of each revision.
    pub(super) fn subscribe(&self) -> Subscriber {
        Subscriber(self.notify(&["-s", "-c", "-u", &self.api, "-t", &self.repository]))
    }

    /// `notify -s`: ends with the first revision that is newer.
    pub(super) fn subscribe_from(&self, revision: u64) -> Subscriber {
        Subscriber(self.notify(&["-s", "-m", &revision.to_string(), "-u", &self.api, "-t", &self.repository]))
    }

    /// `notify -p`: tells the service what is published now.
    pub(super) fn publish(&self) -> Daemon {
        self.notify(&["-p", "-u", &self.api, "-r", &self.url])
    }

    fn notify(&self, arguments: &[&str]) -> Daemon {
        let mut command = Command::new("unshare");
        let within = "mount --bind \"$0\" /etc/cvmfs && exec \"$@\"";
        command.args(["--mount", "--propagation", "private", "sh", "-c", within]).arg(self.etc.path());
        Daemon::start(without_proxy(command.arg(swissknife().unwrap()).arg("notify").args(arguments)))
    }
}

fn without_proxy(command: &mut Command) -> &mut Command {
    for variable in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(variable);
    }
    command
}

/// A mounted repository; unmounted when dropped, also by a panic.
pub(super) struct Mounted {
    process: Daemon,
    place: Place,
}

impl Mounted {
    fn directory(&self) -> PathBuf {
        self.place.path().join("mount")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.place.path().join("log")).unwrap_or_default()
    }

    /// Waits until it was told of a revision and shows it. It looks when it is told of anything, so it may show one before.
    #[track_caller]
    pub(super) fn shows(&self, revision: u64) {
        let told = format!("is now at revision {revision},");
        until(&format!("the client is told of revision {revision}"), || self.log().contains(&told).then_some(()));
        until(&format!("the client shows revision {revision}"), || {
            let shown = xattr::get(self.directory(), "user.revision").unwrap()?;
            (shown == revision.to_string().as_bytes()).then_some(())
        });
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what the client said ---\n{}", self.log());
        }
        unmount(&self.directory());
        self.process.kill9();
    }
}

/// `cvmfs_swissknife notify -s`.
pub(super) struct Subscriber(Daemon);

impl Subscriber {
    #[track_caller]
    pub(super) fn is_told(&mut self, revision: u64) {
        let line = format!("is now at revision {revision}.");
        self.0.said(&line, |stdout, stderr| (stdout.contains(&line) || stderr.contains(&line)).then_some(()));
    }

    pub(super) fn ended(&mut self) -> ExitStatus {
        self.0.wait()
    }
}
