//! The real `cvmfs_server`, `cvmfs_gateway` and `cvmfs_receiver`, where they are installed.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Setup;
use super::gateway::KEY;
use crate::harness::{Daemon, Port, until};

/// Where a program is: what a variable names, or on the path.
pub(crate) fn find(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(PathBuf::from(path)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())
}

fn server() -> Option<PathBuf> {
    find("CONVEYOR_TEST_CVMFS_SERVER", "cvmfs_server")
}

fn gateway() -> Option<PathBuf> {
    find("CONVEYOR_TEST_GATEWAY", "cvmfs_gateway")
}

fn receiver() -> Option<PathBuf> {
    find("CONVEYOR_TEST_RECEIVER", "cvmfs_receiver")
}

pub(super) fn impossible(setup: Setup) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("the real cvmfs_server is tested as root".into());
    }
    if server().is_none() {
        return Some("no cvmfs_server is installed (CONVEYOR_TEST_CVMFS_SERVER)".into());
    }
    if setup.gateway && (gateway().is_none() || receiver().is_none()) {
        return Some("no cvmfs_gateway and cvmfs_receiver (CONVEYOR_TEST_GATEWAY, CONVEYOR_TEST_RECEIVER)".into());
    }
    None
}

pub(super) fn command() -> PathBuf {
    server().expect("cvmfs_server is installed")
}

/// Makes a local repository one behind the gateway, with publisher and gateway on one host, as upstream's own tests do.
pub(super) fn share_host(name: &str, storage: &Path, spool: &Path) {
    let file = Path::new("/etc/cvmfs/repositories.d").join(name).join("server.conf");
    let text = fs::read_to_string(&file).unwrap();
    let upstream = format!("TEST_CVMFS_RECEIVER_UPSTREAM_STORAGE=local,{0}/data/txn,{0}\n", storage.display());
    fs::write(file, text + &upstream).unwrap();
    // A receiver that was built without assertions does not make it.
    fs::create_dir_all(storage.join("data/txn/receiver")).unwrap();
    fs::write(spool.join("client.local"), "").unwrap();
}

/// A gateway for one repository.
pub(super) struct Gateway {
    port: Port,
    directory: PathBuf,
    lease_time: Duration,
    process: Option<Daemon>,
}

impl Gateway {
    pub(super) fn start(name: &str, directory: &Path) -> Self {
        let directory = directory.join("gateway");
        fs::create_dir_all(directory.join("work")).unwrap();
        let access = serde_json::json!({
            "version": 2,
            "repos": [{"domain": name, "keys": [{"id": KEY.0, "path": "/"}]}],
            "keys": [{"type": "plain_text", "id": KEY.0, "secret": KEY.1}],
        });
        fs::write(directory.join("repo.json"), access.to_string()).unwrap();
        let mut gateway =
            Self { port: Port::reserve(), directory, lease_time: Duration::from_secs(7200), process: None };
        gateway.up();
        gateway
    }

    pub(super) fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    pub(super) fn down(&mut self) {
        self.process = None;
    }

    pub(super) fn up(&mut self) {
        let settings = serde_json::json!({
            "max_lease_time": self.lease_time.as_secs(),
            "port": self.port.number(),
            "num_receivers": 1,
            "receiver_path": receiver().unwrap(),
            "log_level": "info",
            "work_dir": self.directory.join("work"),
        });
        let file = self.directory.join("user.json");
        fs::write(&file, settings.to_string()).unwrap();
        let mut command = Command::new(gateway().unwrap());
        command.arg("--user_config_file").arg(file);
        command.arg("--access_config_file").arg(self.directory.join("repo.json"));
        self.process = Some(Daemon::start(&mut command));
        until("the gateway listens", || TcpStream::connect(self.port.address()).ok());
    }

    pub(super) fn set_lease_time(&mut self, time: Duration) {
        self.down();
        self.lease_time = time;
        self.up();
    }
}

/// Whether a gateway's receiver runs.
pub(super) fn has_receiver(gateway: u32) -> bool {
    let parent = format!("PPid:\t{gateway}\n");
    processes().any(|process| {
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        status.contains(&parent) && status.starts_with("Name:\tcvmfs_receiver\n")
    })
}

/// Whether a publish of a repository has come to its main part.
pub(super) fn is_synchronizing(name: &str) -> bool {
    processes().any(|process| {
        let words = fs::read(process.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        words.starts_with("cvmfs_swissknife") && words.contains(" sync ") && words.contains(name)
    })
}

fn processes() -> impl Iterator<Item = PathBuf> {
    fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path())
}
