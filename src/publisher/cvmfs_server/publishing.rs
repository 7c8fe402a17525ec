//! Who publishes: `is_publishing.lock` is held then, as its being there says nothing.
//!
//! It is an `flock`, which lasts for as long as any process has the file open that was open when it was taken. The `cvmfs2`
//! that a remount starts inherits it, so that a publish killed between its remount and its end leaves a lock which is held for
//! as long as the repository is mounted, and by nobody who publishes.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::site::Site;

/// The client of CernVM-FS, as the kernel names its processes.
pub(super) const CLIENT: &str = "cvmfs2";
/// Programs that publish. The kernel keeps 15 bytes of a name.
const PUBLISHERS: &[&str] = &["cvmfs_server", "cvmfs_swissknif", "cvmfs_publish", "cvmfs_suid_help"];

/// Who holds the lock of a repository's publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Publishing {
    /// Nobody.
    Nobody,
    /// These processes, or some that this account may not look into.
    Somebody(Vec<String>),
    /// A client that was mounted by a publish which is gone.
    LeftBehind,
}

impl Site {
    /// Who publishes now.
    pub(super) fn publishing(&self) -> io::Result<Publishing> {
        look(&self.node.spool.join("is_publishing.lock"))
    }

    /// Takes away a lock that a killed publish [left behind](Publishing::LeftBehind), as `cvmfs_server` does at a publish's end.
    /// Nobody can have begun a publish since it was seen so: it is still held.
    pub(super) fn forget_publishing(&self) -> io::Result<()> {
        match fs::remove_file(self.node.spool.join("is_publishing.lock")) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

impl std::fmt::Display for Publishing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody publishes"),
            Self::Somebody(who) if who.is_empty() => f.write_str("is_publishing.lock is held"),
            Self::Somebody(who) => write!(f, "is_publishing.lock is held by {}", who.join(", ")),
            Self::LeftBehind => f.write_str(
                "is_publishing.lock is held by the repository's mount, which a publish that was killed has left: remove the file",
            ),
        }
    }
}

fn look(path: &Path) -> io::Result<Publishing> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Publishing::Nobody),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    // Let go of at once: only the answer is wanted.
    let file = match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => return Ok(Publishing::Nobody),
        Err((file, _)) => file,
    };
    let (mut clients, mut others) = (0, Vec::new());
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if pid == std::process::id() {
            continue;
        }
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let name = name.trim_end();
        let holds = match fs::read_dir(entry.path().join("fd")) {
            Ok(open) => open.flatten().any(|open| {
                fs::metadata(open.path()).is_ok_and(|it| (it.dev(), it.ino()) == (metadata.dev(), metadata.ino()))
            }),
            // Another account's: what it is must do.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => name == CLIENT || PUBLISHERS.contains(&name),
            // It has ended.
            Err(_) => false,
        };
        match holds {
            true if name == CLIENT => clients += 1,
            true => others.push(format!("process {pid} ({name})")),
            false => {}
        }
    }
    drop(file);
    Ok(if clients > 0 && others.is_empty() { Publishing::LeftBehind } else { Publishing::Somebody(others) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    /// A process of a name that inherited the lock of a publish which is gone; ends when dropped.
    struct Heir(Child);

    impl Heir {
        fn named(name: &str, path: &Path) -> Self {
            // A link, as a copy could be refused for being written to.
            let program = path.with_file_name(name);
            std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
            let file = File::options().write(true).create(true).truncate(false).open(path).unwrap();
            file.try_lock().unwrap();
            // It inherits it as its standard output.
            Self(Command::new(program).arg("600").stdin(Stdio::null()).stdout(file).spawn().unwrap())
        }
    }

    impl Drop for Heir {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    /// A child of another test may have the file for a moment, until it has become what it is to be.
    fn until(path: &Path, wanted: &Publishing) {
        let began = Instant::now();
        while look(path).unwrap() != *wanted {
            assert!(began.elapsed() < Duration::from_secs(30), "{:?} is not {wanted:?}", look(path));
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_lock_says_something_while_it_is_held_by_more_than_a_client() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("is_publishing.lock");
        assert_eq!(look(&path).unwrap(), Publishing::Nobody);
        let client = Heir::named(CLIENT, &path);
        until(&path, &Publishing::LeftBehind);
        // A publish that has the file open, though it did not get the lock, is to be waited for.
        let program = directory.path().join("cvmfs_server");
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let open = File::open(&path).unwrap();
        let publish = Heir(Command::new(program).arg("600").stdin(open).spawn().unwrap());
        until(&path, &Publishing::Somebody(vec![format!("process {} (cvmfs_server)", publish.0.id())]));
        drop(publish);
        until(&path, &Publishing::LeftBehind);
        drop(client);
        until(&path, &Publishing::Nobody);
        let publish = Heir::named("cvmfs_swissknife", &path);
        until(&path, &Publishing::Somebody(vec![format!("process {} (cvmfs_swissknif)", publish.0.id())]));
    }
}
