//! Who holds a repository's mounts: a process in another mount namespace has copies of them, and a publish waits for it.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::mountinfo::{self, Mount};

/// A process outside of our mount namespace that holds a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: i32,
    /// Its command's name, some letters of it.
    pub command: String,
    /// Numeric user that it runs as.
    pub uid: u32,
    /// The inode of its mount namespace, as `lsns` shows it, where it may be known.
    pub namespace: Option<u64>,
    /// Where the mount is, as that process sees it.
    pub mount: PathBuf,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({}, uid {}) in another mount namespace", self.pid, self.command, self.uid)
    }
}

/// The processes outside of our mount namespace that hold a mount at or below one of these directories, or elsewhere one
/// of a file system that is mounted there in ours. In the order of their numbers.
///
/// A namespace that is kept without a process, as by a bind mount of `/proc/PID/ns/mnt`, is not found.
pub fn holders(of: &[PathBuf]) -> io::Result<Vec<Holder>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    let here: Vec<Mount<'_>> = mountinfo::mounts(&text).collect();
    let wanted = Wanted::new(&here, of);
    let mut known_ours = HashSet::from([namespace_of("self")]);
    known_ours.remove(&None);
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let namespace = namespace_of(&pid.to_string());
        if namespace.is_some() && known_ours.contains(&namespace) {
            continue;
        }
        // It may have ended; kernel threads and zombies have no mounts.
        let Ok(text) = std::fs::read(format!("/proc/{pid}/mountinfo")) else { continue };
        if let Some(mount) = wanted.held(&text) {
            found.extend(describe(pid, namespace, mount));
        }
    }
    found.sort_by_key(|holder| holder.pid);
    Ok(found)
}

/// Tells whether this process sees the same mounts as the machine's first; `None` where that cannot be known. A publisher
/// that does not would leave mounts behind in a namespace that nobody else sees.
pub fn shares_mounts_with_init() -> io::Result<Option<bool>> {
    if let (Some(ours), Some(first)) = (namespace_of("self"), namespace_of("1")) {
        return Ok(Some(ours == first));
    }
    // Other accounts may not know the namespace, but what is mounted in it. No mount is in two namespaces.
    let ours = std::fs::read("/proc/self/mountinfo")?;
    let Ok(first) = std::fs::read("/proc/1/mountinfo") else { return Ok(None) };
    let ids: HashSet<u64> = mountinfo::mounts(&ours).map(|mount| mount.id).collect();
    Ok(mountinfo::mounts(&first).next().map(|mount| ids.contains(&mount.id)))
}

/// What is looked for in other namespaces.
struct Wanted<'a> {
    places: Vec<&'a [u8]>,
    /// Of file systems that are mounted below the places and nowhere else: a bind mount has the device of its source.
    devices: HashSet<&'a [u8]>,
    ours: HashSet<u64>,
}

impl<'a> Wanted<'a> {
    fn new(here: &[Mount<'a>], of: &'a [PathBuf]) -> Self {
        let places: Vec<&[u8]> = of.iter().map(|path| path.as_os_str().as_bytes()).collect();
        let is_inside = |mount: &&Mount<'a>| is_at(&places, mount.point).is_some();
        let mut devices: HashSet<&[u8]> = here.iter().filter(is_inside).map(|mount| mount.device).collect();
        for elsewhere in here.iter().filter(|mount| !is_inside(mount)) {
            devices.remove(elsewhere.device);
        }
        Self { places, devices, ours: here.iter().map(|mount| mount.id).collect() }
    }

    /// The first mount of another process that is one of those.
    fn held(&self, text: &[u8]) -> Option<PathBuf> {
        mountinfo::mounts(text).filter(|mount| !self.ours.contains(&mount.id)).find_map(|mount| {
            is_at(&self.places, mount.point)
                .or_else(|| self.devices.contains(mount.device).then(|| path_of(mount.point)))
        })
    }
}

/// The mount point as a path, if it is at or below one of the places.
fn is_at(places: &[&[u8]], point: &[u8]) -> Option<PathBuf> {
    let path = path_of(point);
    let inside = |place: &&[u8]| mountinfo::is_within(path.as_os_str().as_bytes(), place);
    places.iter().any(inside).then_some(path)
}

fn path_of(point: &[u8]) -> PathBuf {
    let mut buffer = vec![0; point.len()];
    let path = mountinfo::unescape(point, &mut buffer).unwrap_or(point);
    Path::new(std::ffi::OsStr::from_bytes(path)).to_owned()
}

/// The inode of a process's mount namespace; `None` where this account may not know it.
fn namespace_of(process: &str) -> Option<u64> {
    let link = std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok()?;
    link.to_str()?.strip_prefix("mnt:[")?.strip_suffix(']')?.parse().ok()
}

/// What is known of a process; nothing if it has ended.
fn describe(pid: i32, namespace: Option<u64>, mount: PathBuf) -> Option<Holder> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let uid = field("Uid:")?.split_whitespace().nth(1)?.parse().ok()?;
    Some(Holder { pid, command: field("Name:")?.to_owned(), uid, namespace, mount })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process in a mount namespace of its own that has mounted something; ends when dropped.
    struct Other(Child);

    impl Other {
        /// `None` where this account may make no namespace.
        fn with(script: &str, directory: &Path) -> Option<Self> {
            // A builtin is what it waits in: after `exec` the process would be known by its first name for a moment.
            let script = format!("{script} || exit 1; echo ready; read _");
            let mut command = Command::new("unshare");
            if !nix::unistd::geteuid().is_root() {
                command.args(["--user", "--map-root-user"]);
            }
            command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).arg(directory);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
            let mut line = String::new();
            let read = BufReader::new(child.stdout.take()?).read_line(&mut line);
            let other = Self(child);
            (read.is_ok() && line == "ready\n").then_some(other)
        }
    }

    impl Drop for Other {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_process_that_holds_a_mount_in_another_namespace_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().canonicalize().unwrap().join("a repository");
        std::fs::create_dir(&place).unwrap();
        assert_eq!(holders(std::slice::from_ref(&place)).unwrap(), []);
        let Some(other) = Other::with("mount -t tmpfs x \"$0\"", &place) else {
            return eprintln!("skipped: no mount namespaces for this account");
        };
        let found = holders(std::slice::from_ref(&place)).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        let (holder, pid) = (&found[0], other.0.id());
        assert_eq!((holder.pid, holder.command.as_str(), &holder.mount), (pid as i32, "sh", &place));
        assert_ne!(holder.namespace, namespace_of("self"));
        assert_eq!(holder.to_string(), format!("process {pid} (sh, uid {}) in another mount namespace", holder.uid));
        // Neither a name that begins alike nor a directory beside it.
        assert_eq!(holders(&[directory.path().join("a"), directory.path().join("b")]).unwrap(), []);
        // What is above holds it, too.
        assert_eq!(holders(&[directory.path().canonicalize().unwrap()]).unwrap().len(), 1);
        drop(other);
        assert_eq!(holders(&[place]).unwrap(), []);
    }

    #[test]
    fn a_mount_of_the_same_file_system_elsewhere_is_one_of_it() {
        let here =
            b"1 0 0:50 / /cvmfs/a rw - fuse a rw\n2 0 8:1 / / rw - ext4 x rw\n3 0 8:1 /d /cvmfs/a/d rw - ext4 x rw\n";
        let here: Vec<_> = mountinfo::mounts(here).collect();
        let of = [PathBuf::from("/cvmfs/a")];
        let wanted = Wanted::new(&here, &of);
        assert_eq!(wanted.held(b"7 0 0:50 /apps /elsewhere rw - fuse a rw\n"), Some(PathBuf::from("/elsewhere")));
        assert_eq!(wanted.held(b"8 0 0:51 / /cvmfs/a\\040b rw - fuse b rw\n9 0 8:1 / / rw - ext4 x rw\n"), None);
        assert_eq!(wanted.held(b"1 0 0:50 / /cvmfs/a rw - fuse a rw\n"), None, "that is our own");
    }

    #[test]
    fn our_namespace_is_compared_with_the_first_process() {
        let same = namespace_of("1").map(|first| Some(first) == namespace_of("self"));
        let found = shares_mounts_with_init().unwrap();
        assert!(same.is_none() || found == same, "{found:?} {same:?}");
    }
}
