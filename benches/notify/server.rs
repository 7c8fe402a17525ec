//! The servers, each a process of its own: ours, and the gateway with its service of notifications.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use conveyor::store::Store;
use nix::unistd::{SysconfVar, sysconf};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::repositories::Repositories;

pub(crate) const TOKEN: &str = "a-secret-of-the-benchmark";

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
    directory: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Conveyor's service alone, which verifies what it is sent.
    pub(crate) async fn start(repositories: &Repositories) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (config, token) = (directory.path().join("config.toml"), directory.path().join("token"));
        std::fs::write(&token, TOKEN).unwrap();
        std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let text = format!(
            "[server]\nkeys_dir = {:?}\n[notify]\nrepository_url = \"{}/@fqrn@\"\nmax_subscribers = 100000\nmax_subscribers_per_address = 100000\n",
            repositories.keys(),
            repositories.directory().display(),
        );
        std::fs::write(&config, text).unwrap();
        let address = free_address();
        let mut command = Command::new(env!("CARGO_BIN_EXE_conveyor"));
        command.arg("--config").arg(&config).arg("--token-file").arg(&token);
        command.args(["notify", "server", "--listen", &address.to_string(), "--state-dir"]);
        command.arg(directory.path().join("state"));
        Self::spawn(command, address, directory).await
    }

    /// The gateway, whose repositories need not exist.
    pub(crate) async fn start_gateway(program: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (user, access) = (directory.path().join("user.json"), directory.path().join("repo.json"));
        let (address, pprof) = (free_address(), free_address());
        std::fs::write(&user, "{}").unwrap();
        std::fs::write(&access, json!({ "version": 2, "repos": [], "keys": [] }).to_string()).unwrap();
        let mut command = Command::new(program);
        command.arg("--user_config_file").arg(&user).arg("--access_config_file").arg(&access);
        command.arg("--work_dir").arg(directory.path());
        command.args(["--mock_receiver", "--port", &address.port().to_string()]);
        command.args(["--pprof_port", &pprof.port().to_string(), "--pprof_port_range_max", "65535"]);
        Self::spawn(command, address, directory).await
    }

    async fn spawn(mut command: Command, address: SocketAddr, directory: TempDir) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the server starts");
        let mut server = Self { address, child, directory };
        while TcpStream::connect(address).await.is_err() {
            assert!(server.child.try_wait().unwrap().is_none(), "{command:?} ended");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server
    }

    /// Milliseconds that it has run on a processor: what else the machine does matters little to that.
    pub(crate) fn processor_ms(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Behind the name, which ends with the last parenthesis: in user mode and in the kernel.
        let fields: Vec<_> = text.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        let per_second = sysconf(SysconfVar::CLK_TCK).unwrap().unwrap();
        ticks as f64 * 1e3 / per_second as f64
    }

    /// Kibibytes of resident memory.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Kills ours, and tells how many repositories it has stored this revision of.
    pub(crate) async fn kill_and_count(mut self, revision: u64) -> usize {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let store = Store::open(&self.directory.path().join("state")).unwrap();
        let stored = store.read(|db| db.notifications()).await.unwrap();
        stored.iter().filter(|last| last.revision == revision).count()
    }
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
