//! The server, as a process, and publishing to it.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};
use tokio::net::TcpStream;

const TOKEN: &str = "a-secret-of-the-benchmark";

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Verifies nothing: what a signature costs is measured elsewhere.
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (config, token) = (directory.path().join("config.toml"), directory.path().join("token"));
        std::fs::write(&token, TOKEN).expect("a token");
        std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("a mode");
        let text = "[notify]\nverify = \"off\"\nmax_subscribers = 100000\nmax_subscribers_per_address = 100000\n";
        std::fs::write(&config, text).expect("a file");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let child = Command::new(env!("CARGO_BIN_EXE_conveyor"))
            .arg("--config")
            .arg(&config)
            .arg("--token-file")
            .arg(&token)
            .args(["notify", "server", "--listen", &address.to_string(), "--state-dir"])
            .arg(directory.path().join("state"))
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self { address, child, _directory: directory }
    }

    pub(crate) fn publisher(&self) -> Publisher {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Publisher { client, url: format!("http://{}/api/v1/publish", self.address) }
    }

    /// Waits until everything that was sent is read.
    pub(crate) async fn until_subscribed(&self) {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }

    /// Bytes of resident memory.
    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").trim().parse::<usize>().expect("a number") * 1024
    }
}

pub(crate) struct Publisher {
    client: reqwest::Client,
    url: String,
}

impl Publisher {
    pub(crate) async fn publish(&self, repository: &str, revision: u64) {
        let hash = "0".repeat(40);
        let body = format!("C{hash}\nRd41d8cd98f00b204e9800998ecf8427e\nD240\nS{revision}\nN{repository}\nX{hash}\n");
        let digest = hex::encode(Sha1::digest(body.as_bytes()));
        // As long as a signature is.
        let manifest = [body.as_bytes(), b"--\n", digest.as_bytes(), b"\n", &[0; 256]].concat();
        let message = serde_json::json!({
            "version": 1, "timestamp": "now", "type": "activity", "repository": repository,
            "manifest": STANDARD.encode(manifest),
        });
        let request = self.client.post(&self.url).bearer_auth(TOKEN).body(message.to_string());
        let reply = request.send().await.expect("an answer");
        assert!(reply.status().is_success(), "{}", reply.status());
    }
}
