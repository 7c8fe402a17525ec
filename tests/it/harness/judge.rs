//! A repository mounted by a client that is not ours: crate `cvmfs`, binary `cvmfs-cli`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Daemon, Origin, Page, until};

/// Files that are larger, in bytes, are published in chunks.
pub(crate) const LARGEST_WHOLE_FILE: u64 = 4 << 20;

/// A mounted repository; unmounted when dropped, also by a panic.
pub(crate) struct Mount {
    client: Daemon,
    directory: PathBuf,
    _proxy: Origin,
    _cache: tempfile::TempDir,
}

impl Mount {
    /// Says what this machine lacks, if it lacks something.
    pub(crate) fn impossible() -> Option<String> {
        let mounter = std::env::var_os("CONVEYOR_TEST_MOUNTER").map(PathBuf::from);
        match mounter {
            None => {
                return Some(
                    "CONVEYOR_TEST_MOUNTER does not name the independent client (scripts/test builds it)".into(),
                );
            }
            Some(path) if !path.is_file() => {
                return Some(format!("there is no independent client at {}", path.display()));
            }
            Some(_) => {}
        }
        match std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") {
            Ok(_) => None,
            Err(error) => Some(format!("/dev/fuse cannot be used: {error}")),
        }
    }

    /// Mounts what a server has at `url` under the repository's name.
    pub(crate) fn new(url: &str, repository: &str) -> Self {
        // The client asks a stratum 0 for what only a stratum 1 has, and each 404 would cost it 24 seconds.
        let proxy = Origin::before(url);
        for file in [".cvmfs_last_snapshot", ".cvmfs_is_snapshotting"] {
            proxy.page(&format!("/cvmfs/{repository}/{file}"), Page::Content(Vec::new()));
        }
        let cache = tempfile::tempdir().unwrap();
        let directory = cache.path().join("mount");
        std::fs::create_dir(&directory).unwrap();
        let mut command = Command::new(std::env::var_os("CONVEYOR_TEST_MOUNTER").unwrap());
        command
            .arg(proxy.url(&format!("/cvmfs/{repository}/")).as_str())
            .arg(&directory)
            .arg(cache.path().join("cache"));
        for variable in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(variable);
        }
        let client = Daemon::start(&mut command);
        let mut mount = Self { client, directory, _proxy: proxy, _cache: cache };
        until("the repository is mounted", || {
            let ended = mount.client.poll();
            assert!(ended.is_none(), "the client ended: {}", mount.client.stderr());
            is_mounted(&mount.directory).then_some(())
        });
        mount
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    /// A difference that new clients show as well, with nothing in their caches.
    ///
    /// The client may read a chunk while a thread of its own is still writing it to the cache: with a cold cache, one
    /// reading of a large file in about ten ends early or in an I/O error.
    pub(crate) fn confirmed(url: &str, repository: &str, look: impl Fn(&Path) -> Option<String>) -> Option<String> {
        let mut shown = None;
        for _ in 0..3 {
            shown = Some(look(Self::new(url, repository).path())?);
        }
        shown
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        unmount(&self.directory);
        self.client.kill9();
    }
}

/// Unmounts what is mounted there, in one way or another.
pub(crate) fn unmount(directory: &Path) {
    let ways: [&[&str]; 3] = [&["fusermount3", "-u"], &["umount"], &["umount", "-l"]];
    for way in ways {
        if !is_mounted(directory) {
            break;
        }
        let _ = Command::new(way[0]).args(&way[1..]).arg(directory).stderr(Stdio::null()).status();
    }
}

pub(crate) fn is_mounted(directory: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(1) == directory.to_str())
}
