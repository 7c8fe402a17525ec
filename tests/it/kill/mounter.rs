//! A repository as an independent client shows it: crate `cvmfs`, binary `cvmfs-cli`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::process::{Child, Command};
use tower_http::services::ServeDir;

use super::home::Home;
use super::life::PATIENCE;
use super::skip;

const POLL: Duration = Duration::from_millis(20);

/// The independent client, where this machine has it.
#[derive(Debug, Clone)]
pub(super) struct Mounter(PathBuf);

/// A mount; the process and the mount go when this is dropped, also by a panic.
struct Mount {
    child: Child,
    directory: PathBuf,
}

impl Mounter {
    /// Finds it, or reports what part of `test` is skipped.
    pub(super) fn find(test: &str) -> Option<Self> {
        let lacking = match std::env::var_os("CONVEYOR_TEST_MOUNTER").map(PathBuf::from) {
            None => "CONVEYOR_TEST_MOUNTER does not name the independent client (scripts/test builds it)".to_owned(),
            Some(path) if !path.is_file() => format!("there is no independent client at {}", path.display()),
            Some(path) => match std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") {
                Ok(_) => return Some(Self(path)),
                Err(error) => format!("/dev/fuse cannot be used: {error}"),
            },
        };
        skip::report("fuse", &format!("{test} (mounts)"), &lacking);
        None
    }

    /// Mounts a repository out of its directory, without Conveyor, and reads one file through the mount.
    pub(super) async fn check(&self, home: &Home, repository: &str, file: &str) -> Result<(), String> {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("mount");
        std::fs::create_dir(&directory).unwrap();
        let (address, server) = serve(&home.repositories()).await;
        let mut command = Command::new(&self.0);
        for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command.arg(format!("http://{address}/{repository}/")).arg(&directory).arg(base.path().join("cache"));
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn();
        let mut mount = Mount { child: child.unwrap(), directory };
        let result = match mount.ready().await {
            Ok(()) => mount.read(file).await,
            Err(error) => Err(error),
        };
        drop(mount);
        server.abort();
        result.map_err(|error| format!("{repository} cannot be used by the independent client: {error}"))
    }
}

impl Mount {
    async fn ready(&mut self) -> Result<(), String> {
        let waiting = async {
            while !is_mounted(&self.directory) {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return Err(format!("it ended with {status}"));
                }
                tokio::time::sleep(POLL).await;
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or(Err("it does not mount".into()))
    }

    async fn read(&self, file: &str) -> Result<(), String> {
        let path = self.directory.join(file);
        let reading =
            tokio::task::spawn_blocking(move || std::fs::read(&path).map_err(|error| format!("{path:?}: {error}")));
        let content = tokio::time::timeout(PATIENCE, reading).await.map_err(|_| "reading takes too long")?.unwrap()?;
        if content.is_empty() { Err(format!("{file} is empty")) } else { Ok(()) }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let ways: [&[&str]; 3] = [&["fusermount3", "-u"], &["umount"], &["umount", "-l"]];
        for way in ways {
            if is_mounted(&self.directory) {
                let _ = std::process::Command::new(way[0])
                    .args(&way[1..])
                    .arg(&self.directory)
                    .stderr(Stdio::null())
                    .status();
            }
        }
        let _ = self.child.start_kill();
    }
}

fn is_mounted(directory: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(1) == directory.to_str())
}

/// Serves the repositories as files. The client asks a stratum 0 for what only a stratum 1 has, and each 404 would cost
/// it 24 seconds: these two are answered.
async fn serve(repositories: &Path) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/{repository}/.cvmfs_last_snapshot", get(async || ""))
        .route("/{repository}/.cvmfs_is_snapshotting", get(async || ""))
        .fallback_service(ServeDir::new(repositories));
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, server)
}
